"""Sub-classes of tissues: coherent patches with means of their own, alike in T1 and T1ce."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from brats3d.labels import MODALITIES
from brats3d.phantoms.head import Head
from brats3d.phantoms.phantom import PhantomTensors
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.tissue_classes import add_tissue_classes, split_tumour

ON = {"class_spread": (0.1, 0.1), "class_mm": (40, 40)}


def stream(seed: int = 0) -> RandomStream:
    return RandomStream(seed, torch.device("cpu"))


def offsets(head: Head, setting: Setting, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return what the sub-classes of healthy tissue add to each sequence."""
    images = {name: torch.zeros(head.brain.shape) for name in MODALITIES}
    add_tissue_classes(stream(seed), setting, head, images)
    return images


def test_healthy_tissue_falls_into_twenty_to_forty_five_classes(atlas_head: Head, still: Setting) -> None:
    whole = replace(atlas_head, tissue=(atlas_head.tissue > 0.5).float())  # no partial volumes
    for seed in range(3):
        added = offsets(whole, replace(still, **ON), seed)
        together = torch.stack([added[name] for name in ("t1", "t2", "flair")], -1)
        pure = together[atlas_head.brain & (whole.tissue.sum(0) == 1)]
        assert 20 <= len(torch.unique(pure, dim=0)) <= 45
        assert pure.abs().max() <= 0.2 + 1e-6
        assert 0.05 < pure.std() < 0.15


def test_classes_are_coherent_and_tissues_have_classes_of_their_own(atlas_head: Head, still: Setting) -> None:
    added = offsets(atlas_head, replace(still, **ON))["t2"]
    for tissue in atlas_head.tissue[1:]:
        inside = tissue > 0.9
        both = inside[1:] & inside[:-1]
        step = (added[1:] - added[:-1]).abs()[both]
        assert (step < 0.02).float().mean() > 0.6
    grey, white = (added[tissue > 0.9] for tissue in atlas_head.tissue[1:])
    assert not torch.isin(grey.round(decimals=4).unique(), white.round(decimals=4).unique()).all()


def test_t1ce_has_the_offsets_of_t1_and_t2_has_others(atlas_head: Head, still: Setting) -> None:
    added = offsets(atlas_head, replace(still, **ON))
    assert torch.equal(added["t1"], added["t1ce"])
    assert not torch.allclose(added["t1"], added["t2"], atol=0.02)
    assert not torch.allclose(added["t2"], added["flair"], atol=0.02)


def test_nothing_is_added_if_the_step_is_off_or_there_is_no_tumour(atlas_head: Head, still: Setting) -> None:
    assert not any(image.any() for image in offsets(atlas_head, still).values())
    fractions = torch.zeros(3, 8, 8, 8)
    assert split_tumour(stream(), replace(still, **ON), fractions, 1) == ((), {})
    fractions[0, 2:6, 2:6, 2:6] = 1
    assert split_tumour(stream(), still, fractions, 1) == ((), {})


def test_each_tissue_of_a_tumour_is_split_within_the_tumour(still: Setting) -> None:
    fractions = torch.zeros(3, 40, 40, 40)
    fractions[1, 4:36, 4:36, 4:36] = 1
    fractions[:, 10:30, 10:30, 10:30] = torch.tensor([1.0, 0, 0]).view(3, 1, 1, 1)
    box, added = split_tumour(stream(), replace(still, class_spread=(0.1, 0.1), class_mm=(12, 12)), fractions, 1)
    assert box == (slice(4, 36),) * 3
    assert list(added) == list(MODALITIES)
    assert torch.equal(added["t1"], added["t1ce"])
    core = fractions[0][box] == 1
    inside, around = (added["flair"][mask].unique() for mask in (core, ~core))
    assert len(inside) in (2, 3)  # the patches are random
    assert len(around) == 3
    assert not torch.equal(inside, around)


@pytest.mark.parametrize("healthy", [0, 1])
def test_the_label_does_not_change(still_case: Callable[..., PhantomTensors], healthy: int) -> None:
    off, on = still_case(2, healthy=healthy), still_case(2, healthy=healthy, **ON)
    assert torch.equal(off.label, on.label)
    assert torch.equal(off.image == 0, on.image == 0)
    assert not torch.equal(off.image, on.image)
