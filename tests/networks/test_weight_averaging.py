"""The moving average of weights, worked out by hand."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from brats3d.errors import UsageError
from brats3d.networks.weight_averaging import AverageWeights, moving_average


def numbers(*values: float) -> list[nn.Linear]:
    layers = [nn.Linear(1, 1, bias=False) for _ in values]
    for layer, value in zip(layers, values, strict=True):
        nn.init.constant_(layer.weight, value)
    return layers


def test_early_steps_have_a_large_weight_and_later_ones_a_small_one():
    start, a, b, c = numbers(100, 1, 3, 5)
    average = moving_average(start, decay=0.25)
    average.update_parameters(a)
    assert average.module.weight.item() == 1, "nothing is left of the random start"
    average.update_parameters(b)
    second = 2 / 11 * 1 + 9 / 11 * 3
    assert average.module.weight.item() == pytest.approx(second)
    average.update_parameters(c)
    third = 0.25 * second + 0.75 * 5  # 3/12 is 0.25 too
    assert average.module.weight.item() == pytest.approx(third)
    average.update_parameters(a)
    assert average.module.weight.item() == pytest.approx(0.25 * third + 0.75), "4/13 is more than the decay"


def test_a_restored_average_continues():
    networks = numbers(0, 1, 2, 3)
    whole, part = moving_average(networks[0]), moving_average(networks[0])
    for network in networks:
        whole.update_parameters(network)
    for network in networks[:2]:
        part.update_parameters(network)
    rest = moving_average(networks[3])
    rest.load_state_dict(part.state_dict())
    for network in networks[2:]:
        rest.update_parameters(network)
    assert rest.module.weight.item() == whole.module.weight.item()
    assert rest.n_averaged == 4


def test_the_trained_network_is_unchanged():
    network, other = numbers(1, 2)
    average = moving_average(network)
    average.update_parameters(network)
    average.update_parameters(other)
    assert network.weight.item() == 1
    assert network.weight.requires_grad


def test_the_average_is_updated_after_every_step():
    network = numbers(0)[0]
    average = moving_average(network)

    def step(engine: Engine, batch: int) -> None:
        nn.init.constant_(network.weight, batch)

    engine = Engine(step)
    AverageWeights(average, network).attach(engine)
    engine.run([1, 2, 3])
    assert average.n_averaged == 3
    assert 2 < average.module.weight.item() < 3


@pytest.mark.parametrize("decay", [-0.1, 1, 1.5])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(UsageError) as error:
        moving_average(nn.Linear(1, 1), decay)
    assert (error.value.subject, error.value.found) == ("ema_decay", decay)


def test_gradients_do_not_reach_the_average():
    network = nn.Linear(1, 1)
    average = moving_average(network)
    network(torch.ones(1, 1)).sum().backward()
    average.update_parameters(network)
    assert all(p.grad is None for p in average.module.parameters())
