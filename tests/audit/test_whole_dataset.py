"""The audit of whole data sets: every kind of finding, and the contract with training."""

from __future__ import annotations

import gzip
import math
import shutil
import struct
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser

from brats3d.audit import whole_dataset
from brats3d.audit.finding_kinds import KINDS
from brats3d.audit.printing import format_audit
from brats3d.audit.whole_dataset import Audit, audit_dataset
from brats3d.cases.load import load_fold
from brats3d.data.dataset import CaseDataset
from brats3d.errors import UsageError


def audit(root: Path, **options) -> Audit:
    return audit_dataset(root, progress=False, **options)


def kinds(result: Audit) -> set[str]:
    return {finding.kind for finding in result.findings}


def test_a_sound_data_set_has_no_finding(make_dataset) -> None:
    result = audit(make_dataset())
    assert result.findings == ()
    assert result.ok


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_defect_is_found_with_its_severity(make_dataset, spoil, kind: str) -> None:
    root = make_dataset()
    spoil(root, kind)
    result = audit(root)
    findings = [finding for finding in result.findings if finding.kind == kind]
    assert findings, kinds(result)
    assert result.ok == (KINDS[kind].severity != "error")
    for finding in findings:
        assert finding.problem
        assert "\n" not in finding.problem
        assert not finding.case_id.endswith("001")
    assert f"{KINDS[kind].severity:8}{kind}: {len(findings)}" in format_audit(result)


def test_unexpected_labels_are_reported_with_counts_and_the_convention_that_fits(make_dataset, spoil) -> None:
    root = make_dataset()
    spoil(root, "unexpected labels")
    (finding,) = audit(root).findings
    assert finding.case_id == "BraTS20_Training_002"
    for text in ("{1, 2, 3}", "3 in", "{0, 1, 2, 4}"):
        assert text in finding.problem
    assert "brats2015" in finding.problem and "brats2023" not in finding.problem  # 4 occurs in other cases


def test_a_given_label_convention_must_not_contradict_the_names(make_dataset, spoil) -> None:
    root = make_dataset(cases=2)
    assert audit(root, label_convention="brats2020").ok
    with pytest.raises(UsageError) as caught:
        audit(root, label_convention="brats2023")
    assert caught.value.subject == "label_convention"
    root = make_dataset(root=root.parent / "children")
    spoil(root, "unknown label convention")
    (finding,) = [finding for finding in audit(root).findings if finding.kind == "unknown label convention"]
    assert "fit brats2023 (best) or brats2024-ped" in finding.problem


def test_an_unknown_label_convention_is_wrong_use(make_dataset) -> None:
    with pytest.raises(UsageError) as caught:
        audit(make_dataset(cases=1), label_convention="brats1999")
    assert caught.value.subject == "label_convention"


def test_only_the_given_sequences_are_checked(make_dataset, spoil) -> None:
    root = make_dataset()
    spoil(root, "missing sequence")
    result = audit(root, modalities=("t1", "flair"))
    assert result.findings == ()
    assert list(result.cases[0].images) == ["t1", "flair"]


@pytest.mark.parametrize("where", ["case", "progress bar"])
def test_an_interruption_does_not_wait_for_the_remaining_cases(
    make_dataset, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    root, started = make_dataset(cases=12, modalities=("t1",)), []

    def read_slowly(case, **_):
        started.append(case)
        if where == "case" and len(started) == 1:
            raise KeyboardInterrupt
        time.sleep(0.05)

    def interrupted(results, **_):
        yield next(results)
        raise KeyboardInterrupt

    monkeypatch.setattr(whole_dataset, "audit_case", read_slowly)
    if where == "progress bar":
        monkeypatch.setattr("tqdm.tqdm", interrupted)
    with pytest.raises(KeyboardInterrupt):
        audit(root, modalities=("t1",))
    assert len(started) <= 6  # those that the two threads had begun


# --- the contract: anything that training refuses is an error


def seg(root: Path) -> Path:
    return root / "BraTS20_Training_002" / "BraTS20_Training_002_seg.nii.gz"


def t1(root: Path) -> Path:
    return root / "BraTS20_Training_002" / "BraTS20_Training_002_t1.nii.gz"


def rewrite(path: Path, change) -> None:
    image = nib.load(path)
    values = change(np.asanyarray(image.dataobj))
    nib.save(nib.Nifti1Image(values, image.affine), path)


def rewrite_header(path: Path, position: int, form: str, *values: float) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(form, content, position, *values)
    path.write_bytes(gzip.compress(content))


def darken(root: Path) -> None:
    for path in t1(root).parent.glob("*[!g].nii.gz"):
        rewrite(path, lambda values: values - np.int16(2000))


def scale_label(root: Path) -> None:
    rewrite(seg(root), lambda values: values * np.uint8(60))
    rewrite_header(seg(root), 112, "<ff", 1 / 60, 0)


DAMAGE = {
    "a mask as an image": lambda root: rewrite(t1(root), lambda values: (values > 0).astype(np.uint8)),
    "a mask and noise below 0": lambda root: rewrite(
        t1(root), lambda values: np.where(values > 0, 1, -np.arange(3072).reshape(16, 16, 12)).astype(np.int16)
    ),
    "a constant": lambda root: rewrite(t1(root), lambda values: np.full_like(values, 7)),
    "beyond float32": lambda root: rewrite(t1(root), lambda values: values * 1e300),
    "sums beyond float32": lambda root: rewrite(t1(root), lambda values: values * np.float32(5e35)),
    "0 in float32": lambda root: rewrite(t1(root), lambda values: values * 1e-60),
    "equal as float32": lambda root: rewrite(t1(root), lambda values: np.where(values > 0, 1e6 + values * 1e-9, 0)),
    "all images below 0": darken,
    "infinite": lambda root: rewrite(t1(root), lambda values: np.where(values > 300, np.inf, values)),
    "a NaN intercept": lambda root: rewrite_header(t1(root), 112, "<ff", 1, math.nan),
    "an infinite scale": lambda root: rewrite_header(t1(root), 112, "<ff", math.inf, 0),
    "a qform that is not a rotation": lambda root: rewrite_header(t1(root), 252, "<hhfff", 1, 2, 0.8, 0.6, 0.01),
    "an infinite offset": lambda root: rewrite_header(t1(root), 108, "<f", math.inf),
    "a huge offset": lambda root: rewrite_header(t1(root), 108, "<f", 1e30),
    "a huge shape": lambda root: rewrite_header(t1(root), 42, "<hhh", 32767, 32767, 32767),
    "labels off by float32 rounding": scale_label,
    "labels off by 1e-5": lambda root: rewrite(seg(root), lambda values: values + np.float32(1e-5)),
    "NaN labels": lambda root: rewrite(seg(root), lambda values: np.where(values == 4, np.nan, values)),
    "a label in one voxel": lambda root: rewrite(
        seg(root), lambda values: np.where(np.arange(12) == 11, 9, 0 * values)
    ),
    "one patient": lambda root: [shutil.rmtree(root / f"BraTS20_Training_00{i}") for i in (1, 3)],
    "no segmentation at all": lambda root: [path.unlink() for path in root.rglob("*_seg.nii.gz")],
    "a datalist that is not JSON": lambda root: (root / "datalist.json").write_text("training"),
}
"""Damage that is not among the defects of conftest.py: what was done -> a function that does it."""

DATALISTS = {
    "a valid datalist": {},
    "a datalist without fold": {"fold": None},
    "a datalist with a missing file": {"label": "gone/gone_seg.nii.gz"},
    "a datalist with another convention": {"label_convention": "brats2023"},
}
"""Description -> changes of one entry of a datalist.json."""

WARNED = ("too few patients", "one patient", "no segmentation at all")
"""Only warnings, since a folder of validation cases is like this."""

ACCEPTED = ("a qform that is not a rotation", "an infinite scale", "labels off by float32 rounding", "a valid datalist")


@pytest.fixture(scope="module")
def deterministic_transforms() -> list:
    parser = ConfigParser()
    parser.read_config(Path(__file__).parents[2] / "bundle" / "configs" / "train.yaml")
    return parser.get_parsed_content("train#deterministic_transforms")


@pytest.mark.parametrize("damage", [*DAMAGE, *DATALISTS, *KINDS])
def test_anything_that_training_refuses_is_an_error(
    make_dataset, spoil, list_cases, deterministic_transforms, damage: str
) -> None:
    root = make_dataset()
    if damage in DATALISTS:
        list_cases(root, **DATALISTS[damage])
    else:
        DAMAGE[damage](root) if damage in DAMAGE else spoil(root, damage)
    refused = ""
    try:
        for section in ("training", "validation"):
            cases = CaseDataset(load_fold(root, section), deterministic_transforms)
            for i in range(len(cases)):
                cases[i]
    except Exception as error:
        refused = f"{type(error).__name__}: {error}"
    result = audit(root)
    if damage in WARNED:
        assert "too few patients" in kinds(result)
    elif refused:
        assert not result.ok, refused
    if damage in ACCEPTED:
        assert result.ok, result.findings
        assert not refused
    elif damage not in KINDS and damage not in WARNED:
        assert not result.ok
