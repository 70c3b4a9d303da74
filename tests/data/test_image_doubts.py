"""Doubts about images while cases are loaded: logged once a kind or for each case, and outliers clipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brats3d.data.image_doubts import ImageDoubts

IMAGES = ["t1", "t1ce", "t2"]


def case(number: int, background: float = 0.0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a loaded case of three images of noise, and its datalist item."""
    rng = np.random.default_rng(number)
    image = np.full((3, 20, 20, 20), background, np.float32)
    image[:, 4:16, 4:16, 4:16] = rng.normal(500, 50, (3, 12, 12, 12))
    case_id = f"Case_{number}"
    paths = [str(Path(case_id, f"{case_id}_{name}.nii.gz")) for name in IMAGES]
    return {"image": torch.from_numpy(image)}, {"image": paths, "case_id": case_id}


def messages(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelname == "WARNING"]


def test_one_line_tells_a_kind_of_doubt_its_first_case_and_how_many_follow(log) -> None:
    doubts = ImageDoubts()
    for number in range(4):
        doubts.check(*case(number, background=7 if number else 0))
    doubts.log()
    (message,) = messages(log)
    assert message.startswith("Case_1: Case_1_t1.nii.gz, Case_1_t1ce.nii.gz, Case_1_t2.nii.gz: ")
    assert "and 2 more cases" in message
    doubts.check(*case(5, background=7))
    doubts.log()
    assert messages(log) == [message]


def test_every_case_is_logged_if_asked_for(log) -> None:
    doubts = ImageDoubts(log_each=True)
    for number in range(3):
        doubts.check(*case(number, background=7))
        doubts.log()
    assert [message.split(":")[0] for message in messages(log)] == ["Case_0", "Case_1", "Case_2"]


def test_outliers_are_clipped_in_the_loaded_image_and_nothing_else_changes(log) -> None:
    doubts = ImageDoubts()
    loaded, item = case(0)
    sound = loaded["image"].clone()
    doubts.check(loaded, item)
    assert torch.equal(loaded["image"], sound)
    loaded["image"][1, 10, 10, 10] = 1_000_000
    doubts.check(loaded, item)
    assert 2000 < float(loaded["image"][1].max()) < 5000
    assert torch.equal(loaded["image"][[0, 2]], sound[[0, 2]])
    loaded["image"][1, 10, 10, 10] = -1_000_000
    doubts.check(loaded, item)
    assert -5000 < float(loaded["image"][1].min()) < -2000
    doubts.log()
    (message,) = messages(log)
    assert message.startswith("Case_0: Case_0_t1ce.nii.gz: ")


@pytest.mark.parametrize("copied", [True, False])
def test_et_is_doubtful_without_a_t1ce_of_its_own(log, copied: bool) -> None:
    doubts = ImageDoubts()
    loaded, item = case(0)
    loaded["image"][1] = loaded["image"][0] if copied else 0
    doubts.check(loaded, item)
    doubts.log()
    (message,) = messages(log)
    assert "without t1ce" in message


def test_images_with_nan_are_left_to_other_checks(log) -> None:
    loaded, item = case(0, background=7)
    loaded["image"][0, 0, 0, 0] = torch.nan
    doubts = ImageDoubts()
    doubts.check(loaded, item)
    doubts.log()
    assert messages(log) == []
