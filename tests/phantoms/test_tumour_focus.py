"""The foci of a tumour: position, size, and the displacement of tissue."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings, strategies as st

from brats3d.phantoms.atlas import COARSE_MM, sample_atlas, to_mni
from brats3d.phantoms.named_settings import SETTINGS
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.tumour_focus import Focus, place_foci, push_tissue


def stream(seed: int = 0) -> RandomStream:
    return RandomStream(seed, torch.device("cpu"))


def focus_at(*mni: float, radius_mm: float = 18, edema_mm: float = 10, push_mm: float = 0) -> Focus:
    """Return a ball around a point in MNI coordinates (right, anterior, superior)."""
    x, y, z = torch.tensor(mni, dtype=torch.float32) - to_mni(torch.zeros(3))
    return Focus(torch.stack([-x, -y, z]), radius_mm, torch.ones(3), push_mm, edema_mm)


@given(seed=st.integers(0, 2**40), setting=st.sampled_from(list(SETTINGS)), low_grade=st.booleans())
@settings(deadline=None, max_examples=40)
def test_foci_lie_in_brain_tissue_with_sizes_from_the_setting(atlas_head, seed, setting, low_grade):
    table, coords = SETTINGS[setting], atlas_head.coords
    foci = place_foci(stream(seed), table, coords, low_grade)
    assert 1 <= len(foci) <= 4
    first = table.radius_low_mm if low_grade else table.radius_high_mm
    allowed = [first, *([table.radius_small_mm] if table.small else [])]
    allowed += [table.small_core_mm] if table.small_core else []
    assert any(low <= foci[0].radius_mm <= high for low, high in allowed)
    for focus in foci[1:]:
        assert table.radius_second_mm[0] <= focus.radius_mm <= table.radius_second_mm[1]
    for focus in foci:
        index = (focus.centre_mm / COARSE_MM + (torch.tensor(coords.shape[1:]) - 1) / 2).round().long()
        gm, wm, depth = sample_atlas(coords[:, index[0], index[1], index[2]].view(3, 1, 1, 1), COARSE_MM).flatten()
        assert gm + wm > 0.5
        assert depth > 0
        assert 0 <= focus.push_mm <= table.push[1] * focus.radius_mm


def test_small_lesions_are_small(atlas_head):
    for seed in range(20):
        focus = place_foci(stream(seed), Setting(small=1), atlas_head.coords, low_grade=True)[0]
        assert 3 <= focus.radius_mm <= 9


def test_a_small_core_lies_in_wide_edema_and_hardly_pushes(atlas_head):
    table = Setting(small_core=1, pushes=1)
    for seed in range(10):
        usual, focus = (place_foci(stream(seed), t, atlas_head.coords, False)[0] for t in (Setting(pushes=1), table))
        assert torch.equal(focus.centre_mm, usual.centre_mm)
        assert table.small_core_mm[0] <= focus.radius_mm <= table.small_core_mm[1]
        assert table.small_core_edema_mm[0] <= focus.edema_mm <= table.small_core_edema_mm[1]
        assert np.isclose(focus.push_mm / focus.radius_mm, usual.push_mm / usual.radius_mm)


def test_only_low_grade_tumours_lack_a_core_and_those_do_not_push(atlas_head):
    table = Setting(coreless=1, pushes=1)
    high, low = (place_foci(stream(3), table, atlas_head.coords, low_grade)[0] for low_grade in (False, True))
    assert (high.has_core, low.has_core, low.push_mm) == (True, False, 0)


def test_foci_lie_in_the_cerebellum_only_if_the_setting_allows_it(atlas_head):
    def in_cerebellum(seed: int, chance: float) -> bool:
        focus = place_foci(stream(seed), Setting(cerebellar=chance), atlas_head.coords, False)[0]
        _, y, z = to_mni(focus.centre_mm.view(3, 1)).flatten()
        return bool((y < -36 - COARSE_MM) & (z < -14 - COARSE_MM))

    assert not any(in_cerebellum(seed, 0) for seed in range(60))
    assert any(in_cerebellum(seed, 1) for seed in range(60))


def test_there_are_at_most_four_foci_and_more_foci_do_not_change_the_first(atlas_head):
    few, many = (
        [place_foci(stream(s), Setting(second_focus=1, more_foci=c), atlas_head.coords, False) for s in range(5)]
        for c in (0, 1)
    )
    assert {len(foci) for foci in few} == {2}
    assert {len(foci) for foci in many} == {4}
    for one, other in zip(few, many, strict=True):
        assert torch.equal(one[0].centre_mm, other[0].centre_mm)
        assert torch.equal(one[1].centre_mm, other[1].centre_mm)


def test_mass_effect_looks_up_the_atlas_nearer_to_the_centre_but_not_beyond():
    axis = (torch.arange(9) - 4.0) * 4
    coords = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    focus = Focus(torch.zeros(3), radius_mm=10, stretch=torch.ones(3), push_mm=5, edema_mm=0)
    pushed = push_tissue(coords, [focus])
    # worked by hand, on the x axis: 4 - min(4, 5 exp(-(4/16)^2)) = 0, 12 - 5 exp(-(12/16)^2) = 9.1513 …
    np.testing.assert_allclose(
        pushed[0, :, 4, 4], [-14.1606, -9.1513, -4.1060, 0, 0, 0, 4.1060, 9.1513, 14.1606], atol=2e-3
    )
    np.testing.assert_allclose(pushed[1:, :, 4, 4], 0, atol=1e-6)


def test_mass_effect_shifts_the_midline_away_from_the_tumour(atlas_head):
    head = atlas_head
    pushed = push_tissue(head.coords, [focus_at(28, 10, 20, radius_mm=25, push_mm=12)])
    midline = to_mni(head.coords)[0].abs() < COARSE_MM / 2
    level = (to_mni(head.coords)[1] - 10).abs() + (to_mni(head.coords)[2] - 20).abs() < 12
    shift_mm = to_mni(pushed)[0][midline & level].mean() - to_mni(head.coords)[0][midline & level].mean()
    assert shift_mm > 2  # tissue now at the midline was to its right, on the tumour's side
