"""Labels that follow what shows of a tumour."""

from __future__ import annotations

from dataclasses import replace

import torch

from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.tumour import CORE, EDEMA, ENHANCING, Tumour
from brats3d.phantoms.visible_labels import label_what_shows, measure_uptake

SEEN = Setting(least_contrast=(0.1, 0.1), least_uptake=(0.4, 0.4))
SHAPE = (40, 24, 24)


def layers(outer: int = EDEMA) -> Tumour:
    """Return 10 mm of enhancing tissue and 20 mm of another tissue, along the first axis."""
    tissue = torch.zeros(SHAPE, dtype=torch.uint8)
    tissue[:10], tissue[10:30] = ENHANCING, outer
    return Tumour(tissue, torch.zeros(SHAPE))


def label(tumour: Tumour, added: torch.Tensor, uptake: torch.Tensor | None = None, setting: Setting = SEEN):
    rng = RandomStream(0, torch.device("cpu"))
    uptake = torch.ones(SHAPE) if uptake is None else uptake
    return label_what_shows(rng, setting, tumour, {"t1": added * 0, "flair": added}, uptake, 1)


def falling(start: float, per_mm: float) -> torch.Tensor:
    return (start - per_mm * torch.arange(SHAPE[0])).clamp(min=0)[:, None, None].expand(SHAPE)


def test_edema_ends_where_it_has_faded():
    tumour = layers()
    shown = label(tumour, falling(0.5, 0.02))  # 0.1 at 20 mm
    assert torch.equal(shown[:19], tumour.tissue[:19])
    assert not shown[22:].any()


def test_a_tumour_of_little_contrast_is_labelled_where_it_is_clearest():
    tumour = layers()
    assert torch.equal(label(tumour, torch.full(SHAPE, 0.02)), tumour.tissue)
    dark = label(tumour, -falling(0.05, 0.002))  # at most 0.05, in any direction; 40 % of it at 15 mm
    assert (dark[:12] > 0).all()
    assert not dark[20:].any()


def test_a_tumour_of_which_less_than_1_ml_shows_keeps_its_label():
    tissue, added = torch.zeros(2, *SHAPE)
    tissue[:10, :10, :12], added[:5] = EDEMA, 1  # 1.2 ml, of which half shows
    tumour = Tumour(tissue.to(torch.uint8), torch.zeros(SHAPE))
    assert torch.equal(label(tumour, added), tumour.tissue)


def test_tissue_that_hardly_enhances_is_core():
    added, uptake = torch.ones(SHAPE), torch.ones(SHAPE)
    uptake[:4] = 0.3
    shown = label(layers(), added, uptake)
    assert (shown[:4] == CORE).all()
    assert (shown[4:10] == ENHANCING).all()
    assert (label(layers(), added, uptake * 0.05)[:10] == CORE).all()  # below the least contrast everywhere


def test_a_core_mostly_replaced_by_edema_is_edema():
    tumour = layers(CORE)
    thinned = torch.zeros(SHAPE)
    thinned[20:] = 0.7
    shown = label(replace(tumour, thinned=thinned, surrounding_edema=1), torch.ones(SHAPE))
    assert (shown[10:20] == CORE).all()
    assert (shown[20:30] == EDEMA).all()
    alone = replace(tumour, thinned=thinned, surrounding_edema=0)
    assert torch.equal(label(alone, torch.ones(SHAPE)), tumour.tissue)


def test_labels_are_those_of_the_grown_tumour_by_default():
    tumour = layers()
    assert label(tumour, torch.zeros(SHAPE), setting=Setting()) is tumour.tissue


def test_uptake_is_the_difference_from_the_core_less_what_lacks():
    fractions = torch.zeros(3, 4, 4, 4)
    fractions[2, :2] = 0.5
    box = (slice(0, 1), slice(None), slice(None))
    lack = torch.full((1, 4, 4), -0.1)
    uptake = measure_uptake(fractions, (0, 0, 0, 0.4, 0.5, 1.0), (box, {"t1": lack * 0, "t1ce": lack}))
    assert torch.allclose(uptake[:, 0, 0], torch.tensor([0.2, 0.3, 0, 0]))


def test_faded_tumours_of_the_generator_are_labelled_smaller(still_case):
    fading = {"has_edema": 1, "edema_fade": (1, 1)}
    whole, seen = still_case(3, **fading), still_case(3, **fading, least_contrast=(0.15, 0.15))
    assert torch.equal(whole.image, seen.image)
    assert 0.3 < (seen.label > 0).sum() / (whole.label > 0).sum() < 0.95
    assert not (seen.label[whole.label == 0]).any()
