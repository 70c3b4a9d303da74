"""Draw the segmentation of a case on its images, for ``predict --preview``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from brats3d.cases import check_labels, find_cases, whole_labels
from brats3d.data import labels_to_regions
from brats3d.files import Writer, read_volume, to_lps
from brats3d.labels import LabelConvention


class Previews:
    """Draws cases, with the reference segmentation beside the prediction if a case has one.

    Args:
        images: case_id -> modality -> file.
        modalities: the sequences that the network gets, in order.
        convention: label convention of the predictions and the references.
    """

    def __init__(
        self, images: Mapping[str, Mapping[str, Path]], modalities: Sequence[str], convention: LabelConvention
    ) -> None:
        self.images = images
        self.modalities = modalities
        self.convention = convention
        self._labels: dict[Path, dict[Path, Path]] = {}

    def draw(self, path: Path, case_id: str, label: np.ndarray, write: Writer) -> None:
        """Write the picture of a case.

        Args:
            path: the PNG file.
            case_id: the case.
            label: voxel values, shape (H, W, D), on the grid of the images.
            write: writes the file.
        """
        from brats3d.files import save_preview  # matplotlib is imported only if a picture is drawn

        images = self.images[case_id]
        names = self.modalities if len(images) == len(self.modalities) else tuple(images)
        volumes = [read_volume(path) for path in images.values()]
        image = np.stack([to_lps(volume.values, volume.header.affine) for volume in volumes])
        pred = torch.from_numpy(to_lps(label, volumes[0].header.affine))[None]
        regions = labels_to_regions(pred, self.convention).numpy()
        ref = self._reference(case_id, image.shape[1:])
        save_preview(path, image, names, regions, ref, title=case_id, write=write)

    def _reference(self, case_id: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return the regions of the case's reference segmentation; None if there is none or it cannot be used."""
        image = next(iter(self.images[case_id].values()))
        folder = image.parent
        if folder not in self._labels:  # many cases may share a folder
            self._labels[folder] = self._find_labels(folder)
        path = self._labels[folder].get(image)
        if path is None:
            return None
        try:
            volume = read_volume(path)
            label = to_lps(volume.values, volume.header.affine)
            check_labels(label, self.convention, str(path))
            label = whole_labels(label).astype(np.uint8)
        except (ValueError, OSError):
            return None
        if label.shape != shape:
            return None
        return labels_to_regions(torch.from_numpy(label)[None], self.convention).numpy()

    def _find_labels(self, folder: Path) -> dict[Path, Path]:
        """Return image -> segmentation. A case may have another identifier if its folder is searched on its own."""
        try:
            cases = find_cases(folder, self.modalities, absent_sequences=True)
        except (ValueError, OSError):
            return {}
        return {image: case.label for case in cases if case.label for image in case.images.values()}
