"""The random streams of phantoms, and the noise made from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from brats3d.phantoms.random_numbers import RandomStream

CPU = torch.device("cpu")


def test_the_same_seed_draws_the_same_numbers_and_noise():
    one, two = RandomStream(7, CPU), RandomStream(7, CPU)
    assert [one.uniform(0, 1), one.normal(1), one.integer(9), one.chance(0.5)] == [
        two.uniform(0, 1),
        two.normal(1),
        two.integer(9),
        two.chance(0.5),
    ]
    assert torch.equal(one.white_noise((3, 4)), two.white_noise((3, 4)))
    assert torch.equal(one.vector(-1, 1), two.vector(-1, 1))
    assert RandomStream(8, CPU).uniform(0, 1) != RandomStream(7, CPU).uniform(0, 1)


def test_drawing_from_a_substream_does_not_affect_its_parent():
    with_step, without = RandomStream(7, CPU), RandomStream(7, CPU)
    own = with_step.substream("cyst")
    own.uniform(0, 1)
    own.white_noise((5,))
    assert with_step.uniform(0, 1) == without.uniform(0, 1)
    assert torch.equal(with_step.white_noise((4,)), without.white_noise((4,)))


def test_substreams_differ_by_name_and_seed():
    first = {RandomStream(seed, CPU).substream(step).uniform(0, 1) for seed in (1, 2) for step in ("cyst", "shell")}
    first |= {RandomStream(seed, CPU).uniform(0, 1) for seed in (1, 2)}
    assert len(first) == 6
    assert RandomStream(1, CPU).substream("cyst").uniform(0, 1) == RandomStream(1, CPU).substream("cyst").uniform(0, 1)


@given(seed=st.integers(0, 2**40), low=st.floats(0.01, 10), factor=st.floats(1.01, 100))
@settings(deadline=None, max_examples=30)
def test_numbers_stay_within_their_range(seed, low, factor):
    draw, high = RandomStream(seed, CPU), low * factor
    assert low <= draw.uniform(low, high) <= high
    assert low * 0.999 <= draw.log_uniform(low, high) <= high * 1.001
    assert 0 <= draw.integer(3) < 3
    assert not draw.chance(0)
    assert draw.chance(1)


def test_log_uniform_is_uniform_on_a_logarithmic_scale():
    draw = RandomStream(0, CPU)
    below = np.mean([draw.log_uniform(1, 100) < 10 for _ in range(2000)])
    assert below == pytest.approx(0.5, abs=0.04)


def test_fractal_noise_has_the_given_length():
    draw = RandomStream(0, CPU)
    fine, coarse = (draw.fractal_noise((48, 48, 48), lengths, 1) for lengths in ((4, 2), (24, 12)))
    for noise in (fine, coarse):
        assert noise.shape == (48, 48, 48)
        assert abs(float(noise.mean())) < 0.5
        assert 0.55 < float(noise.std()) < 1  # 1 at the nodes
    steps = [float((noise[1:] - noise[:-1]).std()) for noise in (fine, coarse)]
    assert steps[0] > 3 * steps[1]


def test_smooth_noise_is_linear_between_nodes():
    noise = RandomStream(0, CPU).smooth_noise((41, 5, 5), 20)  # nodes at 0, 40/3, 80/3 and 40 along the first axis
    bends = (noise[2:] - 2 * noise[1:-1] + noise[:-2]).abs().amax((1, 2))
    assert {i + 1 for i in range(len(bends)) if bends[i] > 1e-4} <= {13, 14, 26, 27}
