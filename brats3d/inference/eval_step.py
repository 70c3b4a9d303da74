"""Steps for MONAI's evaluator: inference in bfloat16 on CPU and CUDA, and failures that stop only their own case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.engines import Evaluator
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys

from brats3d.files import Failures
from brats3d.inference.averaging import Averaging
from brats3d.inference.stitching import Stitcher
from brats3d.networks import autocast, check_flag, compute_dtype


class EvalStep:
    """``iteration_update`` of a ``SupervisedEvaluator``: run the inferer over a volume under autocast.

    Windows are blended in float32 in any case. A volume that does not fit on the GPU is stitched in main memory; see
    :mod:`brats3d.inference.stitching`.

    Args:
        amp: run the network in bfloat16 where that is safe (torch.autocast); False = float32 throughout.
        stitcher: chooses the device for stitching.
        averaging: averages several passes; None = one pass.

    Raises:
        UsageError: if ``amp`` is not a bool.
    """

    def __init__(self, amp: bool = True, stitcher: Stitcher | None = None, averaging: Averaging | None = None) -> None:
        self.amp = check_flag("amp", amp)
        self.stitcher = stitcher or Stitcher()
        self.averaging = averaging or Averaging()

    def __call__(self, engine: Evaluator, batchdata: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Predict the logits of a batch.

        Args:
            engine: the evaluator.
            batchdata: ``image`` (B, C, H, W, D) and perhaps ``label``.

        Returns:
            ``image``, ``label`` and ``pred``, logits (B, 3, H, W, D) with the affine of the image; all on the device
            on which the volume was stitched.
        """
        image, label = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking)
        engine.state.output = {Keys.IMAGE: image, Keys.LABEL: label}

        def logits_of(window: torch.Tensor) -> torch.Tensor:
            return engine.network(window).float()

        def predict(volume: torch.Tensor) -> torch.Tensor:
            # A context for each pass: autocast keeps copies of the weights, which may be another network's in the next.
            with autocast(volume.device, self.amp):
                dtype = compute_dtype(volume.device, self.amp)
                return self.stitcher(engine.inferer, volume, logits_of, engine.network, dtype)

        with engine.mode(engine.network):
            pred = self.averaging(predict, image, engine.network)
        if pred.device != image.device:
            output = engine.state.output
            engine.state.output = {key: None if t is None else t.to(pred.device) for key, t in output.items()}
        engine.state.output[Keys.PRED] = pred
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output


class CatchFailures:
    """``iteration_update`` of an evaluator that records a case as failed if another step raises, and continues.

    This covers the network, the windows and the post-processing. Handlers then see an empty batch.

    Args:
        step: the ``iteration_update`` that does the work.
        failures: record the cases for which it raises.
    """

    def __init__(self, step: Callable[[Evaluator, dict[str, Any]], Any], failures: Failures) -> None:
        self.step = step
        self.failures = failures

    def __call__(self, engine: Evaluator, batch: dict[str, Any]) -> Any:
        """Return the output of the step, or an empty list if it raises."""
        with self.failures.catch(batch["case_id"][0]):
            return self.step(engine, batch)
        engine.state.batch = engine.state.output = []
        if torch.cuda.is_available():  # after "out of memory", free the cache for the next case
            torch.cuda.empty_cache()
        return []
