"""Every layout of BraTS is found, trained on and segmented, and is read as by MONAI's own transforms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.transforms import LoadImage, Orientation

from brats3d.cases.case import Case
from brats3d.cases.search import find_cases
from brats3d.convert import convert_dataset
from brats3d.errors import UsageError
from brats3d.labels import MODALITIES, get_convention
from brats3d.phantoms import LAYOUTS, write_phantoms

Workflow = Callable[..., ConfigWorkflow]
Release = Callable[[str], Path]

IDS = {
    "brats2018": ["Brats18_SYN_001_1", "Brats18_SYN_002_1", "Brats18_SYN_003_1"],
    "brats2020": ["BraTS20_Training_001", "BraTS20_Training_002", "BraTS20_Training_003"],
    "brats2021": ["BraTS2021_00001", "BraTS2021_00002", "BraTS2021_00003"],
    "brats2023": ["BraTS-GLI-00001-000", "BraTS-GLI-00002-000", "BraTS-GLI-00002-001"],
    "brats2024": ["BraTS-GLI-00001-100", "BraTS-GLI-00002-100", "BraTS-GLI-00002-101"],
    "msd": ["BRATS_001", "BRATS_002", "BRATS_003"],
    "h5": ["BraTS20_Training_001", "BraTS20_Training_002", "BraTS20_Training_003"],
}
CONVENTIONS = {"brats2023": "brats2023", "brats2024": "brats2024-gli"}
SUFFIXES = {
    layout: dict(zip(MODALITIES, ("-t1n", "-t1c", "-t2w", "-t2f"), strict=True))
    for layout in ("brats2023", "brats2024")
}
MSD_CHANNELS = {"flair": 0, "t1": 1, "t1ce": 2, "t2": 3}


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """``release(layout)``: the same three phantoms in any layout, converted if necessary; ``raw`` is not converted."""
    built: dict[str, Path] = {}

    def make(layout: str) -> Path:
        if layout not in built:
            folder = tmp_path_factory.mktemp(layout)
            write_phantoms(folder / "raw", 3, 3, "small", layout=layout, setting="plain", progress=False)
            if layout in ("msd", "h5"):
                convert_dataset(folder / "raw", folder / "converted", workers=1, progress=False)
            built[layout] = folder / ("converted" if layout in ("msd", "h5") else "raw")
        return built[layout]

    return make


def prepared(workflow: Workflow, dataset_dir: Path, output_dir: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Return each case after the deterministic transforms."""
    built = workflow("train", dataset_dir=dataset_dir, output_dir=output_dir)
    sets = [built.parser.get_parsed_content(f"{section}#dataset") for section in ("train", "validate")]
    end = next(i for i, t in enumerate(sets[0].transform.transforms) if type(t).__name__ == "EnsureTyped")
    return {item["case_id"]: sets[0].transform(dict(item), end=end) for dataset in sets for item in dataset.data}


def test_every_layout_of_a_release_is_tested() -> None:
    assert set(IDS) == set(LAYOUTS) - {"raw"}


@pytest.mark.parametrize("layout", IDS)
def test_cases_are_discovered(release: Release, layout: str) -> None:
    cases = find_cases(release(layout), require_label=True)
    assert [case.case_id for case in cases] == IDS[layout]
    assert {case.convention for case in cases} == {CONVENTIONS.get(layout, "brats2020")}
    n_patients = 2 if layout in ("brats2023", "brats2024") else 3
    assert len({case.patient_id for case in cases}) == n_patients
    assert all((case.grade in ("HGG", "LGG")) == (layout == "brats2018") for case in cases)


@pytest.mark.parametrize("layout", IDS)
def test_a_training_and_a_prediction_run(release: Release, layout: str, workflow: Workflow, tmp_path: Path) -> None:
    workflow("train", dataset_dir=release(layout), output_dir=tmp_path / "run", epochs=1).run()
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["label_conventions"] == {CONVENTIONS.get(layout, "brats2020"): 3}
    case = find_cases(release(layout))[0]
    weights = tmp_path / "run" / "checkpoints" / "last.pt"
    best = weights.with_name("best.pt")
    folder = case.images["t1"].parent
    workflow("predict", dataset_dir=folder, output_dir=tmp_path / "out", checkpoint=best).run()
    assert case.label is not None
    built, reference = nib.load(tmp_path / "out" / f"{case.case_id}.nii.gz"), nib.load(case.label)
    assert built.shape == reference.shape and np.allclose(built.affine, reference.affine)


@pytest.mark.parametrize("layout", [layout for layout in IDS if layout != "brats2020"])
def test_a_phantom_is_the_same_case_in_every_layout(
    release: Release, layout: str, workflow: Workflow, tmp_path: Path
) -> None:
    ours = prepared(workflow, release(layout), tmp_path)
    theirs = prepared(workflow, release("brats2020"), tmp_path)
    for name, other in zip(IDS[layout], IDS["brats2020"], strict=True):
        for key, tolerance in (("image", 1e-5), ("label", 0)):
            a, b = (torch.as_tensor(sample[key]) for sample in (ours[name], theirs[other]))
            if layout == "brats2024" and key == "label":  # its resection cavity, cut out of the core, is no tumour
                assert set(b[a != b].tolist()) <= {1}
                b = torch.where((a != b) & (a == 0), a, b)
            torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("layout", IDS)
def test_voxels_are_those_that_monai_reads(release: Release, layout: str) -> None:
    case = find_cases(release(layout), require_label=True)[0]
    load, orient = LoadImage(image_only=True, ensure_channel_first=True), Orientation("LPS", labels=None)
    for modality, path in case.images.items():
        expected = stock_reading(load, release, case, layout, modality)
        assert torch.equal(orient(load(path)), orient(expected))
    assert case.label is not None
    convention = get_convention(case.convention or "")
    assert set(np.unique(nib.load(case.label).get_fdata()).astype(int).tolist()) <= convention.values


def stock_reading(load: LoadImage, release: Release, case: Case, layout: str, modality: str) -> torch.Tensor:
    """Load the volume that the documentation of the release names, without brats3d."""
    folder = case.images["t1"].parent
    if layout == "msd":
        raw = folder.parent.with_name("raw")
        (path,) = raw.rglob(f"imagesTr/{case.case_id}.nii.gz")
        return load(path)[MSD_CHANNELS[modality]][None]
    if layout == "h5":  # MONAI cannot read it; the slices were made from the same phantom as NIfTI
        return load(release("brats2020") / case.case_id / f"{case.case_id}_{modality}.nii.gz").clamp(min=0)
    suffix = SUFFIXES.get(layout, {}).get(modality, f"_{modality}")
    return load(folder / f"{folder.name}{suffix}.nii.gz")


def test_a_folder_with_the_files_of_one_case_is_segmented(release: Release, workflow: Workflow, tmp_path: Path) -> None:
    case = find_cases(release("brats2020"))[0]
    bare = tmp_path / "scan of May 3"
    bare.mkdir()
    for modality, path in case.images.items():
        (bare / f"{modality.upper()}.nii.gz").symlink_to(path)
    workflow("train", dataset_dir=release("brats2020"), output_dir=tmp_path / "run", epochs=1).run()
    best = tmp_path / "run" / "checkpoints" / "best.pt"
    for name, source in (("bare", bare), ("named", case.images["t1"].parent)):
        workflow("predict", dataset_dir=source, output_dir=tmp_path / name, checkpoint=best).run()
    built, named = (
        nib.load(tmp_path / folder).get_fdata()
        for folder in ("bare/scan of May 3.nii.gz", f"named/{case.case_id}.nii.gz")
    )
    assert np.array_equal(built, named)


def test_several_releases_are_trained_on_together(release: Release, workflow: Workflow, tmp_path: Path) -> None:
    together = tmp_path / "data"
    together.mkdir()
    for layout in ("brats2018", "brats2024"):
        (together / layout).symlink_to(release(layout), target_is_directory=True)
    workflow("train", dataset_dir=together, output_dir=tmp_path / "run", epochs=1).run()
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["label_conventions"] == {"brats2020": 3, "brats2024-gli": 3}


def test_labels_that_contradict_the_case_names_are_refused_before_training(
    release: Release, workflow: Workflow, tmp_path: Path
) -> None:
    training = workflow("train", dataset_dir=release("brats2018"), output_dir=tmp_path, label_convention="brats2023")
    with pytest.raises(RuntimeError) as error:  # MONAI's; brats3d shows the cause
        training.run()
    cause: BaseException = error.value
    while isinstance(cause, RuntimeError) and cause.__cause__ is not None:
        cause = cause.__cause__
    assert isinstance(cause, UsageError)
    assert cause.subject == "label_convention"
    assert "Brats18_" in cause.problem and "labels 1, 2, 4" in cause.problem
    assert not (tmp_path / "checkpoints").exists()
