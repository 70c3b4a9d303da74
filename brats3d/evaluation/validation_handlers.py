"""The handlers that write the scores and the segmentations of a validation."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events

from brats3d.cases import item_to_case, name_some
from brats3d.data import regions_to_labels
from brats3d.evaluation.score_files import write_scores
from brats3d.evaluation.summary import summarise
from brats3d.files import (
    ChangedFileError,
    WrittenFiles,
    explain_full_disk,
    read_header,
    writable_folder,
    write_segmentation,
)
from brats3d.labels import BRATS2020
from brats3d.networks import last_checkpoint_note

logger = logging.getLogger("brats3d")


class SaveScores:
    """Handler of the evaluator that logs the means of each validation and writes all rows to a file.

    Args:
        path: the JSON file; see :func:`brats3d.evaluation.score_files.write_scores`.
        metric: name under which :class:`ValidationScores` is attached.
    """

    def __init__(self, path: str | Path, metric: str = "val_mean_dice") -> None:
        self.path = Path(path)
        self.metric = metric

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Log and write."""
        rows, mean = engine.state.metric_details[self.metric], engine.state.metrics[self.metric]
        dice = "  ".join(f"{region} {summary.dice:.3f}" for region, summary in summarise(rows).items())
        logger.info("validation  mean Dice %.3f  %s  best %.3f", mean, dice, engine.state.best_metric)
        with explain_full_disk(self.path, last_checkpoint_note(self.path.parent / "checkpoints")):
            write_scores(self.path, rows, mean_dice=mean, epoch=engine.state.epoch)


class SaveValidationSegmentations:
    """Handler of the evaluator that writes ``<output_dir>/<case_id>.nii.gz`` for every case, with BraTS 2020's labels.

    A segmentation that was changed since, or that brats3d did not write, is kept, with a warning.

    The evaluator's volumes are reoriented and cropped. Their affine defines their position. No record of the
    transforms is needed; cached cases have none.

    Args:
        output_dir: folder of the segmentations.
        cases: the datalist items.
    """

    def __init__(self, output_dir: str | Path, cases: Sequence[Mapping[str, Any]]) -> None:
        self.output_dir = Path(output_dir)
        self.images = {case.case_id: case.images for case in map(item_to_case, cases)}
        self._files = WrittenFiles(output_dir)
        self._kept: set[str] = set()

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.STARTED, self._prepare)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def _prepare(self, engine: Engine) -> None:
        writable_folder(self.output_dir)
        if kept := self._files.changed(f"{case_id}.nii.gz" for case_id in self.images):
            self._keep(kept)

    def __call__(self, engine: Engine) -> None:
        """Write the batch's cases; pred is regions (3, h, w, d), and label a ``MetaTensor`` on the same grid."""
        for item, out in zip(engine.state.batch, engine.state.output, strict=True):
            case_id = str(item["case_id"])
            like = next(iter(self.images[case_id].values()))
            header = read_header(like)
            label = regions_to_labels(torch.as_tensor(out["pred"]).cpu(), BRATS2020).numpy()[0]
            whole = place_in_grid(label, np.asarray(out["label"].affine), header.affine, header.shape)
            path = self.output_dir / f"{case_id}.nii.gz"
            if path.name in self._kept:
                continue
            try:
                write_segmentation(path, whole, like, BRATS2020.name, self._files.write)
            except ChangedFileError:  # since the start
                self._keep([path.name])

    def _keep(self, names: Sequence[str]) -> None:
        self._kept.update(names)
        logger.warning(
            "%s in %s: kept, since they were changed or are not brats3d's; the scores are those of the new predictions",
            name_some(names),
            self.output_dir,
        )


def place_in_grid(label: np.ndarray, affine: np.ndarray, grid: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Undo the reorientation and cropping of a volume; voxels outside the crop are 0.

    Args:
        label: the cropped volume, shape (h, w, d), in any of the 48 orientations.
        affine: (4, 4) voxel -> mm of the cropped volume.
        grid: (4, 4) voxel -> mm of the whole volume.
        shape: shape of the whole volume, (H, W, D).

    Raises:
        ValueError: if the cropped volume's voxels are not voxels of the whole volume.
    """
    to_grid = np.linalg.inv(grid) @ affine
    turn, start = to_grid[:3, :3], to_grid[:3, 3]
    corners = np.stack([start, start + turn @ (np.array(label.shape) - 1)])
    low, high = np.rint(corners.min(0)).astype(int), np.rint(corners.max(0)).astype(int) + 1
    steps = np.sort(np.abs(turn), axis=None)
    if np.abs(steps - ([0] * 6 + [1] * 3)).max() > _TOLERANCE or (low < 0).any() or (high > shape).any():
        raise ValueError(
            f"affine: expected a crop of a volume of shape {tuple(shape)}, rotated by right angles only, got "
            f"{label.shape} voxels from {low.tolist()} to {high.tolist()}"
        )
    whole = np.zeros(shape, label.dtype)
    turned = nib.orientations.apply_orientation(label, nib.orientations.io_orientation(to_grid))
    whole[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = turned
    return whole


_TOLERANCE = 1e-3
"""Largest distance between the centres of two voxels that count as the same, in voxels."""
