"""The step of an evaluation: its precision, its affine, and logits that are stitched elsewhere."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import SlidingWindowInferer
from torch import nn

from brats3d.inference.eval_step import EvalStep
from brats3d.inference.stitching import Stitcher
from brats3d.networks import precision

CPU = torch.device("cpu")


class Spy(nn.Module):
    """A convolution that notes in which precision and mode it computes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(1, 3, 1)
        self.seen: list[torch.dtype] = []
        self.modes: set[bool] = set()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = self.conv(image)
        self.seen.append(logits.dtype)
        self.modes.add(self.training)
        return logits


def batch() -> dict:
    image = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    label = (torch.cat([image, image + 0.5, image - 0.5], dim=1) > 0).to(torch.uint8)
    return {"image": MetaTensor(image), "label": MetaTensor(label)}


def evaluator_of(network: nn.Module, **options) -> SupervisedEvaluator:
    return SupervisedEvaluator(device=CPU, val_data_loader=[batch()], network=network, decollate=False, **options)


@pytest.fixture(params=[True, False], ids=["bf16 CPU", "old CPU"])
def cpu_has_bfloat16(request, monkeypatch) -> bool:
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: request.param)
    return request.param


@pytest.mark.parametrize("amp", [True, False])
def test_evaluation_computes_in_bfloat16_if_the_cpu_has_it_and_blends_in_float32(cpu_has_bfloat16, amp):
    network = Spy()
    inferer = SlidingWindowInferer(roi_size=(4, 4, 2), overlap=0.0, mode="gaussian")
    evaluator = evaluator_of(network, iteration_update=EvalStep(amp), inferer=inferer)
    evaluator.run()
    assert network.seen and set(network.seen) == {torch.bfloat16 if amp and cpu_has_bfloat16 else torch.float32}
    pred = evaluator.state.output["pred"]
    assert pred.dtype == torch.float32 and pred.shape == (2, 3, 4, 4, 4)
    assert not pred.requires_grad and network.modes == {False}


@pytest.mark.skipif(torch.cuda.is_available(), reason="MONAI's amp works where there is CUDA")
def test_monais_own_amp_turns_itself_off_on_a_cpu():
    network = Spy()
    with pytest.warns(UserWarning, match="Disabling autocast"):
        evaluator_of(network, amp=True).run()
    assert set(network.seen) == {torch.float32}


def test_predictions_keep_the_affine_of_the_image():
    network, data = Spy(), batch()
    data["image"].affine = torch.diag(torch.tensor([-1.0, -1.0, 2.0, 1.0], dtype=torch.float64))
    evaluator = evaluator_of(network, iteration_update=EvalStep(amp=False), inferer=SlidingWindowInferer((4, 4, 4)))
    evaluator.data_loader = [data]
    evaluator.run()
    assert torch.equal(evaluator.state.output["pred"].affine, data["image"].affine)


def test_image_and_label_move_to_the_device_of_the_prediction():
    def stitch(inferer, image, predictor, network, dtype):
        return predictor(image).to("meta")  # stands for a second device

    network = Spy()
    evaluator = SupervisedEvaluator(
        device=CPU,
        val_data_loader=[batch()],
        network=network,
        iteration_update=EvalStep(amp=False, stitcher=stitch),
        decollate=False,
    )
    evaluator.run()
    assert {key: evaluator.state.output[key].device.type for key in ("image", "label", "pred")} == {
        "image": "meta",
        "label": "meta",
        "pred": "meta",
    }


def test_stitching_in_main_memory_gives_the_same_logits(log):
    def logits(stitcher):
        evaluator = SupervisedEvaluator(
            device=CPU,
            val_data_loader=[batch()],
            network=Spy(),
            inferer=SlidingWindowInferer(roi_size=(4, 4, 2), sw_batch_size=1),
            iteration_update=EvalStep(amp=False, stitcher=stitcher),
            decollate=False,
        )
        evaluator.run()
        return evaluator.state.output["pred"]

    torch.testing.assert_close(logits(Stitcher(lambda device: 10)), logits(None), rtol=0, atol=0)
    assert "in main memory" in log.text
