"""Cases without some sequences, and networks for fewer sequences than the weights were trained on."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from brats3d.bundle import installed_bundle
from brats3d.cases.case import Case
from brats3d.cases.search import find_cases
from brats3d.labels import MODALITIES, REGIONS
from brats3d.networks.checkpoint_card import describe_network
from brats3d.networks.checkpoint_file import save_checkpoint

Workflow = Callable[..., ConfigWorkflow]
SUBSETS = [s for n in range(1, 5) for s in itertools.combinations(MODALITIES, n)]
AXIS_CODES = ["".join(code) for axes in itertools.permutations(("LR", "AP", "SI")) for code in itertools.product(*axes)]


@pytest.fixture(scope="session")
def weights(workflow: Workflow, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights whose card allows absent sequences. They predict every label in many places."""
    torch.manual_seed(5)
    network = workflow("predict", dataset_dir=phantoms).network_def
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    card = {"modalities": list(MODALITIES), "regions": list(REGIONS), "network_def": describe_network(network)}
    card["patch_size"] = [32, 32, 32]
    save_checkpoint(path, network.state_dict(), {**card, "absent_sequences": True})
    return path


@pytest.fixture(scope="session")
def case(phantoms: Path) -> Case:
    return find_cases(phantoms)[0]


def link(case: Case, present: Sequence[str], folder: Path) -> Path:
    """Make a folder with some of the sequences of a case."""
    target = folder / case.case_id
    target.mkdir(parents=True)
    for modality in present:
        (target / case.images[modality].name).symlink_to(case.images[modality])
    return folder


def labels_of(out: Path, case: Case) -> np.ndarray:
    return np.asanyarray(nib.load(out / f"{case.case_id}.nii.gz").dataobj)


def cause_of(built: ConfigWorkflow) -> str:
    with pytest.raises(RuntimeError) as caught:
        built.run()
    text = str(caught.value.__cause__)
    assert "\n" not in text
    return text


def segment_by_hand(built: ConfigWorkflow, case: Case, present: Sequence[str], folder: Path) -> np.ndarray:
    """Segment with the parts of the config only; absent sequences are files of zeros."""
    paths = []
    for modality, path in case.images.items():
        image = nib.load(path)
        zeros = folder / f"zeros_{modality}.nii.gz"
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.int16), image.affine), zeros)
        paths.append(str(path if modality in present else zeros))
    data = built.preprocessing({"image": paths})
    assert [not channel.any() for channel in data["image"]] == [m not in present for m in MODALITIES]
    with torch.no_grad():
        inferer, network = (built.parser.get_parsed_content(f"predictor#{name}") for name in ("inferer", "network"))
        logits = inferer(data["image"][None], network.eval())[0]
    return built.postprocessing({"image": data["image"], "pred": logits})["pred"].numpy()[0]


@pytest.mark.parametrize("present", SUBSETS, ids="+".join)
def test_absent_sequences_are_segmented_as_if_they_were_zeros(
    present: Sequence[str], case: Case, weights: Path, workflow: Workflow, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    data = link(case, present, tmp_path / "data")
    built = workflow("predict", dataset_dir=data, output_dir=tmp_path / "out", checkpoint=weights)
    built.run()
    seg, like = nib.load(tmp_path / "out" / f"{case.case_id}.nii.gz"), nib.load(case.images[present[0]])
    assert seg.shape == like.shape
    np.testing.assert_array_equal(seg.affine, like.affine)
    labels = labels_of(tmp_path / "out", case)
    assert len(np.unique(labels)) > 2, "an empty prediction would prove nothing"
    np.testing.assert_array_equal(labels, segment_by_hand(built, case, present, tmp_path))
    absent = [m for m in MODALITIES if m not in present]
    warnings = [r.getMessage() for r in log.records if "segmented without" in r.getMessage()]
    assert len(warnings) == bool(absent)
    assert all(f"{case.case_id}: segmented without {', '.join(absent)}" in w for w in warnings)
    assert ("cannot be separated" in log.text) == ("t1ce" in absent)


def test_a_prediction_does_not_depend_on_the_other_cases_of_the_run(
    phantoms: Path, weights: Path, workflow: Workflow, tmp_path: Path
) -> None:
    cases = dict(zip(find_cases(phantoms), (("flair",), MODALITIES, ("t1ce", "t2"), ("flair",)), strict=True))
    for each, present in cases.items():
        link(each, present, tmp_path / "all")
        alone = link(each, present, tmp_path / each.case_id)
        workflow("predict", dataset_dir=alone, output_dir=tmp_path / "alone", checkpoint=weights).run()
    workflow("predict", dataset_dir=tmp_path / "all", output_dir=tmp_path / "out", checkpoint=weights).run()
    for each in cases:
        np.testing.assert_array_equal(labels_of(tmp_path / "out", each), labels_of(tmp_path / "alone", each))


def predict_as(codes: str, case: Case, present: Sequence[str], weights: Path, workflow: Workflow, folder: Path):
    """Store some sequences in another orientation, segment them, and reorient the prediction to LPS."""
    stored = folder / codes / case.case_id
    stored.mkdir(parents=True)
    for modality in present:
        image = nib.load(case.images[modality])
        ends = nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(codes))
        nib.save(image.as_reoriented(nib.orientations.ornt_transform(*ends)), stored / case.images[modality].name)
    workflow("predict", dataset_dir=stored, output_dir=folder / f"out_{codes}", checkpoint=weights).run()
    seg = nib.load(folder / f"out_{codes}" / f"{case.case_id}.nii.gz")
    assert nib.aff2axcodes(seg.affine) == tuple(codes)
    ends = nib.io_orientation(seg.affine), nib.orientations.axcodes2ornt("LPS")
    returned = seg.as_reoriented(nib.orientations.ornt_transform(*ends))
    np.testing.assert_allclose(returned.affine, nib.load(case.images["t1"]).affine)
    return np.asanyarray(returned.dataobj)


@pytest.mark.parametrize(
    "codes",
    ["RAS", "PSL", *(pytest.param(c, marks=pytest.mark.slow) for c in AXIS_CODES if c not in ("RAS", "PSL", "LPS"))],
)
def test_the_stored_orientation_does_not_change_the_prediction(
    codes: str, case: Case, weights: Path, workflow: Workflow, tmp_path: Path
) -> None:
    answers = [predict_as(c, case, ("t2", "flair"), weights, workflow, tmp_path) for c in ("LPS", codes)]
    np.testing.assert_array_equal(*answers)


@pytest.mark.slow
def test_monais_command_segments_cases_with_absent_sequences(
    case: Case, weights: Path, workflow: Workflow, tmp_path: Path
) -> None:
    data = link(case, ("flair", "t1ce"), tmp_path / "data")
    workflow("predict", dataset_dir=data, output_dir=tmp_path / "here", checkpoint=weights).run()
    command = [
        sys.executable,
        "-m",
        "monai.bundle",
        "run",
        "--config_file",
        installed_bundle() / "configs/inference.yaml",
    ]
    knobs = ["--network_def#channels", "[4,8,8,8,8]", "--device", "cpu", "--amp", "False"]
    paths = ["--dataset_dir", data, "--output_dir", "there", "--checkpoint", weights]
    done = subprocess.run(
        [*command, *paths, *knobs], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{case.case_id}: segmented without t1, t2" in done.stdout + done.stderr
    np.testing.assert_array_equal(labels_of(tmp_path / "there", case), labels_of(tmp_path / "here", case))


# --- refused


def test_other_weights_refuse_a_case_without_some_sequences(
    case: Case, trained: Path, workflow: Workflow, tmp_path: Path
) -> None:
    data = link(case, ("t1", "t2", "flair"), tmp_path / "data")
    best = trained / "checkpoints" / "best.pt"
    text = cause_of(workflow("predict", dataset_dir=data, output_dir=tmp_path / "out", checkpoint=best))
    assert f"missing t1ce; found t1, t2, flair in {data / case.case_id}; expected {case.case_id}_t1ce.nii[.gz]" in text
    assert "--modalities \"['t1','t2','flair']\"" in text
    assert not (tmp_path / "out").exists()


def test_other_weights_refuse_a_datalist_item_without_some_sequences(
    case: Case, phantoms: Path, trained: Path, workflow: Workflow, tmp_path: Path
) -> None:
    best = trained / "checkpoints" / "best.pt"
    built = workflow("predict", dataset_dir=phantoms, output_dir=tmp_path / "out", checkpoint=best)
    built.dataset_data = [{"image": [str(case.images["t1"]), str(case.images["flair"])]}]
    built.initialize()
    assert "missing t1ce, t2" in cause_of(built)


def test_a_datalist_item_without_some_sequences_is_segmented(
    case: Case, phantoms: Path, weights: Path, workflow: Workflow, tmp_path: Path
) -> None:
    built = workflow("predict", dataset_dir=phantoms, output_dir=tmp_path / "out", checkpoint=weights)
    built.dataset_data = [{"image": [str(case.images["flair"]), str(case.images["t1"])]}]
    built.initialize()
    built.run()
    expected = segment_by_hand(built, case, ("t1", "flair"), tmp_path)
    np.testing.assert_array_equal(labels_of(tmp_path / "out", case), expected)


def test_a_case_without_any_sequence_is_refused(case: Case, weights: Path, workflow: Workflow, tmp_path: Path) -> None:
    data = link(case, (), tmp_path / "data")
    (data / case.case_id / f"{case.case_id}_seg.nii.gz").symlink_to(str(case.label))
    text = cause_of(workflow("predict", dataset_dir=data, output_dir=tmp_path / "out", checkpoint=weights))
    assert f"{case.case_id}: no sequence; found seg in " in text
    assert not (tmp_path / "out").exists()


def test_training_refuses_a_case_without_some_sequences(
    phantoms: Path, weights: Path, workflow: Workflow, tmp_path: Path
) -> None:
    for each in find_cases(phantoms):
        link(each, ("t1", "t2", "flair"), tmp_path / "data")
        (tmp_path / "data" / each.case_id / f"{each.case_id}_seg.nii.gz").symlink_to(str(each.label))
    built = workflow("train", dataset_dir=tmp_path / "data", output_dir=tmp_path / "out", checkpoint=weights)
    with pytest.raises(RuntimeError) as caught:
        built.run()
    assert "missing t1ce" in str(caught.value.__cause__) and "--modalities" in str(caught.value.__cause__)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-300]), "model.pt: damaged, or contains more than weights"),
    "a byte": (lambda p: _change_a_byte(p), "contains more than weights (the checksum of"),
    "code": (lambda p: torch.save({"a": print}, p), "contains more than weights (it refers to print)"),
    "not finite": (lambda p: _change_weights(p, torch.nan), "4 values that are NaN or infinite"),
    "shape": (lambda p: _change_weights(p, None), "has shape (4, 4, 1, 1, 1), expected (4, 4, 3, 3, 3)"),
    "no card": (lambda p: p.with_suffix(".json").unlink(), "has no card model.json beside it"),
    "no json": (lambda p: p.with_suffix(".json").write_text("{"), "model.json: damaged"),
    "missing key": (lambda p: _change_card(p, regions=None), "'regions' is missing"),
    "text": (lambda p: _change_card(p, modalities="t1"), "invalid 'modalities'; expected a list"),
    "count": (
        lambda p: _change_card(p, modalities=["t1", "flair"]),
        "the network has 4 input channels for the modalities t1, flair",
    ),
    "tensors": (lambda p: _cut_card(p), "has shape (4, 4, 3, 3, 3), expected (4, 3, 3, 3, 3)"),
    "network": (
        lambda p: _change_network(p, num_res_units=0),
        "has network_def {'num_res_units': 0}, this run has {'num",
    ),
    "flag": (lambda p: _change_card(p, absent_sequences="true"), "invalid 'absent_sequences'; expected true or false"),
}


def _change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def _change_weights(path: Path, value: float | None) -> None:
    weights = torch.load(path, weights_only=True)
    name = "model.0.conv.unit0.conv.weight"
    weights[name] = weights[name][..., :1, :1, :1].clone() if value is None else weights[name].clone()
    if value is not None:
        weights[name][:, 0, 0, 0, 0] = value
    torch.save(weights, path)


def _change_card(path: Path, **changes: object) -> None:
    card = {**json.loads(path.with_suffix(".json").read_text()), **changes}
    path.with_suffix(".json").write_text(json.dumps({k: v for k, v in card.items() if v is not None}))


def _change_network(path: Path, **changes: object) -> None:
    _change_card(path, network_def={**json.loads(path.with_suffix(".json").read_text())["network_def"], **changes})


def _cut_card(path: Path) -> None:
    """Write a card for three sequences, although the weights are for four."""
    _change_network(path, in_channels=3)
    _change_card(path, modalities=["t1", "t2", "flair"])


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_weights_and_cards_are_refused_in_one_line(
    name: str, case: Case, weights: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    path = tmp_path / "model.pt"
    for suffix in (".pt", ".json"):
        path.with_suffix(suffix).write_bytes(weights.with_suffix(suffix).read_bytes())
    damage, expected = DAMAGE[name]
    damage(path)
    options = ["--network_def#channels", "[4,8,8,8,8]", "--window", "[48,48,48]", "--device", "cpu"]
    if name == "tensors":
        options += ["--modalities", "['t1','t2','flair']"]
    folder = case.images["t1"].parent
    code, _, err = run("predict", folder, "--output", tmp_path / "out", "--checkpoint", path, *options)
    (line,) = [line for line in err.splitlines() if line.startswith("brats3d: error: ")]
    assert code == (2 if name in ("no card", "network") else 1)
    assert str(path.with_suffix("")) in line and expected in line
    assert err.strip().endswith(line)
    assert not (tmp_path / "out").exists()


# --- fewer sequences than in the weights


def test_a_network_for_fewer_sequences_segments_as_if_the_others_were_absent(
    case: Case, weights: Path, workflow: Workflow, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    three = ["t1", "t2", "flair"]
    built = workflow(
        "predict",
        dataset_dir=case.images["t1"].parent,
        output_dir=tmp_path / "cut",
        modalities=three,
        checkpoint=weights,
    )
    built.run()
    assert built.network_def.in_channels == 3
    assert "weights for t1, t1ce, t2, flair, reduced to t1, t2, flair" in log.text
    data = link(case, three, tmp_path / "data")
    workflow("predict", dataset_dir=data, output_dir=tmp_path / "zeros", checkpoint=weights).run()
    cut, zeros = (labels_of(tmp_path / name, case) for name in ("cut", "zeros"))
    assert (cut != zeros).mean() < 1e-4, "sums over fewer channels are rounded differently"
    two = link(case, ["t2", "flair"], tmp_path / "two")
    workflow("predict", dataset_dir=two, output_dir=tmp_path / "both", modalities=three, checkpoint=weights).run()
    assert "segmented without t1" in log.text


def test_fine_tuning_on_fewer_sequences_starts_from_the_weights(
    phantoms: Path, weights: Path, workflow: Workflow, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    three = ["t1", "t2", "flair"]
    options = {"modalities": three, "checkpoint": weights, "epochs": 1, "learning_rate": 0.0, "weight_decay": 0.0}
    workflow("train", dataset_dir=phantoms, output_dir=tmp_path / "run", **options).run()
    best = tmp_path / "run" / "checkpoints" / "best.pt"
    card = json.loads(best.with_suffix(".json").read_text())
    assert card["modalities"] == three and card["network_def"]["in_channels"] == 3
    assert "absent_sequences" not in card, "it was trained with all three"
    before, after = (torch.load(path, weights_only=True) for path in (weights, best))
    for name, value in after.items():
        assert torch.equal(value, before[name][:, [0, 2, 3]] if value.shape != before[name].shape else before[name])
    workflow("predict", dataset_dir=phantoms, output_dir=tmp_path / "out", modalities=three, checkpoint=best).run()
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 4
