"""Choose how to predict a volume, and where, so that it fits into memory.

A whole brain in one pass if there is room, otherwise sliding windows. These are stitched on the GPU if it has room,
otherwise in main memory: MONAI stitches on the device of the image, and runs out of memory in the middle of a large
volume (MONAI issues 854 and 6427).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch
from monai.inferers import Inferer, SlidingWindowInferer, SlidingWindowInfererAdapt
from monai.utils import fall_back_tuple
from torch import nn

from brats3d.files import free_gpu_memory, free_memory, gib
from brats3d.networks import BRAIN, MAX_VOXELS, BrainInferer, stitched_bytes, window_need

logger = logging.getLogger("brats3d")

CPU = torch.device("cpu")


class Stitcher:
    """Call an inferer, or the sliding windows of a :class:`brats3d.networks.BrainInferer`, as each volume requires.

    If memory runs out nevertheless (another process may have taken it), the volume is predicted again: by sliding
    windows, or stitched in main memory. An inferer with a ``device``, a ``cpu_thresh`` or its own rules is called
    unchanged.

    Args:
        free: returns the bytes that are free on a device, or None if the choice does not matter there.
    """

    def __init__(self, free: Callable[[torch.device], int | None] = free_gpu_memory) -> None:
        self.free = free
        self._windows: dict[tuple[int, ...], tuple[int, int]] = {}
        self._logged: set[str] = set()

    def __call__(
        self,
        inferer: Inferer,
        image: torch.Tensor,
        predictor: Callable[[torch.Tensor], torch.Tensor],
        network: nn.Module,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """Return the logits (B, C, H, W, D) of an image, on its device or on the CPU.

        Args:
            inferer: an inferer of MONAI.
            image: shape (B, C, H, W, D).
            predictor: returns the logits of a window.
            network: the network behind the predictor.
            dtype: the dtype in which it computes.
        """
        if isinstance(inferer, BrainInferer):
            if self._fits_in_one_pass(inferer, image, network, dtype):
                try:
                    return inferer(image, predictor)
                except RuntimeError as error:
                    if not _is_out_of_memory(error):
                        raise
                logger.warning("%s is out of memory: repeating the case with sliding windows", image.device)
                _empty_cache(image.device)
            inferer = inferer.windows
        free = self.free(image.device)
        if free is None or not _device_is_open(inferer):
            return inferer(image, predictor)
        if not self._fits(inferer, image, network, dtype, free):
            return inferer(image, predictor, device=CPU)
        try:
            return inferer(image, predictor, device=image.device)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
        logger.warning("%s is out of memory: repeating the case, stitched in main memory", image.device)
        _empty_cache(image.device)
        return inferer(image, predictor, device=CPU)

    def _fits_in_one_pass(
        self, inferer: BrainInferer, image: torch.Tensor, network: nn.Module, dtype: torch.dtype
    ) -> bool:
        """Return True if a volume can be predicted in one pass; log once if not, although it should be."""
        shape = image.shape[2:]
        size, roi = inferer.pass_size(shape), inferer.roi_size(shape)
        if size is None:
            if inferer.window == BRAIN:
                self._log_windows(shape, roi, f"one pass is limited to {MAX_VOXELS} voxels")
            else:
                self._log_once(logging.INFO, "window: sliding windows of %s voxels", roi)
            return False
        window, out_channels = self._window((*image.shape[:2], *roi), network, dtype, image.device)
        # One pass needs no more bytes per voxel than a window. Afterwards there are logits, probabilities and regions.
        need = max(window * math.prod(size) // math.prod(roi), 3 * 4 * out_channels * math.prod(shape))
        free = self.free(image.device)
        free = free_memory() if free is None else free
        if need > 0.9 * free:  # a tenth stays free because memory is fragmented
            self._log_windows(shape, roi, f"one pass needs {gib(need)} GiB, {gib(free)} GiB are free on {image.device}")
            return False
        self._log_once(logging.INFO, "window: the brain in one pass, with the statistics of windows of %s voxels", roi)
        return True

    def _log_windows(self, shape: torch.Size, roi: tuple[int, ...], reason: str) -> None:
        text = "volumes such as one of %s voxels are predicted by sliding windows of %s: %s"
        self._log_once(logging.WARNING, text, tuple(shape), roi, reason)

    def _log_once(self, level: int, text: str, *arguments: object) -> None:
        if text not in self._logged:
            self._logged.add(text)
            logger.log(level, text, *arguments)

    def _fits(
        self, inferer: SlidingWindowInferer, image: torch.Tensor, network: nn.Module, dtype: torch.dtype, free: int
    ) -> bool:
        roi = fall_back_tuple(inferer.roi_size, image.shape[2:])
        window, out_channels = self._window((inferer.sw_batch_size, image.shape[1], *roi), network, dtype, image.device)
        stitched = stitched_bytes(image.shape, roi, out_channels)
        # Besides the stitched volume, a window must fit or, after the last one, the probabilities and regions, each as
        # large as the logits. A tenth stays free because memory is fragmented.
        fits = stitched + max(window, 2 * stitched) <= 0.9 * free
        if not fits:
            text = "stitching volumes in main memory: a window needs %s GiB, the volume %s GiB, %s GiB are free on %s"
            self._log_once(logging.INFO, text, gib(window), gib(3 * stitched), gib(free), image.device)
        return fits

    def _window(
        self, shape: tuple[int, ...], network: nn.Module, dtype: torch.dtype, device: torch.device
    ) -> tuple[int, int]:
        """Return the bytes that a window needs and the number of channels of its logits."""
        if shape not in self._windows:
            bare = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
            try:
                need = window_need(bare, shape, dtype)
                self._windows[shape] = need.on(device), need.output_shape[1]
            except Exception as error:  # it computes with values; running out of memory still repeats the case
                logger.debug("cannot estimate the memory of a window: %s", error)
                self._windows[shape] = 0, shape[1]
        return self._windows[shape]


def _device_is_open(inferer: Inferer) -> bool:
    return (
        isinstance(inferer, SlidingWindowInferer)
        and not isinstance(inferer, SlidingWindowInfererAdapt)
        and inferer.device is None
        and inferer.cpu_thresh is None
    )


def _empty_cache(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Return True for an "out of memory" error, also inside an error of MONAI."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):  # on a GPU, on a CPU
            return True
        error = error.__cause__
    return False
