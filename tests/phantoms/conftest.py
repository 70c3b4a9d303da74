"""Cases without noise and blur, in which one step at a time is switched on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch

from brats3d.labels import MODALITIES
from brats3d.phantoms.head import SIZES, Head, find_brain_box, place_head, sample_tissue, strip_skull
from brats3d.phantoms.phantom import PhantomTensors, make_phantom_tensors
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting

UNMOVED = {"rotation_deg": (0, 0), "scale": (1, 1), "shift_mm": (0, 0), "warp_mm": (0, 0)}
"""Leave the atlas as it is."""


@pytest.fixture
def still() -> Setting:
    """A setting whose voxels have the brightness of their tissue."""
    off = (0, 0)
    return Setting(texture=off, bias=off, noise=off, blurred=0, faint=0, vessel_gain=off, spot_gain=off, gamma=(1, 1))


@cache
def _make_case(setting: Setting, seed: int) -> PhantomTensors:
    return make_phantom_tensors(seed, "small", setting=setting)


@pytest.fixture
def still_case(still: Setting) -> Callable[..., PhantomTensors]:
    """``still_case(seed, **steps)``: a small still case with these steps changed."""
    return lambda seed, **steps: _make_case(replace(still, **steps), seed)


@pytest.fixture
def unmoved_case(still_case: Callable[..., PhantomTensors]) -> Callable[..., PhantomTensors]:
    """``unmoved_case(seed, **steps)``: the same in the head of the atlas, which no tumour displaces."""
    return lambda seed, **steps: still_case(seed, **UNMOVED, pushes=0, **steps)


@pytest.fixture
def added() -> Callable[[PhantomTensors, PhantomTensors, str], torch.Tensor]:
    """``added(off, on, sequence)``: by how much ``on`` is brighter, relative to the mean of ``off``."""

    def compare(off: PhantomTensors, on: PhantomTensors, name: str) -> torch.Tensor:
        a, b = off.image[MODALITIES.index(name)], on.image[MODALITIES.index(name)]
        inside = a != 0
        scale = (b[inside] / a[inside]).median()  # undoes the scaling to a mean, since most voxels are unchanged
        return torch.where(inside, b / scale - a, 0) / a[inside].mean()

    return compare


@pytest.fixture(scope="session")
def atlas_head() -> Head:
    """The head of the atlas, not moved, sharpened, without a tumour."""
    rng = lambda: RandomStream(0, torch.device("cpu"))  # noqa: E731
    setting = Setting(**UNMOVED, strip_mm=(0, 0), sharpness=(2, 2))
    coords = place_head(rng(), setting, SIZES["small"])
    box = find_brain_box(coords, SIZES["small"].voxel_mm)
    brain, skull = strip_skull(rng(), setting, coords, box)
    return Head(box, brain, skull, sample_tissue(rng(), setting, coords, box), coords)
