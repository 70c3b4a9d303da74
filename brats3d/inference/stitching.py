"""Stitch the windows of a volume on the GPU if it has room, otherwise in main memory.

MONAI stitches on the device of the image, and runs out of memory in the middle of a large volume (MONAI issues 854 and
6427).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import torch
from monai.inferers import Inferer, SlidingWindowInferer, SlidingWindowInfererAdapt
from monai.utils import fall_back_tuple
from torch import nn

from brats3d.files import free_gpu_memory, gib
from brats3d.networks import stitched_bytes, window_need

logger = logging.getLogger("brats3d")

CPU = torch.device("cpu")


class Stitcher:
    """Call an inferer with the device on which to stitch, chosen for each volume.

    If memory runs out nevertheless (another process may have taken it), the volume is predicted again and stitched
    in main memory. An inferer with a ``device``, a ``cpu_thresh`` or its own rules is called unchanged.

    Args:
        free: returns the bytes that are free on a device, or None if the choice does not matter there.
    """

    def __init__(self, free: Callable[[torch.device], int | None] = free_gpu_memory) -> None:
        self.free = free
        self._windows: dict[tuple[int, ...], tuple[int, int]] = {}
        self._logged = False

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
        if image.device.type == "cuda":
            torch.cuda.empty_cache()
        return inferer(image, predictor, device=CPU)

    def _fits(
        self, inferer: SlidingWindowInferer, image: torch.Tensor, network: nn.Module, dtype: torch.dtype, free: int
    ) -> bool:
        # The input of the network: a window, unless the inferer has another size.
        roi = getattr(inferer, "pass_size", partial(fall_back_tuple, inferer.roi_size))(image.shape[2:])
        window, out_channels = self._window((inferer.sw_batch_size, image.shape[1], *roi), network, dtype, image.device)
        stitched = stitched_bytes(image.shape, roi, out_channels)
        # Besides the stitched volume, a window must fit or, after the last one, the probabilities and regions, each as
        # large as the logits. A tenth stays free because memory is fragmented.
        fits = stitched + max(window, 2 * stitched) <= 0.9 * free
        if not fits and not self._logged:
            self._logged = True
            text = "stitching volumes in main memory: a window needs %s GiB, the volume %s GiB, %s GiB are free on %s"
            logger.info(text, gib(window), gib(3 * stitched), gib(free), image.device)
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


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Return True for an "out of memory" error, also inside an error of MONAI."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError):
            return True
        error = error.__cause__
    return False
