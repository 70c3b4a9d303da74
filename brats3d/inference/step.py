"""MONAI's evaluator with bfloat16 on CPU and CUDA."""

from __future__ import annotations

import torch
from monai.engines import Evaluator
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys

from brats3d.inference.stitching import Stitcher
from brats3d.networks import autocast, check_flag, compute_dtype


class EvalStep:
    """``iteration_update`` of a ``SupervisedEvaluator``: the inferer over the volume, windows under autocast.

    Windows are blended in float32 whatever the network computes in. A volume that a GPU has no room for is stitched in
    main memory; see :mod:`brats3d.inference.stitching`.

    Args:
        amp: run the network in bfloat16 where it is safe (torch.autocast); False is float32 throughout.
        stitcher: decides where.
    """

    def __init__(self, amp: bool = True, stitcher: Stitcher | None = None) -> None:
        self.amp = check_flag("amp", amp)
        self.stitcher = stitcher or Stitcher()

    def __call__(self, engine: Evaluator, batchdata: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Image (B, C, H, W, D) -> pred, logits (B, 3, H, W, D) with its affine. Returns image, label and pred.

        All three are on one device, that on which the volume was stitched.
        """
        image, label = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking)
        engine.state.output = {Keys.IMAGE: image, Keys.LABEL: label}

        def logits_of(window: torch.Tensor) -> torch.Tensor:
            with autocast(window.device, self.amp):
                return engine.network(window).float()

        with engine.mode(engine.network):
            dtype = compute_dtype(image.device, self.amp)
            pred = self.stitcher(engine.inferer, image, logits_of, engine.network, dtype)
        if pred.device != image.device:
            output = engine.state.output
            engine.state.output = {key: None if t is None else t.to(pred.device) for key, t in output.items()}
        engine.state.output[Keys.PRED] = pred
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output
