"""An image reader for MONAI that reads every format and header that brats3d supports."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import NibabelReader
from monai.data.utils import correct_nifti_header_if_necessary
from monai.transforms import Compose, LoadImaged
from monai.utils import ensure_tuple
from numpy.typing import DTypeLike

from brats3d.files import Header, is_image_name, nifti_image, read_volume, same_grid

logger = logging.getLogger("brats3d")


class VolumeReader(NibabelReader):
    """Read images with :func:`brats3d.files.read_volume`; the arrays and metadata are those of MONAI's own reader.

    Files on the same grid get the affine of the first one, because MONAI does not stack files whose affines
    differ by rounding. Unlike MONAI's reader, threads may share this one.

    Args:
        dtype: the dtype of the voxels, which is that of ``LoadImaged``; None = that of the files.
    """

    def __init__(self, dtype: DTypeLike = np.float32) -> None:
        super().__init__()
        self.dtype = dtype
        self.filenames = itertools.repeat("")  # the base class pairs them with the images, and needs them on GPUs only
        self._logged: set[str] = set()

    def __deepcopy__(self, memo: dict[int, Any]) -> VolumeReader:
        """Return the reader itself, so that a warning is logged once by all threads."""
        return self

    def verify_suffix(self, filename: Sequence[str] | str) -> bool:
        """Return True if all files have the names of images."""
        return all(is_image_name(Path(name).name) for name in ensure_tuple(filename))

    def read(self, data: Sequence[str] | str, **kwargs: Any) -> Any:
        """Return a nibabel image, or a list of them for several files."""
        images, grid = [], None
        for name in ensure_tuple(data):
            volume = read_volume(Path(name))
            header = volume.header
            self._log(header)
            if grid is not None and same_grid(header, grid):
                header = replace(header, affine=grid.affine)
            grid = grid or header
            images.append(correct_nifti_header_if_necessary(nifti_image(volume.values, header)))
        return images if len(images) > 1 else images[0]

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        """Return the voxels in C order and the metadata.

        MONAI converts the order and then the dtype, each of the whole volume. A plane fits into a core's cache.
        """
        array, meta = super().get_data(img)
        converted = np.empty(array.shape, self.dtype or array.dtype)
        for row in range(array.shape[-2]):
            converted[..., row, :] = array[..., row, :]
        return converted, meta

    def _log(self, header: Header) -> None:
        """Warn about a background of NaN once; the other notes were logged when the headers were checked."""
        for note in header.notes:
            if note.kind == "NaN background" and note.kind not in self._logged:
                self._logged.add(note.kind)
                logger.warning("%s: %s (this warning is not repeated for other files)", header.path, note.text)


def register_reader(transform: Compose) -> None:
    """Let the ``LoadImaged`` transforms of a pipeline read with :class:`VolumeReader`, unless they name a reader."""
    for each in transform.flatten().transforms:
        if isinstance(each, LoadImaged) and each._loader.auto_select:
            each.register(VolumeReader(each._loader.dtype))
