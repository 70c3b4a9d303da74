"""Autocast, the (epoch, case) sampler, and runs that end where they should."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.inferers import SlidingWindowInferer
from torch import nn

from brats3d.errors import UsageError
from brats3d.files.shards import take_shard
from brats3d.inference.step import EvalStep
from brats3d.inference.stitching import Stitcher
from brats3d.networks import precision
from brats3d.training.distributed import distributed_device, is_helper, process_shard
from brats3d.training.train_step import TrainStep

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


def trainer_of(network: nn.Module, step: TrainStep, loss, epochs: int = 1, length: int = 1) -> SupervisedTrainer:
    return SupervisedTrainer(
        device=CPU,
        max_epochs=epochs,
        train_data_loader=[batch()] * length,
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), lr=0.1),
        loss_function=loss,
        iteration_update=step,
        decollate=False,
    )


def evaluator_of(network: nn.Module, **options) -> SupervisedEvaluator:
    return SupervisedEvaluator(device=CPU, val_data_loader=[batch()], network=network, decollate=False, **options)


@pytest.fixture(params=[True, False], ids=["bf16 CPU", "old CPU"])
def cpu_has_bfloat16(request, monkeypatch) -> bool:
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: request.param)
    return request.param


# --- the steps


@pytest.mark.parametrize("amp", [True, False])
def test_training_computes_in_bfloat16_where_the_cpu_has_it_and_the_loss_in_float32(cpu_has_bfloat16, amp):
    seen = []

    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        seen.append((type(logits), logits.dtype, type(label)))
        return nn.functional.binary_cross_entropy_with_logits(logits, label.float())

    network = Spy()
    trainer_of(network, TrainStep(amp), loss).run()
    assert network.seen == [torch.bfloat16 if amp and cpu_has_bfloat16 else torch.float32]
    assert seen == [(torch.Tensor, torch.float32, torch.Tensor)]
    assert {p.dtype for p in network.parameters()} == {torch.float32}


@pytest.mark.parametrize("amp", [True, False])
def test_evaluation_computes_in_bfloat16_where_the_cpu_has_it_and_blends_in_float32(cpu_has_bfloat16, amp):
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


def test_a_training_lowers_the_loss_and_leaves_nothing_attached_to_its_graph():
    losses = []
    loss = lambda logits, label: nn.functional.binary_cross_entropy_with_logits(logits, label.float())  # noqa: E731
    trainer = trainer_of(Spy(), TrainStep(amp=False), loss, length=20)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(e.state.output["loss"]))
    trainer.run()
    assert losses[-1] < 0.5 * losses[0]
    assert not any(value.requires_grad for value in trainer.state.output.values())


@pytest.mark.parametrize(("max_norm", "moved"), [(None, 4.0), (12, 4.0), (0.5, 0.5)])
def test_longer_gradients_are_shortened(max_norm, moved):
    network = nn.Conv3d(1, 3, 1, bias=False)
    before = network.weight.detach().clone()
    trainer = trainer_of(network, TrainStep(False, max_norm), lambda logits, _: 4 * network.weight.flatten()[0])
    trainer.optimizer = torch.optim.SGD(network.parameters(), lr=1)
    trainer.run()
    assert (before - network.weight).flatten().tolist() == pytest.approx([moved, 0, 0], rel=1e-5)


@pytest.mark.parametrize("max_norm", [None, 12])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_no_step(bad, max_norm, log):
    network, losses = Spy(), iter([1.0, bad, 1.0])
    weights = []
    trainer = trainer_of(network, TrainStep(False, max_norm), lambda logits, _: logits.mean() * next(losses), length=3)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: weights.append(network.conv.weight.detach().clone())
    )
    trainer.run()
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert weights[2].isfinite().all()
    (said,) = [r.getMessage() for r in log.records]
    assert re.fullmatch(rf"step 2 is skipped: its loss is -?{bad}; cases unknown", said)


def test_an_infinite_loss_with_a_finite_gradient_is_no_step_either(log):
    network = Spy()
    before = network.conv.weight.detach().clone()
    trainer_of(network, TrainStep(False), lambda logits, _: logits.mean() + float("inf")).run()
    assert torch.equal(before, network.conv.weight)
    assert "its loss is inf" in log.text


def test_a_finite_loss_with_a_gradient_that_is_not_is_no_step(log):
    network = Spy()
    before = network.conv.weight.detach().clone()
    trainer_of(network, TrainStep(False), lambda logits, _: (logits.mean() * 0).abs().sqrt()).run()  # slope inf * 0
    assert torch.equal(before, network.conv.weight)
    assert "step 1 is skipped: its gradient is not finite" in log.text


def test_a_step_that_is_left_out_leaves_batch_norms_statistics_as_they_were():
    network = nn.Sequential(nn.BatchNorm3d(1), Spy())
    losses, seen = iter([1.0, float("nan"), 1.0]), []
    trainer = trainer_of(network, TrainStep(False), lambda logits, _: logits.mean() * next(losses), length=3)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda e: seen.append((network[0].running_mean.clone(), int(network[0].num_batches_tracked))),
    )
    trainer.run()
    assert torch.equal(seen[0][0], seen[1][0]) and not torch.equal(seen[1][0], seen[2][0])
    assert [count for _, count in seen] == [1, 1, 2]


def test_a_step_that_is_left_out_names_its_cases(log):
    engine = trainer_of(Spy(), TrainStep(False), lambda logits, _: logits.mean() * float("nan"))
    engine.data_loader = [{**batch(), "case_id": ["BraTS20_007", "BraTS20_012"]}]
    engine.run()
    assert "cases BraTS20_007, BraTS20_012" in log.text


def test_steps_left_out_one_after_the_other_end_the_run(log):
    network, losses = Spy(), iter([float("nan")] * 2 + [1.0] + [float("nan")] * 9)
    trainer = trainer_of(
        network, TrainStep(False, patience=2), lambda logits, _: logits.mean() * next(losses), length=9
    )
    with pytest.raises(FloatingPointError, match=r"step 6 is skipped.*3 steps in a row were skipped"):
        trainer.run()
    assert all(p.isfinite().all() for p in network.parameters())


def test_dropout_is_drawn_again_by_seed_and_step():
    def drawn(seed: int, state: int) -> list[torch.Tensor]:
        network, seen = nn.Sequential(nn.Dropout(0.5), Spy()), []
        trainer = trainer_of(network, TrainStep(False, seed=seed), lambda logits, _: logits.mean(), length=3)
        trainer.optimizer = torch.optim.SGD(network.parameters(), lr=0)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.append(e.state.output["pred"].clone()))
        torch.manual_seed(state)  # as another process, or another part of the run, has left it
        trainer.run()
        return seen

    first, again, other = drawn(1, state=5), drawn(1, state=6), drawn(2, state=5)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_a_step_is_the_step_of_plain_pytorch():
    ours, plain, data = Spy(), Spy(), batch()
    loss = lambda logits, label: nn.functional.binary_cross_entropy_with_logits(logits, label.float())  # noqa: E731
    trainer_of(ours, TrainStep(amp=False), loss).run()
    loss(plain(data["image"].as_tensor()), data["label"].as_tensor()).backward()
    torch.optim.AdamW(plain.parameters(), lr=0.1).step()
    assert all(map(torch.equal, ours.parameters(), plain.parameters()))


@pytest.mark.parametrize("step", [TrainStep, EvalStep])
def test_a_string_for_amp_is_refused_since_it_would_be_true(step):
    with pytest.raises(ValueError, match="amp: expected True or False, got 'false'"):
        step(amp="false")


# --- the end of epochs and runs


@pytest.mark.parametrize(
    ("epochs", "interval", "validated"),
    [(3, 1, [1, 2, 3]), (5, 2, [2, 4, 5]), (4, 2, [2, 4]), (2, 5, [2])],
    ids=str,
)
def test_the_last_epoch_always_validates_and_only_once(toy_run, epochs, interval, validated):
    run, seen = toy_run(epochs=epochs, interval=interval), []
    run.evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.append(e.state.epoch))
    run.trainer.run()
    assert seen == validated


# --- several processes


@pytest.mark.parametrize("shard", [None, "1/1", "2/3", "3/3"])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_a_share(monkeypatch, shard, processes):
    cases, parts = list(range(29)), []
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: processes)
    for rank in range(processes):
        monkeypatch.setattr("ignite.distributed.get_rank", lambda rank=rank: rank)
        parts.append(take_shard(cases, process_shard(torch.device("cpu"), shard)))
    assert sorted(itertools.chain(*parts)) == take_shard(cases, shard)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_distributed_config_without_torchrun_is_refused(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with pytest.raises(UsageError) as caught:
        distributed_device()
    assert "torchrun" in caught.value.expected


@pytest.mark.parametrize(("rank", "helper"), [(0, False), (1, True)])
def test_every_process_but_the_first_is_a_helper(monkeypatch, rank, helper):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: rank)
    assert is_helper() is helper


def test_image_and_label_follow_a_prediction_that_was_stitched_elsewhere():
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


def test_an_evaluation_whose_gpu_has_no_room_gives_the_same_logits(log):
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
    assert "stitched in main memory" in log.text
