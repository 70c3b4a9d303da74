"""The file of a prepared case: exact values, any damage noticed, no pickle."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from brats3d.data.cache_format import HEADER, pack_case, unpack_case


def prepared_case() -> dict[str, Any]:
    """One value of each kind that a deterministic pipeline can leave."""
    image = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(5, 4, 3, 2).permute(3, 2, 1, 0)
    meta = {
        "affine": torch.diag(torch.tensor([-1.0, 1, 2, 1], dtype=torch.float64)),
        "filename_or_obj": "a_t1.nii.gz",
        "pixdim": np.array([1, 2], np.float32),
        "db_name": np.array(b"", "S10"),
        "scl_slope": np.array(np.nan, np.float32),
        "original_channel_dim": float("nan"),
    }
    return {
        "image": MetaTensor(image, meta=meta),
        "label": torch.tensor([[0, 1], [2, 4]], dtype=torch.uint8),
        "half": torch.tensor(1.5, dtype=torch.bfloat16),
        "empty": torch.empty(0, 3),
        "start": np.array([1, 2, 3]),
        "scale": np.float64(0.1),
        "case_id": "a",
        "more": {"pair": (1, None), "list": [True, 2.5]},
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a prepared case."""
    path = tmp_path / "a.case"
    path.write_bytes(b"".join(pack_case(path.name, prepared_case())))
    return path


def test_values_are_read_exactly_as_they_were_written(path):
    expected, result = prepared_case(), unpack_case(path)
    assert list(result) == list(expected)
    for key in ("image", "label", "half", "empty"):
        assert type(result[key]) is type(expected[key]) and result[key].dtype == expected[key].dtype
        assert torch.equal(result[key], expected[key]) and result[key].stride() == expected[key].stride()
    assert result["start"].dtype == np.int64 and result["start"].tolist() == [1, 2, 3]
    assert type(result["scale"]) is np.float64 and result["scale"] == 0.1
    assert result["more"] == expected["more"]
    assert result["image"].applied_operations == []
    meta = result["image"].meta
    assert list(meta) == list(expected["image"].meta)
    for key, value in expected["image"].meta.items():
        np.testing.assert_array_equal(meta[key], value)
        assert type(meta[key]) is type(value) or key == "space"


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, np.array([None]), torch.ones(1, requires_grad=True), {1: 2}, torch.eye(2).to_sparse()],
    ids=type,
)
def test_a_value_that_cannot_be_stored_exactly_is_refused(value):
    with pytest.raises((ValueError, RuntimeError)):
        pack_case("a.case", {"image": value})


@pytest.mark.parametrize("place", np.linspace(0, 1, 41))
def test_one_flipped_bit_anywhere_is_noticed(path, place):
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    path.write_bytes(content)
    with pytest.raises((ValueError, RuntimeError)):
        unpack_case(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:10],
        lambda content: content[:40],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: HEADER % (0, 2**32 - 1) + content[len(HEADER % (0, 0)) :],
        lambda content: pickle.dumps({"image": 1}),
        lambda content: b"\0" * len(content),
    ],
    ids=["empty", "header cut", "outline cut", "cut off", "too long", "huge outline", "pickle", "zeros"],
)
def test_a_file_that_is_not_whole_is_refused(path, damage: Callable[[bytes], bytes]):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises((ValueError, RuntimeError)):
        unpack_case(path)


def test_a_renamed_file_is_refused(path):
    with pytest.raises(ValueError, match="checksum"):
        unpack_case(path.rename(path.with_name("b.case")))


def test_the_outline_is_plain_json(path):
    content = path.read_bytes()
    start = len(HEADER % (0, 0))
    size = int(content[start - 9 : start], 16)
    assert json.loads(content[start : start + size])["dict"]["case_id"] == "a"
    assert os.linesep.encode() in content[:start]
