"""The head around a brain: layers in the right order, air all around, eyes in front."""

from __future__ import annotations

from functools import cache
from itertools import groupby

import numpy as np
import torch

from brats3d.phantoms.head import SIZES, place_head
from brats3d.phantoms.phantom import make_phantom_tensors
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.raw_head import Material, RawHead, build_head
from brats3d.phantoms.settings import Setting

UNMOVED = Setting(rotation_deg=(0, 0), scale=(0.9, 0.9), shift_mm=(0, 0), warp_mm=(0, 0), strip_mm=(0, 0))


def round_head(voxel_mm: int) -> RawHead:
    """Return the head around a sphere of 70 mm."""
    shape = [n * 4 // voxel_mm for n in (48, 48, 40)]
    axes = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * voxel_mm for n in shape], indexing="ij", sparse=True)
    brain = sum(axis**2 for axis in axes) < 70**2
    coords = place_head(stream(), UNMOVED, SIZES["small"])
    return build_head(stream(), brain, coords, voxel_mm)


def stream() -> RandomStream:
    return RandomStream(0, torch.device("cpu"))


@cache
def small_head() -> tuple[RawHead, np.ndarray]:
    tensors = make_phantom_tensors(2, "small", setting=UNMOVED)
    box = tensors.box
    brain = np.zeros(SIZES["small"].shape, bool)
    brain[tuple(slice(a, a + n) for a, n in zip(box.start, box.shape, strict=True))] = tensors.image[0] != 0
    return build_head(stream(), brain, tensors.coords, 4), brain


def test_the_layers_above_the_brain_come_in_order_and_with_plausible_thickness():
    head = round_head(1)
    middle = [a + n * 2 for a, n in zip(head.start, (48, 48, 40), strict=True)]
    line = head.materials[middle[0], middle[1], middle[2] :]  # upwards from the middle of the brain
    layers = [(Material(k).name, len(list(run))) for k, run in groupby(line)]
    names = [name for name, _ in layers if name not in ("CSF", "MUSCLE")]  # which may be thinner than a voxel
    assert names == ["BRAIN", "DURA", "BONE", "MARROW", "BONE", "FAT", "SKIN", "AIR"]
    thickness = sum(count for name, count in layers if name not in ("BRAIN", "AIR"))
    assert 12 <= thickness <= 22


def test_the_brain_stays_as_it_is_and_is_enclosed():
    head, brain = small_head()
    part = head.materials[head.part(brain.shape)]
    np.testing.assert_array_equal(part == Material.BRAIN, brain)
    assert (head.materials == Material.BRAIN).sum() == brain.sum()
    for axis in (0, 1):
        assert not head.materials.take([0, -1], axis).any()
    assert not head.materials[..., -1].any()


def test_the_neck_leaves_the_canvas_at_its_lower_end():
    head, _ = small_head()
    assert 10 < head.materials[..., 0].any(1).sum() * 4 / 10 < 16  # width in cm
    assert (head.materials[..., 0] == Material.CORD).any()


def test_two_eyes_lie_in_front_of_the_temporal_lobes():
    head, brain = small_head()
    x, y, z = np.nonzero(head.materials == Material.EYE)
    _, front, below = head.start
    assert set(np.sign(x - (head.materials.shape[0] - 1) / 2)) == {-1, 1}
    assert y.mean() < front + np.nonzero(brain)[1].mean() - 40 / 4  # LPS: the face has low indices
    assert z.mean() < below + np.nonzero(brain)[2].mean()
    assert len(x) * 4**3 / 1000 < 20  # ml
