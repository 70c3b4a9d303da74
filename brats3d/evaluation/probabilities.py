"""Save the probabilities of the regions as the networks predict them, before post-processing and calibration.

A case's file is ``<output_dir>/probabilities/<case_id>.npz``, compressed by NumPy. Its array ``probabilities`` is
float16, (3, H, W, D), with the channels TC, WT, ET, on the grid of the case's images.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from brats3d.cases import item_to_case
from brats3d.errors import DataError
from brats3d.evaluation.validation_handlers import place_in_grid
from brats3d.files import (
    Writer,
    WrittenFiles,
    first_line,
    read_header,
    remove_temporary,
    writable_folder,
    write_whole,
)
from brats3d.labels import REGIONS

PROBABILITIES = "probabilities"
"""The folder of the files, in that of the output."""

MAX_BYTES = 2 * len(REGIONS) * 2**28
"""Size limit of an array: volumes have at most 2^28 voxels."""


def write_probabilities(path: str | Path, probabilities: np.ndarray, write: Writer = write_whole) -> Path:
    """Write the probabilities of a case.

    Args:
        path: the ``.npz`` file.
        probabilities: shape (3, H, W, D), in the order of :data:`brats3d.labels.REGIONS`, on the grid of the images.
        write: writes the file.
    """
    values = probabilities.astype(np.float16, copy=False)
    return write(Path(path), lambda file: np.savez_compressed(file, probabilities=values))


def read_probabilities(path: str | Path) -> np.ndarray:
    """Return the probabilities of a case: float16, (3, H, W, D), in the order of :data:`brats3d.labels.REGIONS`.

    Raises:
        FileNotFoundError: if the file does not exist.
        DataError: if it is damaged or holds anything else.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > MAX_BYTES + 1024:
                raise ValueError(f"more than {MAX_BYTES:,} bytes")
        with np.load(path, allow_pickle=False) as content:
            probabilities = content["probabilities"]
    except FileNotFoundError:
        raise
    except Exception as error:  # what a damaged archive raises depends on the damage
        raise DataError(path, f"cannot be read ({first_line(error)})", advice="write it again") from error
    if probabilities.dtype != np.float16 or probabilities.ndim != 4 or len(probabilities) != len(REGIONS):
        found = f"{probabilities.dtype} {probabilities.shape}"
        raise DataError(path, expected=f"float16 of shape ({len(REGIONS)}, H, W, D)", found=found)
    return probabilities


class BatchProbabilities:
    """Evaluator handler that keeps the probabilities of the batch: logits are gone after post-processing.

    They are kept as float16 on the cropped grid of the network's input: 20 MB of a brain.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator: its logits are post-processed after this event."""
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Keep the batch instead of the one before: ``image``, a ``MetaTensor``, and ``pred``, (B, 3, h, w, d)."""
        image, logits = engine.state.output["image"], engine.state.output["pred"]
        self._kept = {
            str(case_id): (torch.as_tensor(each.sigmoid().half()).cpu().numpy(), np.asarray(volume.affine))
            for case_id, volume, each in zip(engine.state.batch["case_id"], image, logits, strict=True)
        }

    def cropped(self, case_id: str) -> np.ndarray:
        """Return the probabilities of a case of the batch on the grid of the network's input: float16, (3, h, w, d)."""
        return self._kept[case_id][0]

    def whole(self, case_id: str, image: Path) -> np.ndarray:
        """Return the probabilities of a case of the batch: float16, (3, H, W, D), 0 outside the crop.

        Args:
            case_id: the case.
            image: one of its images, which defines the grid.
        """
        header, (cropped, affine) = read_header(image), self._kept[case_id]
        return np.stack([place_in_grid(region, affine, header.affine, header.shape) for region in cropped])

    def write(self, case_id: str, image: Path, output_dir: Path, write: Writer) -> None:
        """Write the file of a case of the batch.

        Args:
            case_id: the case.
            image: one of its images.
            output_dir: the folder of the output.
            write: writes the file.
        """
        write_probabilities(output_dir / PROBABILITIES / f"{case_id}.npz", self.whole(case_id, image), write)


class SaveProbabilities:
    """Evaluator handler that writes ``<output_dir>/probabilities/<case_id>.npz`` for every case.

    Args:
        output_dir: folder of the run.
        cases: the datalist items.
    """

    def __init__(self, output_dir: str | Path, cases: Sequence[Mapping[str, Any]]) -> None:
        self.output_dir = Path(output_dir)
        self.images = {case.case_id: case.images for case in map(item_to_case, cases)}
        self._batch = BatchProbabilities()
        self._files = WrittenFiles(self.output_dir / PROBABILITIES)

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.STARTED, self._prepare)
        self._batch.attach(engine)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def _prepare(self, engine: Engine) -> None:
        remove_temporary(writable_folder(self._files.folder))
        self._files.check_replaceable(f"{case_id}.npz" for case_id in self.images)

    def __call__(self, engine: Engine) -> None:
        """Write the cases of the batch."""
        for item in engine.state.batch:
            case_id = str(item["case_id"])
            image = next(iter(self.images[case_id].values()))
            self._batch.write(case_id, image, self.output_dir, self._files.write)
