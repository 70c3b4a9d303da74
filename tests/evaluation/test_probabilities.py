"""Files of probabilities: what is written is read again, on the grid of the images, and anything else is refused."""

from __future__ import annotations

import io
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from brats3d.errors import DataError, UsageError
from brats3d.evaluation import BatchProbabilities, SaveProbabilities, read_probabilities, write_probabilities
from brats3d.files import write_whole


def test_probabilities_are_read_as_they_were_written_in_half_precision(tmp_path):
    values = np.random.default_rng(0).random((3, 4, 5, 6))
    path = write_probabilities(tmp_path / "probabilities" / "a.npz", values)
    assert np.array_equal(read_probabilities(path), values.astype(np.float16))
    assert read_probabilities(str(path)).dtype == np.float16
    before = path.read_bytes()
    write_probabilities(path, values)
    assert path.read_bytes() == before, "the same probabilities are the same file"


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


GOOD = np.zeros((3, 4, 4, 4), np.float16)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        npz(probabilities=GOOD)[:-20],
        npz(other=GOOD),
        npz(probabilities=GOOD[0]),
        npz(probabilities=GOOD[:2]),
        npz(probabilities=GOOD.astype(np.float32)),
        npz(probabilities=np.array([{}] * 3)),
    ],
    ids=["empty", "cut", "name", "dimensions", "channels", "dtype", "objects"],
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_probabilities(path)
    assert caught.value.subject == str(path) and "\n" not in str(caught.value)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("brats3d.evaluation.probabilities.MAX_BYTES", 10_000)
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("probabilities.npy", bytes(100_000))
    with pytest.raises(DataError) as caught:
        read_probabilities(path)
    assert "more than 10,000 bytes" in caught.value.problem


def test_a_missing_file_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_probabilities(tmp_path / "a.npz")


def engine_of(case_ids: list[str], logits: torch.Tensor, affine: np.ndarray) -> SimpleNamespace:
    """Stand for an evaluator whose network has just predicted a batch."""
    image = MetaTensor(torch.zeros(len(logits), 1, *logits.shape[2:]), affine=torch.from_numpy(affine))
    output = {"image": image, "pred": logits}
    return SimpleNamespace(state=SimpleNamespace(batch={"case_id": case_ids}, output=output))


def test_a_cropped_and_flipped_batch_is_written_on_the_grid_of_its_images(tmp_path, write_nifti):
    image = write_nifti(tmp_path / "a_t1.nii.gz", np.ones((5, 6, 7), np.int16), np.eye(4))
    whole = np.random.default_rng(1).normal(size=(2, 3, 5, 6, 7)).astype(np.float32)
    cropped = whole[:, :, 1:4, 2:6, 0:5][:, :, ::-1]  # voxel 0 of the first axis is voxel 3 of the file
    affine = np.diag([-1.0, 1, 1, 1])
    affine[:3, 3] = 3, 2, 0
    batch = BatchProbabilities()
    batch(engine_of(["a", "b"], torch.from_numpy(cropped.copy()), affine))
    batch.write("b", image, tmp_path / "out", write_whole)
    expected = np.zeros((3, 5, 6, 7))
    expected[:, 1:4, 2:6, 0:5] = 1 / (1 + np.exp(-whole[1, :, 1:4, 2:6, 0:5]))
    np.testing.assert_allclose(read_probabilities(tmp_path / "out" / "probabilities" / "b.npz"), expected, atol=5e-4)


def test_only_the_present_batch_is_kept():
    batch, logits = BatchProbabilities(), torch.zeros(1, 3, 2, 2, 2)
    for case_id in ("a", "b"):
        batch(engine_of([case_id], logits, np.eye(4)))
    assert list(batch._kept) == ["b"]


def test_a_foreign_file_is_refused_before_the_first_case(tmp_path, make_dataset):
    case = make_dataset(1) / "BraTS20_Training_001"
    items = [{"case_id": case.name, "image": sorted(map(str, case.glob("*_t1.nii.gz")))}]
    path = tmp_path / "out" / "probabilities" / f"{case.name}.npz"
    path.parent.mkdir(parents=True)
    path.write_text("notes")
    with pytest.raises(UsageError) as caught:
        SaveProbabilities(tmp_path / "out", items)._prepare(None)
    assert str(path) in caught.value.problem and path.read_text() == "notes"
