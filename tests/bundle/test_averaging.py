"""Ensembles, test-time augmentation and saved probabilities in whole runs of predict and evaluate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from brats3d.bundle import config_files, installed_bundle
from brats3d.cases import Case, find_cases
from brats3d.data import regions_to_labels
from brats3d.evaluation import read_probabilities
from brats3d.labels import BRATS2020, MODALITIES, REGIONS
from brats3d.networks import describe_network, save_checkpoint, write_ensemble

Workflow = Callable[..., ConfigWorkflow]


@pytest.fixture(scope="session")
def ensemble(workflow: Workflow, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks of random weights, which predict every label in many places."""
    folder, members = tmp_path_factory.mktemp("crossval"), []
    for fold in range(2):
        torch.manual_seed(5 + fold)
        network = workflow("predict", dataset_dir=phantoms).network_def
        card = {"modalities": list(MODALITIES), "regions": list(REGIONS), "network_def": describe_network(network)}
        members.append(folder / f"fold{fold}" / "checkpoints" / "best.pt")
        card |= {"patch_size": [32, 32, 32], "absent_sequences": True}
        save_checkpoint(members[-1], network.state_dict(), card)
    write_ensemble(folder, members)
    return folder


@pytest.fixture
def case(phantoms: Path, tmp_path: Path) -> Case:
    """A case in another orientation than the one that the network gets, and without one sequence."""
    found = find_cases(phantoms)[0]
    for modality in ("t1", "t1ce", "flair"):
        image = nib.load(found.images[modality])
        ends = nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple("PSR"))
        path = tmp_path / "data" / found.case_id / found.images[modality].name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image.as_reoriented(nib.orientations.ornt_transform(*ends)), path)
    return find_cases(tmp_path / "data", absent_sequences=True)[0]


@pytest.fixture
def predict(workflow: Workflow, tmp_path: Path) -> Callable[..., Path]:
    """``predict(case, **knobs)`` segments the case without post-processing into ``tmp_path/out``."""

    def run(case: Case, **knobs) -> Path:
        folder = case.files[0].parent
        workflow("predict", dataset_dir=folder, output_dir=tmp_path / "out", postprocess=False, **knobs).run()
        return tmp_path / "out"

    return run


def files_of(case: Case, out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities and the labels of a case."""
    label = nib.load(out / f"{case.case_id}.nii.gz")
    assert np.array_equal(label.affine, nib.load(case.files[0]).affine)
    return read_probabilities(out / "probabilities" / f"{case.case_id}.npz"), np.asanyarray(label.dataobj)


@pytest.mark.parametrize("window", ["brain", [32, 32, 32]], ids=["brain", "windows"])
def test_probabilities_lie_on_the_grid_of_the_segmentation_and_determine_it(case, predict, ensemble, window):
    knobs = {"checkpoint": ensemble, "window": window, "save_probabilities": True}
    probabilities, label = files_of(case, predict(case, **knobs, tta=window == "brain"))
    assert probabilities.shape == (3, *label.shape) and len(np.unique(label)) > 2
    regions = torch.from_numpy(probabilities.astype(np.float32) > 0.5)
    unsure = np.abs(probabilities - 0.5).min(0) < 1e-3  # half precision
    same = regions_to_labels(regions, BRATS2020).numpy()[0] == label
    assert same[~unsure].all() and unsure.mean() < 0.05


@pytest.mark.slow
def test_an_ensemble_with_flips_is_the_mean_of_its_members_with_flips(case, predict, ensemble):
    knobs = {"save_probabilities": True, "tta": True}
    each = [
        files_of(case, predict(case, checkpoint=ensemble / f"fold{fold}" / "checkpoints" / "best.pt", **knobs))[0]
        for fold in range(2)
    ]
    averaged, _ = files_of(case, predict(case, checkpoint=ensemble, **knobs))
    np.testing.assert_allclose(averaged, (each[0].astype(float) + each[1]) / 2, atol=1e-3)
    plain, _ = files_of(case, predict(case, checkpoint=ensemble, save_probabilities=True))
    assert np.abs(plain.astype(float) - averaged).max() > 0.01


@pytest.mark.slow
def test_a_case_is_done_if_all_its_files_are_there_and_all_members_are_the_same(case, predict, ensemble, log):
    knobs = {"checkpoint": ensemble, "save_probabilities": True}

    def is_done(**more) -> bool:
        log.clear()
        predict(case, **knobs, **more)
        return "Skipping 1 of 1 cases" in log.text

    out = predict(case, **knobs)
    path = out / "probabilities" / f"{case.case_id}.npz"
    assert is_done()
    path.unlink()
    assert not is_done() and path.is_file()
    assert not is_done(tta=True)
    member = ensemble / "fold1" / "checkpoints" / "best.pt"
    before = member.read_bytes()
    weights = torch.load(member, weights_only=True)
    try:
        torch.save({name: 1.01 * value for name, value in weights.items()}, member)
        assert not is_done()
    finally:
        member.write_bytes(before)


def test_probabilities_that_were_changed_are_kept_with_their_case(case, predict, ensemble, log):
    out = predict(case, checkpoint=ensemble, save_probabilities=True)
    path = out / "probabilities" / f"{case.case_id}.npz"
    path.write_bytes(b"mine")
    predict(case, checkpoint=ensemble, save_probabilities=True, tta=True)
    assert path.read_bytes() == b"mine" and f"{case.case_id}: not segmented, because the files" in log.text


def test_a_failed_case_leaves_no_probabilities(case, predict, ensemble, monkeypatch, tmp_path):
    monkeypatch.setattr("brats3d.data.RegionsToLabelsd.__call__", lambda self, data: 1 / 0)
    with pytest.raises(RuntimeError):
        predict(case, checkpoint=ensemble, save_probabilities=True)
    assert (tmp_path / "out" / "failures.json").is_file() and not list((tmp_path / "out").rglob("*.npz"))


@pytest.mark.slow
def test_evaluate_saves_the_probabilities_that_predict_saves(trained, phantoms, workflow, tmp_path):
    workflow("evaluate", dataset_dir=phantoms, output_dir=trained, save_probabilities=True, tta=True).run()
    (name,) = [path.relative_to(trained) for path in (trained / "probabilities").glob("*.npz")]
    (case,) = [found for found in find_cases(phantoms) if found.case_id == name.stem]
    knobs = {"checkpoint": trained / "checkpoints" / "best.pt", "save_probabilities": True, "tta": True}
    workflow("predict", dataset_dir=case.files[0].parent, output_dir=tmp_path / "out", **knobs).run()
    here, there = read_probabilities(trained / name), read_probabilities(tmp_path / "out" / name)
    np.testing.assert_allclose(here, there, atol=1e-3)
    workflow("evaluate", dataset_dir=phantoms, output_dir=trained, save_probabilities=True).run()
    assert not np.array_equal(read_probabilities(trained / name), here), "it is replaced"


@pytest.mark.slow
def test_evaluate_warns_if_a_network_of_an_ensemble_was_trained_on_the_cases(
    trained, phantoms, workflow, tmp_path, log
):
    write_ensemble(tmp_path, [trained / "checkpoints" / "best.pt"])
    out = {"output_dir": tmp_path / "out", "checkpoint": tmp_path}
    workflow("evaluate", dataset_dir=phantoms, **out).run()
    assert "too good" not in log.text
    workflow("evaluate", dataset_dir=phantoms, fold=1, **out).run()
    assert "were trained on 1 of the validation cases (BraTS20_Training_" in log.text


def test_an_ensemble_cannot_become_an_engine_of_tensorrt_nor_the_start_of_a_training(
    ensemble, phantoms, workflow, tmp_path
):
    parser = ConfigParser()
    parser.read_config([*config_files("predict"), installed_bundle() / "configs" / "inference_trt.yaml"])
    parser["checkpoint"] = str(ensemble)
    for use in (
        lambda: parser.get_parsed_content("predictor#network#base_path"),
        workflow("train", dataset_dir=phantoms, output_dir=tmp_path / "run", checkpoint=ensemble).run,
    ):
        with pytest.raises(RuntimeError) as caught:
            use()
        assert "is an ensemble of 2 networks; pass one of its members" in str(caught.value.__cause__)
