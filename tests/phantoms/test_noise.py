"""The random streams of phantoms, and the noise and blur made from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import ndimage

from brats3d.phantoms.noise import Draw, blur, resize

CPU = torch.device("cpu")


def test_the_same_seed_draws_the_same_numbers_and_noise():
    one, two = Draw(7, CPU), Draw(7, CPU)
    assert [one.uniform(0, 1), one.normal(1), one.integer(9), one.chance(0.5)] == [
        two.uniform(0, 1),
        two.normal(1),
        two.integer(9),
        two.chance(0.5),
    ]
    assert torch.equal(one.white((3, 4)), two.white((3, 4)))
    assert torch.equal(one.vector(-1, 1), two.vector(-1, 1))
    assert Draw(8, CPU).uniform(0, 1) != Draw(7, CPU).uniform(0, 1)


def test_a_steps_own_stream_moves_no_other_stream():
    with_step, without = Draw(7, CPU), Draw(7, CPU)
    own = with_step.of("cyst")
    own.uniform(0, 1)
    own.white((5,))
    assert with_step.uniform(0, 1) == without.uniform(0, 1)
    assert torch.equal(with_step.white((4,)), without.white((4,)))


def test_streams_of_different_steps_and_seeds_differ():
    first = {Draw(seed, CPU).of(step).uniform(0, 1) for seed in (1, 2) for step in ("cyst", "shell")}
    first |= {Draw(seed, CPU).uniform(0, 1) for seed in (1, 2)}
    assert len(first) == 6
    assert Draw(1, CPU).of("cyst").uniform(0, 1) == Draw(1, CPU).of("cyst").uniform(0, 1)


@given(seed=st.integers(0, 2**40), low=st.floats(0.01, 10), factor=st.floats(1.01, 100))
@settings(deadline=None, max_examples=30)
def test_numbers_stay_between_their_ends(seed, low, factor):
    draw, high = Draw(seed, CPU), low * factor
    assert low <= draw.uniform(low, high) <= high
    assert low * 0.999 <= draw.ratio(low, high) <= high * 1.001
    assert 0 <= draw.integer(3) < 3
    assert not draw.chance(0)
    assert draw.chance(1)


def test_ratio_is_even_on_a_logarithmic_scale():
    draw = Draw(0, CPU)
    below = np.mean([draw.ratio(1, 100) < 10 for _ in range(2000)])
    assert below == pytest.approx(0.5, abs=0.04)


def test_fractal_noise_has_the_length_that_is_asked_for():
    draw = Draw(0, CPU)
    fine, coarse = (draw.fractal((48, 48, 48), lengths, 1) for lengths in ((4, 2), (24, 12)))
    for noise in (fine, coarse):
        assert noise.shape == (48, 48, 48)
        assert abs(float(noise.mean())) < 0.5
        assert 0.55 < float(noise.std()) < 1  # 1 at the nodes
    steps = [float((noise[1:] - noise[:-1]).std()) for noise in (fine, coarse)]
    assert steps[0] > 3 * steps[1]


def test_noise_between_nodes_is_linear():
    noise = Draw(0, CPU).field((41, 5, 5), 20)  # nodes at 0, 40/3, 80/3 and 40 along the first axis
    bends = (noise[2:] - 2 * noise[1:-1] + noise[:-2]).abs().amax((1, 2))
    assert {i + 1 for i in range(len(bends)) if bends[i] > 1e-4} <= {13, 14, 26, 27}


def test_resize_keeps_the_corners_and_straight_lines():
    ramp = torch.arange(4.0).view(4, 1, 1).expand(4, 3, 2)
    np.testing.assert_allclose(resize(ramp, (7, 3, 2))[:, 0, 0], [0, 0.5, 1, 1.5, 2, 2.5, 3], atol=1e-6)


def test_blur_keeps_constants_and_agrees_with_scipy_away_from_edges():
    volume = torch.randn(20, 22, 24, generator=torch.Generator().manual_seed(0))
    expected = ndimage.gaussian_filter(volume.numpy(), (0.6, 1.4, 0.9), truncate=8)
    got = blur(volume, [0.6, 1.4, 0.9]).numpy()
    np.testing.assert_allclose(got[8:-8, 8:-8, 8:-8], expected[8:-8, 8:-8, 8:-8], atol=1e-4)
    np.testing.assert_allclose(blur(torch.ones(5, 6, 7), [0, 1, 3]), 1, atol=1e-5)


def test_blur_treats_channels_alike():
    volume = torch.randn(2, 6, 7, 8, generator=torch.Generator().manual_seed(0))
    together = blur(volume, [1, 0.5, 2])
    for channel in range(2):
        np.testing.assert_allclose(together[channel], blur(volume[channel], [1, 0.5, 2]), atol=1e-6)
