"""Where the windows of a volume are put together: on the GPU if that has room, else in main memory.

MONAI stitches where the image is, and a large volume ends with "out of memory" half way (MONAI issues 854 and 6427).
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


def has_room(free_bytes: int, stitched: int, window: int) -> bool:
    """Whether a volume is stitched where its windows are computed.

    Beside the stitched volume there must be room for what a window takes or, after the last one, for probabilities and
    regions, each as large as the logits. A tenth stays free: memory comes in pieces.
    """
    return stitched + max(window, 2 * stitched) <= 0.9 * free_bytes


class Stitcher:
    """Calls an inferer, and tells it where to stitch.

    That is decided before each volume. Where memory runs out all the same (another process may have taken it), the
    volume is begun again and stitched in main memory, once. An inferer with a ``device``, a ``cpu_thresh`` or rules of
    its own is left alone.

    Args:
        free: bytes that are free on a device; None where nothing needs to be decided.
    """

    def __init__(self, free: Callable[[torch.device], int | None] = free_gpu_memory) -> None:
        self.free = free
        self._windows: dict[tuple[int, ...], tuple[int, int]] = {}
        self._told = False

    def __call__(
        self,
        inferer: Inferer,
        image: torch.Tensor,
        predictor: Callable[[torch.Tensor], torch.Tensor],
        network: nn.Module,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """The logits (B, C, H, W, D) of an image, on its device or on the CPU.

        Args:
            inferer: MONAI's.
            image: (B, C, H, W, D).
            predictor: gives a window's logits.
            network: that the predictor calls.
            dtype: that it computes in.
        """
        free = self.free(image.device)
        if free is None or not _may_choose(inferer):
            return inferer(image, predictor)
        if not self._fits(inferer, image, network, dtype, free):
            return inferer(image, predictor, device=CPU)
        try:
            return inferer(image, predictor, device=image.device)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
        logger.warning("%s is out of memory: the case is begun again and stitched in main memory", image.device)
        if image.device.type == "cuda":
            torch.cuda.empty_cache()
        return inferer(image, predictor, device=CPU)

    def _fits(
        self, inferer: SlidingWindowInferer, image: torch.Tensor, network: nn.Module, dtype: torch.dtype, free: int
    ) -> bool:
        # What the network is given at once: a window, or what an inferer says.
        roi = getattr(inferer, "pass_size", partial(fall_back_tuple, inferer.roi_size))(image.shape[2:])
        window, out_channels = self._window((inferer.sw_batch_size, image.shape[1], *roi), network, dtype, image.device)
        stitched = stitched_bytes(image.shape, roi, out_channels)
        fits = has_room(free, stitched, window)
        if not fits and not self._told:
            self._told = True
            text = "volumes are stitched in main memory: a window takes %s GiB, the volume %s, and %s are free on %s"
            logger.info(text, gib(window), gib(3 * stitched), gib(free), image.device)
        return fits

    def _window(
        self, shape: tuple[int, ...], network: nn.Module, dtype: torch.dtype, device: torch.device
    ) -> tuple[int, int]:
        """Bytes of a window, and how many channels its logits have."""
        if shape not in self._windows:
            bare = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
            try:
                need = window_need(bare, shape, dtype)
                self._windows[shape] = need.on(device), need.output_shape[1]
            except Exception as error:  # one that needs values; then only the second attempt helps
                logger.debug("a window's memory is not known: %s", error)
                self._windows[shape] = 0, shape[1]
        return self._windows[shape]


def _may_choose(inferer: Inferer) -> bool:
    return (
        isinstance(inferer, SlidingWindowInferer)
        and not isinstance(inferer, SlidingWindowInfererAdapt)
        and inferer.device is None
        and inferer.cpu_thresh is None
    )


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Also where MONAI has wrapped it."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError):
            return True
        error = error.__cause__
    return False
