"""Texture of tumours from healthy tissue of the same head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from brats3d.labels import MODALITIES
from brats3d.phantoms.phantom import PhantomTensors
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.self_texture import draw_self_texture
from brats3d.phantoms.settings import Setting

HALF = {"self_texture": (0.5, 0.5)}


def stream(seed: int = 0) -> RandomStream:
    return RandomStream(seed, torch.device("cpu"))


def striped_head() -> dict[str, torch.Tensor]:
    """Return a head with stripes 4 voxels wide in T1, their opposite in T2, and an even FLAIR."""
    stripes = ((torch.arange(40) // 4) % 2 * 0.2).expand(40, 40, 40)
    return {"t1": 0.5 + stripes, "t1ce": 0.5 + stripes, "t2": 0.5 - stripes, "flair": torch.full((40, 40, 40), 0.5)}


def tumour(low: int, high: int) -> torch.Tensor:
    fractions = torch.zeros(3, 40, 40, 40)
    fractions[1, low:high, low:high, low:high] = 1
    return fractions


@pytest.mark.parametrize(("low", "high"), [(10, 34), (0, 40), (20, 21)])
def test_a_tumour_gets_the_structure_of_the_brain_in_every_sequence(still: Setting, low: int, high: int) -> None:
    for seed in range(4):
        box, added = draw_self_texture(stream(seed), replace(still, **HALF), tumour(low, high), striped_head())
        assert box == (slice(low, high),) * 3
        assert list(added) == list(MODALITIES)
        assert torch.equal(added["t1"], added["t1ce"])
        torch.testing.assert_close(added["t2"], -added["t1"], atol=1e-5, rtol=0)
        assert added["flair"].abs().max() < 1e-5
        assert abs(added["t1"].mean()) < 1e-5
        assert added["t1"].abs().max() <= 0.5 * 0.2 + 1e-5
        if high - low > 20:
            assert added["t1"].std() > 0.02


def test_fluid_does_not_outshine_the_tumour(still: Setting) -> None:
    head = {name: image * 10 for name, image in striped_head().items()}
    _, added = draw_self_texture(stream(), replace(still, **HALF), tumour(10, 34), head)
    assert added["t1"].abs().max() == pytest.approx(0.5 * 0.3)


def test_nothing_is_added_if_the_step_is_off_or_there_is_no_tumour(still: Setting) -> None:
    assert draw_self_texture(stream(), still, tumour(10, 20), striped_head()) == ((), {})
    assert draw_self_texture(stream(), replace(still, **HALF), tumour(10, 10), striped_head()) == ((), {})


def test_only_the_tumour_changes(
    still_case: Callable[..., PhantomTensors], added: Callable[[PhantomTensors, PhantomTensors, str], torch.Tensor]
) -> None:
    for seed in range(3):
        off, on = still_case(seed), still_case(seed, **HALF)
        assert torch.equal(off.label, on.label)
        for name in MODALITIES:
            assert added(off, on, name)[on.label == 0].abs().max() < 0.02
        assert added(off, on, "t2")[on.label > 0].abs().max() > 0.03
