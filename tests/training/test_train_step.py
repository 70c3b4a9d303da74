"""A training step: its precision, clipping, and what happens if it is not finite."""

from __future__ import annotations

import re

import pytest
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.engines import SupervisedTrainer
from torch import nn

from brats3d.inference.eval_step import EvalStep
from brats3d.networks import precision
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


@pytest.fixture(params=[True, False], ids=["bf16 CPU", "old CPU"])
def cpu_has_bfloat16(request, monkeypatch) -> bool:
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: request.param)
    return request.param


@pytest.mark.parametrize("amp", [True, False])
def test_training_computes_in_bfloat16_if_the_cpu_has_it_and_the_loss_in_float32(cpu_has_bfloat16, amp):
    seen = []

    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        seen.append((type(logits), logits.dtype, type(label)))
        return nn.functional.binary_cross_entropy_with_logits(logits, label.float())

    network = Spy()
    trainer_of(network, TrainStep(amp), loss).run()
    assert network.seen == [torch.bfloat16 if amp and cpu_has_bfloat16 else torch.float32]
    assert seen == [(torch.Tensor, torch.float32, torch.Tensor)]
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_training_lowers_the_loss_and_detaches_its_output():
    losses = []
    loss = lambda logits, label: nn.functional.binary_cross_entropy_with_logits(logits, label.float())  # noqa: E731
    trainer = trainer_of(Spy(), TrainStep(amp=False), loss, length=20)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(e.state.output["loss"]))
    trainer.run()
    assert losses[-1] < 0.5 * losses[0]
    assert not any(value.requires_grad for value in trainer.state.output.values())


@pytest.mark.parametrize(("max_norm", "moved"), [(None, 4.0), (12, 4.0), (0.5, 0.5)])
def test_gradients_are_clipped_to_max_norm(max_norm, moved):
    network = nn.Conv3d(1, 3, 1, bias=False)
    before = network.weight.detach().clone()
    trainer = trainer_of(network, TrainStep(False, max_norm), lambda logits, _: 4 * network.weight.flatten()[0])
    trainer.optimizer = torch.optim.SGD(network.parameters(), lr=1)
    trainer.run()
    assert (before - network.weight).flatten().tolist() == pytest.approx([moved, 0, 0], rel=1e-5)


@pytest.mark.parametrize("max_norm", [None, 12])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_with_a_loss_that_is_not_finite_is_skipped(bad, max_norm, log):
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
    (line,) = [r.getMessage() for r in log.records]
    assert re.fullmatch(rf"step 2 is skipped: its loss is -?{bad}; cases unknown", line)


def test_a_step_with_an_infinite_loss_and_a_finite_gradient_is_skipped(log):
    network = Spy()
    before = network.conv.weight.detach().clone()
    trainer_of(network, TrainStep(False), lambda logits, _: logits.mean() + float("inf")).run()
    assert torch.equal(before, network.conv.weight)
    assert "its loss is inf" in log.text


def test_a_step_with_a_gradient_that_is_not_finite_is_skipped(log):
    network = Spy()
    before = network.conv.weight.detach().clone()
    trainer_of(network, TrainStep(False), lambda logits, _: (logits.mean() * 0).abs().sqrt()).run()  # slope inf * 0
    assert torch.equal(before, network.conv.weight)
    assert "step 1 is skipped: its gradient is not finite" in log.text


def test_a_skipped_step_does_not_change_the_statistics_of_batch_norm():
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


def test_the_warning_about_a_skipped_step_names_its_cases(log):
    engine = trainer_of(Spy(), TrainStep(False), lambda logits, _: logits.mean() * float("nan"))
    engine.data_loader = [{**batch(), "case_id": ["BraTS20_007", "BraTS20_012"]}]
    engine.run()
    assert "cases BraTS20_007, BraTS20_012" in log.text


def test_too_many_skipped_steps_in_a_row_end_the_run(log):
    network, losses = Spy(), iter([float("nan")] * 2 + [1.0] + [float("nan")] * 9)
    trainer = trainer_of(
        network, TrainStep(False, patience=2), lambda logits, _: logits.mean() * next(losses), length=9
    )
    with pytest.raises(FloatingPointError, match=r"step 6 is skipped.*3 steps in a row were skipped"):
        trainer.run()
    assert all(p.isfinite().all() for p in network.parameters())


def test_dropout_depends_on_seed_and_step_alone():
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


def test_a_step_equals_that_of_plain_pytorch():
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


def test_with_deep_supervision_all_resolutions_are_trained_and_the_full_one_is_the_output():
    class Deep(Spy):
        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
            return [super().forward(image), nn.functional.avg_pool3d(self.conv(image), 2)]

    network, seen = Deep(), []
    loss = lambda logits, label: seen.append((logits.shape[2:], label.shape[2:])) or logits.mean()  # noqa: E731
    trainer = trainer_of(network, TrainStep(amp=False), loss)
    trainer.run()
    assert seen == [((4, 4, 4),) * 2, ((2, 2, 2),) * 2]
    assert trainer.state.output["pred"].shape == (2, 3, 4, 4, 4)
