"""Every reader either reads a damaged file or refuses it with one of our errors, within bounded memory.

The examples are the same in every run. To search longer, raise :data:`EXAMPLES` and set ``derandomize`` to False.
"""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from brats3d.cases.load import load_fold
from brats3d.cases.name_mapping import read_name_mappings
from brats3d.cases.text import natural_key
from brats3d.convert import convert_dataset
from brats3d.convert.decathlon import DATASET_JSON, find_task_cases
from brats3d.convert.kaggle_h5 import find_volumes, write_slices
from brats3d.errors import ExplainedError
from brats3d.evaluation.comparison import compare_scores
from brats3d.evaluation.folder_scores import score_folders
from brats3d.evaluation.score_files import read_scores
from brats3d.files import read_header, read_volume
from brats3d.networks.checkpoint_card import read_card
from brats3d.networks.checkpoint_file import read_checkpoint
from brats3d.report.failed_regions import find_failed_regions
from brats3d.report.run_results import read_run

pytestmark = pytest.mark.slow

EXAMPLES = 300
"""Examples per reader. All readers together take about a minute."""

MEMORY_BYTES = 256 << 20
"""Limit of the memory for reading a file of a few kB."""

OUR_ERRORS = (ExplainedError, OSError)

fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


NUMBERS = st.sampled_from([b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\xff\x7f"])


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, float, bytes, float]]:
    """Draw up to six changes: action, position as a fraction of the length, new bytes, length as a fraction."""
    one = st.tuples(
        st.sampled_from(["set", "set", "set", "cut", "insert", "remove", "repeat"]),
        st.floats(0, 1, exclude_max=True),
        NUMBERS | st.binary(min_size=1, max_size=8),
        st.floats(0, 0.1),
    )
    return draw(st.lists(one, min_size=1, max_size=6))


def apply(content: bytes, changes: Sequence[tuple[str, float, bytes, float]], within: int | None = None) -> bytes:
    """Return the damaged content. With ``within``, only that many bytes at the beginning are damaged."""
    data = bytearray(content)
    for action, position, new, length in changes:
        at, count = int(position * min(len(data), within or len(data))), int(length * len(data)) + 1
        if action == "set":
            data[at : at + len(new)] = new
        elif action == "cut":
            del data[max(at, 1) :]
        elif action == "insert":
            data[at:at] = new
        elif action == "remove":
            del data[at : at + count]
        else:
            data[at:at] = data[at : at + count]
    return bytes(data)


ODD_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 9)
    | st.sampled_from([2**63, 10**400, float("nan"), float("inf"), -1.5, "", "a/b", "..", "\0", "\ud800", "9" * 5000])
    | st.text(max_size=6)
    | st.lists(st.integers(0, 3), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers(0, 3), max_size=2)
)


@st.composite
def altered(draw: st.DrawFn, content: Any) -> Any:
    """Draw JSON content in which one to three values are replaced or removed."""
    content = json.loads(json.dumps(content))
    for _ in range(draw(st.integers(1, 3))):
        at = content
        while isinstance(at, dict | list) and at:
            key = draw(st.sampled_from(sorted(at))) if isinstance(at, dict) else draw(st.integers(0, len(at) - 1))
            if draw(st.integers(0, 2)) == 0 or not isinstance(at[key], dict | list) or not at[key]:
                if draw(st.integers(0, 4)) == 0:
                    del at[key]
                else:
                    at[key] = draw(ODD_VALUES)
                break
            at = at[key]
    return content


def attempt(action: Callable[[], Any], root: Path) -> Any:
    """Return the result, or None if the input was refused. Fail on long errors and on new files beside ``root``."""
    beside = sorted(path.name for path in root.parent.iterdir())
    if outermost := not tracemalloc.is_tracing():
        tracemalloc.start()
    try:
        return action()
    except OUR_ERRORS as error:
        lines = str(error).splitlines()
        assert lines, repr(error)
        assert len(lines) < 25, lines
        assert max(map(len, lines)) < 4000, lines
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        if outermost:
            tracemalloc.stop()
        assert peak < MEMORY_BYTES, peak
        assert beside == sorted(path.name for path in root.parent.iterdir())


# --- volumes


@pytest.fixture(scope="module")
def volume() -> bytes:
    """A NIfTI file of 8 x 7 x 6 voxels, int16."""
    import nibabel as nib

    values = np.arange(336, dtype=np.int16).reshape(8, 7, 6)
    return nib.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0])).to_bytes()


def read_both(path: Path) -> None:
    """Read the header, then the voxels as the audit reads them and as LoadImaged in a config does."""
    import nibabel as nib

    header = read_header(path)
    attempt(lambda: read_volume(path), path.parent)
    try:
        values = np.asanyarray(nib.load(path).dataobj)
    except Exception:  # nibabel may raise anything; CaseDataset then calls read_volume for the error
        return
    assert values.shape == header.shape


@fuzzed
@given(damages(), st.sampled_from([348, 352, None]))
def test_a_damaged_nifti_is_read_or_refused(tmp_path, volume, changes, within):
    path = tmp_path / "x" / "x_t1.nii"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(apply(volume, changes, within))
    attempt(lambda: read_both(path), path.parent)


@fuzzed
@given(damages(), st.sampled_from(["before", "after", "both"]), st.integers(0, 2))
def test_a_damaged_compressed_nifti_is_read_or_refused(tmp_path, volume, changes, when, members):
    path = tmp_path / "x" / "x_t1.nii.gz"
    path.parent.mkdir(exist_ok=True)
    content = apply(volume, changes, 352) if when != "after" else volume
    packed = gzip.compress(content, mtime=0) + gzip.compress(b"", mtime=0) * members
    path.write_bytes(apply(packed, changes) if when != "before" else packed)
    attempt(lambda: read_both(path), path.parent)


@settings(fuzzed, max_examples=EXAMPLES // 4)
@given(damages(), st.booleans())
def test_a_damaged_segmentation_is_scored_or_refused(tmp_path, volume, changes, packed):
    import nibabel as nib

    label = nib.Nifti1Image(np.array([0, 1, 2, 4], np.uint8)[np.indices((8, 7, 6)).sum(0) % 4], np.eye(4)).to_bytes()
    for name, content in (("pred", apply(label, changes, 352)), ("ref", label)):
        (tmp_path / "x" / name).mkdir(parents=True, exist_ok=True)
        path = tmp_path / "x" / name / "BraTS20_Training_001.nii.gz"
        path.write_bytes(gzip.compress(content, mtime=0))
    score = lambda: score_folders(tmp_path / "x" / "pred", tmp_path / "x" / "ref", progress=False)  # noqa: E731
    done = attempt(score, tmp_path / "x")
    assert done is None or all(np.isfinite(row.dice) for row in done.rows)


# --- JSON and CSV


def write_json(path: Path, content: Any, changes: Sequence[tuple[str, float, bytes, float]] | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content).encode()
    path.write_bytes(apply(text, changes) if changes else text)


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    """Two cases of 4 x 4 x 4 voxels."""
    import nibabel as nib

    root = tmp_path_factory.mktemp("cases") / "data"
    for case_id in ("BraTS20_Training_001", "BraTS20_Training_002"):
        (root / case_id).mkdir(parents=True)
        for name in ("t1", "t1ce", "t2", "flair", "seg"):
            image = nib.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4))
            nib.save(image, root / case_id / f"{case_id}_{name}.nii.gz")
    return root


DATALIST = {
    "training": [
        {
            "image": [f"{c}/{c}_{m}.nii.gz" for m in ("t1", "t1ce", "t2", "flair")],
            "label": f"{c}/{c}_seg.nii.gz",
            "fold": k,
            "case_id": c,
            "patient_id": c,
            "label_convention": "brats2020",
        }
        for k, c in enumerate(("BraTS20_Training_001", "BraTS20_Training_002"))
    ]
}


@fuzzed
@given(altered(DATALIST), st.none() | damages())
def test_an_altered_datalist_is_read_or_refused(cases, content, changes):
    write_json(cases / "datalist.json", content, changes)
    items = attempt(lambda: load_fold(cases, "training"), cases)
    for item in items or ():
        assert (Path("out") / f"{item['case_id']}.nii.gz").parent == Path("out")


TASK = {
    **DATASET_JSON,
    "training": [{"image": f"./imagesTr/B_{k}.nii.gz", "label": f"./labelsTr/B_{k}.nii.gz"} for k in (1, 2)],
    "test": ["./imagesTs/B_3.nii.gz"],
}


@fuzzed
@given(altered(TASK), st.none() | damages())
def test_an_altered_task_is_converted_or_refused(tmp_path, content, changes):
    write_json(tmp_path / "msd" / "dataset.json", content, changes)
    found = attempt(lambda: find_task_cases(tmp_path / "msd" / "dataset.json"), tmp_path / "msd")
    for case in found or ():
        assert (Path("out") / case.case_id).parent == Path("out")
        assert (tmp_path / "msd") in case.image.parents


@settings(fuzzed, max_examples=EXAMPLES // 8)
@given(altered(TASK), damages())
def test_an_altered_task_writes_nothing_outside_the_output_folder(tmp_path, volume, content, changes):
    write_json(tmp_path / "msd" / "dataset.json", content, None)
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (tmp_path / "msd" / folder).mkdir(exist_ok=True)
        for k in (1, 2, 3):
            (tmp_path / "msd" / folder / f"B_{k}.nii.gz").write_bytes(gzip.compress(apply(volume, changes, 352)))
    (tmp_path / "out").mkdir(exist_ok=True)
    attempt(lambda: convert_dataset(tmp_path / "msd", tmp_path / "out", 1, progress=False), tmp_path / "out")


MEASURED = {"dice": 0.5, "hd95_mm": 3.0, "lesion_dice": 0.4, "volume_error_ml": -1.0, "ref_volume_ml": 3.0}
SCORES = {
    "rows": [
        {"case_id": c, "region": r, **MEASURED, "pred_volume_ml": 2.0} for c in ("a1", "a2") for r in ("WT", "TC", "ET")
    ],
    "rules": "brats2023",
    "epoch": 3,
}


@fuzzed
@given(altered(SCORES), st.none() | damages())
def test_altered_scores_are_compared_or_refused(tmp_path, content, changes):
    write_json(tmp_path / "x" / "a.json", content, changes)
    write_json(tmp_path / "x" / "b.json", SCORES, None)
    compare = lambda: compare_scores(read_scores(tmp_path / "x" / "a.json"), read_scores(tmp_path / "x" / "b.json"))  # noqa: E731
    attempt(compare, tmp_path / "x")


@fuzzed
@given(altered(SCORES), altered({"dataset_dir": "d", "modalities": ["t1", "t2"], "epochs": 3}), st.none() | damages())
def test_an_altered_run_is_read_or_refused(tmp_path, content, knobs, changes):
    write_json(tmp_path / "x" / "metrics.json", content, changes)
    write_json(tmp_path / "x" / "settings.json", knobs, None)
    run = attempt(lambda: read_run(tmp_path / "x"), tmp_path / "x")
    if run:
        find_failed_regions(run.rows)
        assert sorted(run.ranked) == sorted(run.by_case)


CARD = {
    "modalities": ["t1", "t2"],
    "regions": ["TC", "WT", "ET"],
    "network_def": {"class": "UNet", "in_channels": 2, "channels": [8, 16]},
    "patch_size": [32, 32, 32],
    "epoch": 3,
    "absent_sequences": True,
}


@fuzzed
@given(altered(CARD), st.none() | damages())
def test_an_altered_card_is_read_or_refused(tmp_path, content, changes):
    (tmp_path / "x").mkdir(exist_ok=True)
    (tmp_path / "x" / "best.pt").touch()
    write_json(tmp_path / "x" / "best.json", content, changes)
    card = attempt(lambda: read_card(tmp_path / "x" / "best.pt"), tmp_path / "x")
    assert card is None or isinstance(card["network_def"], dict)


TABLE = b"Grade,BraTS_2017_subject_ID,BraTS_2020_subject_ID\nHGG,Brats17_A_1,BraTS20_Training_001\nLGG,NA,B_2\n"


@fuzzed
@given(damages())
def test_a_damaged_mapping_is_read_or_refused(tmp_path, changes):
    (tmp_path / "x").mkdir(exist_ok=True)
    (tmp_path / "x" / "name_mapping.csv").write_bytes(apply(TABLE, changes))
    attempt(lambda: read_name_mappings([tmp_path / "x"]), tmp_path / "x")


@fuzzed
@given(st.lists(st.text(max_size=8), min_size=2, max_size=5, unique=True))
def test_any_names_can_be_sorted(names):
    assert sorted(names, key=natural_key) == sorted(set(names), key=natural_key)


# --- checkpoints and slices


@fuzzed
@given(damages(), st.booleans())
def test_a_damaged_checkpoint_is_read_or_refused(tmp_path, changes, valid_checksums):
    """With ``valid_checksums`` only the pickle inside the archive is damaged, so that no checksum reveals it."""
    import zipfile

    path = tmp_path / "x" / "last.pt"
    path.parent.mkdir(exist_ok=True)
    torch.save({"network": {"a": torch.arange(6.0), "b": torch.ones(2, 3)}, "epoch": 3, "best": 0.5}, path)
    if valid_checksums:
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        parts["last/data.pkl"] = apply(parts["last/data.pkl"], changes)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
    else:
        path.write_bytes(apply(path.read_bytes(), changes))
    path.with_suffix(".json").write_text(json.dumps(CARD))
    attempt(lambda: read_checkpoint(path), path.parent)


@settings(fuzzed, max_examples=EXAMPLES // 2)
@given(damages())
def test_damaged_slices_are_recovered_or_refused(tmp_path, changes):
    folder = tmp_path / "x"
    folder.mkdir(exist_ok=True)
    values = np.zeros((12, 12, 1), np.int16)
    values[4:8, 4:8] = np.arange(1, 17).reshape(4, 4, 1)
    (path,) = write_slices(folder, 1, dict.fromkeys(("t1", "t1ce", "t2", "flair"), values), (values > 9) * np.uint8(1))
    path.write_bytes(apply(path.read_bytes(), changes))
    (volume,) = find_volumes([path])
    attempt(volume.read, folder)
