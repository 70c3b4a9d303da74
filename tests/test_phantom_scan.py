"""The scan of a phantom: contrasts, what else is bright, and what a scanner does to an image."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brats3d import phantom_scan as module
from brats3d.labels import MODALITIES
from brats3d.phantom import Grown, grow_phantom
from brats3d.phantom_atlas import NEAR, sample_landmarks, to_mni
from brats3d.phantom_head import SIZES, place_head, refine
from brats3d.phantom_noise import Draw
from brats3d.phantom_ranges import SETTINGS, Contrasts, Ranges
from brats3d.phantom_scan import TISSUES, contrast

SETTING = st.sampled_from(list(SETTINGS))
SEED = st.integers(0, 2**40)


def draw(seed: int = 0) -> Draw:
    return Draw(seed, torch.device("cpu"))


# --- contrast ---


def brightness(seed: int, setting: str, low_grade: bool = False) -> dict[str, dict[str, float]]:
    values = contrast(draw(seed), SETTINGS[setting], low_grade)
    assert list(values) == list(MODALITIES)
    return {name: dict(zip(TISSUES, column, strict=True)) for name, column in values.items()}


@given(seed=SEED, setting=SETTING, low_grade=st.booleans())
@settings(deadline=None, max_examples=150)
def test_healthy_tissues_keep_the_order_of_each_sequence(seed, setting, low_grade):
    v = brightness(seed, setting, low_grade)
    assert v["t1"]["csf"] < v["t1"]["gm"] < v["t1"]["wm"]
    assert v["t2"]["wm"] < v["t2"]["gm"] < v["t2"]["csf"]
    assert v["flair"]["csf"] < v["flair"]["wm"] <= v["flair"]["gm"]


@given(seed=SEED, setting=SETTING, low_grade=st.booleans())
@settings(deadline=None, max_examples=150)
def test_tumours_are_as_bright_as_each_sequence_shows_them(seed, setting, low_grade):
    v = brightness(seed, setting, low_grade)
    assert v["t1ce"]["enhancing"] > max(v["t1ce"]["gm"], v["t1ce"]["wm"])
    for name in ("t2", "flair"):
        assert v[name]["edema"] > v[name]["gm"]
    assert v["t2"]["core"] > v["t2"]["gm"]
    assert v["t1"]["blood"] >= v["t1"]["wm"]
    assert v["t1"]["cyst"] < v["t1"]["csf"] + 0.13
    assert v["t2"]["cyst"] > 0.8 * v["t2"]["csf"]


def test_t1ce_repeats_t1_where_no_agent_is_taken_up():
    for seed in range(20):
        values = contrast(draw(seed), replace(Ranges(), contrasts=replace(Contrasts(), t1ce_shift=0)), False)
        same = [i for i, name in enumerate(TISSUES) if name != "enhancing"]
        assert [values["t1ce"][i] for i in same] == [values["t1"][i] for i in same]


def test_low_grade_cores_are_as_a_rule_darker_in_t1_and_brighter_in_t2_than_edema():
    darker, brighter = [], []
    for seed in range(200):
        v = brightness(seed, "varied", low_grade=True)
        darker.append(v["t1"]["core"] < v["t1"]["edema"])
        brighter.append(v["t2"]["core"] > v["t2"]["edema"])
    assert np.mean(darker) > 0.8
    assert np.mean(brighter) > 0.75


# --- in whole cases: one step on, the rest still ---


@cache
def grown(still: Ranges, seed: int, **on: object) -> Grown:
    return grow_phantom(seed, "small", setting=replace(still, **on))


def image(case: Grown, name: str) -> torch.Tensor:
    return case.image[MODALITIES.index(name)]


def added(off: Grown, on: Grown, name: str) -> torch.Tensor:
    """By how much a sequence is brighter, in units of its own; its mean, to which each is scaled, is undone."""
    a, b = image(off, name), image(on, name)
    inside = a != 0
    scale = (b[inside] / a[inside]).median()  # most voxels are as they were
    return torch.where(inside, b / scale - a, 0) / a[inside].mean()


@pytest.mark.parametrize("step", ["tube_gain", "dura_gain", "plexus_gain"])
def test_vessels_dura_and_plexus_are_bright_after_contrast_alone_and_never_labelled(still, step):
    bright_voxels = 0
    for seed in range(4):
        off, on = grown(still, seed), grown(still, seed, **{step: (1, 1)})
        assert torch.equal(off.label, on.label)
        brighter = added(off, on, "t1ce")
        bright_voxels += int((brighter > 0.2).sum())
        assert brighter.min() > -0.05
        assert brighter[on.label > 0].abs().max() < 0.05
        for name in ("t1", "t2"):
            assert torch.equal(image(off, name), image(on, name))
        if step != "plexus_gain":
            assert torch.equal(image(off, "flair"), image(on, "flair"))
    assert bright_voxels > 40


def test_caps_are_bright_in_flair_and_t2_dark_in_t1_and_lie_beside_the_ventricles(still):
    unmoved = replace(still, rotation_deg=(0, 0), scale=(1, 1), shift_mm=(0, 0), warp_mm=(0, 0), pushes=0)
    coords, beside, anywhere = place_head(draw(), unmoved, SIZES["small"]), [], []
    for seed in range(6):
        off, on = grown(unmoved, seed), grown(unmoved, seed, cap_gain=(0.5, 0.5))
        near = refine(sample_landmarks(coords, NEAR), on.frame)[0]
        assert torch.equal(off.label, on.label)
        assert torch.equal(image(off, "t1ce"), image(on, "t1ce"))
        for name, sign in (("flair", 1), ("t2", 1), ("t1", -1)):
            change = added(off, on, name) * sign
            assert change.min() > -0.05
            assert change[on.label > 0].abs().max() < 0.05
        bright = added(off, on, "flair").clamp(min=0)
        beside.append(float((bright * near).sum() / bright.sum()))
        anywhere.append(float(near[on.image[0] != 0].mean()))
    assert np.mean(beside) > 8 * np.mean(anywhere)


def test_the_hindbrain_is_as_much_brighter_as_it_says_and_the_rest_is_not(still):
    unmoved = replace(still, rotation_deg=(0, 0), scale=(1, 1), shift_mm=(0, 0), warp_mm=(0, 0), pushes=0)
    off, on = grown(unmoved, 3), grown(unmoved, 3, hindbrain_gain=(0.3, 0.3))
    assert torch.equal(off.label, on.label)
    _, y, z = to_mni(refine(place_head(draw(), unmoved, SIZES["small"]), on.frame))
    inside = off.image[0] != 0
    for name in MODALITIES:
        ratio = image(on, name) / image(off, name).clamp(min=1)
        cerebellum, cortex = ratio[inside & (y < -55) & (z < -35)].median(), ratio[inside & (z > 10)].median()
        assert cerebellum / cortex == pytest.approx(1.3, abs=0.03)


def test_a_cyst_is_dark_in_t1_and_as_bright_as_fluid_in_t2_and_still_core(still):
    found = 0
    for seed in range(8):
        off, on = grown(still, seed, low_grade=1), grown(still, seed, low_grade=1, cystic=1)
        cyst = (on.image != off.image).any(0) & (added(off, on, "t2").abs() > 0.02)
        if cyst.sum() < 5:
            continue
        found += 1
        assert torch.equal(off.label, on.label) or (on.label[off.label != on.label] == 1).all()
        assert (on.label[cyst] == 1).all()
        brain = (image(on, "t1") != 0) & (on.label == 0)
        assert image(on, "t1")[cyst].mean() < image(on, "t1")[brain].median()
        assert image(on, "t2")[cyst].mean() > np.percentile(image(on, "t2")[brain], 85)
    assert found >= 4


def test_blood_is_bright_in_t1(still):
    found = 0
    for seed in range(8):
        off, on = (grown(still, seed, low_grade=1, bleeds=chance, bleed_level=(0.5, 0.5)) for chance in (0, 1))
        blood = added(off, on, "t1").abs() > 0.02
        if blood.sum() < 5:
            continue
        found += 1
        assert (on.label[blood] == 1).all()
        brain = (image(on, "t1") != 0) & (on.label == 0)
        assert image(on, "t1")[blood].mean() > np.percentile(image(on, "t1")[brain], 60)
    assert found >= 4


def test_enhancing_tumour_is_brighter_than_all_healthy_tissue_in_t1ce_but_not_in_t1(still):
    for seed in range(8):
        case = grown(still, seed, low_grade=0)
        enhancing, healthy = case.label == 4, (case.label == 0) & (case.image[0] != 0)
        assert image(case, "t1ce")[enhancing].mean() > np.percentile(image(case, "t1ce")[healthy], 99)
        assert image(case, "t1")[enhancing].mean() < np.percentile(image(case, "t1")[healthy], 99)


def test_edema_is_brighter_than_the_brain_in_flair_and_t2(still):
    for seed in range(8):
        case = grown(still, seed, has_edema=1)
        edema, healthy = case.label == 2, (case.label == 0) & (case.image[0] != 0)
        for name in ("flair", "t2"):
            assert image(case, name)[edema].mean() > image(case, name)[healthy].median()


def test_faint_tumours_stand_out_less(still):
    contrasts = []
    for opacity in (1, 0.3):
        case = grown(still, 3, has_edema=1, faint=1, opacity=(opacity, opacity))
        flair, healthy = image(case, "flair"), (case.label == 0) & (case.image[0] != 0)
        contrasts.append(float((flair[case.label == 2].mean() - flair[healthy].mean()) / flair[healthy].mean()))
    assert 0 < contrasts[1] < 0.5 * contrasts[0]


def test_faded_edema_stands_out_less_but_is_labelled_all_the_same(still):
    off, on = (grown(still, 3, has_edema=1, edema_fade=(share, share)) for share in (0, 0.7))
    assert torch.equal(off.label, on.label)
    edema = on.label == 2
    assert added(off, on, "flair")[edema].mean() < -0.02
    assert added(off, on, "flair")[on.label == 0].abs().max() < 0.02


# --- the scanner ---


def scan(
    volume: torch.Tensor, still: Ranges, seed: int = 0, inside: torch.Tensor | None = None, **on: object
) -> torch.Tensor:
    ranges = replace(still, brain_mean=(1000, 1000), **on)
    inside = torch.ones_like(volume, dtype=torch.bool) if inside is None else inside
    return module._scan(draw(seed), draw(seed).of("scan"), ranges, volume, inside, 1)


def ball(size: int = 24) -> torch.Tensor:
    axes = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 3, indexing="ij")
    return (sum(a**2 for a in axes) < (size / 3) ** 2).float() * 0.8 + 0.2


def test_a_scan_without_steps_only_changes_units(still):
    volume = ball()
    np.testing.assert_allclose(scan(volume, still), (volume * 1000 / volume.mean()).round(), atol=1)


def test_the_mean_over_the_brain_is_what_was_drawn(still):
    inside = ball() > 0.5
    out = scan(torch.rand(24, 24, 24) + 0.5, still, inside=inside)
    assert out[inside].mean() == pytest.approx(1000, rel=1e-3)
    assert not out[~inside].any()


def test_thick_slices_are_straight_lines_along_one_axis_alone():
    volume = torch.rand(20, 20, 20, generator=torch.Generator().manual_seed(0))
    for axis in range(3):
        lines = module._resample_slices(volume, axis, 5).movedim(axis, 0)
        bends = (lines[2:] - 2 * lines[1:-1] + lines[:-2]).abs().amax((1, 2))
        assert {i + 1 for i in range(18) if bends[i] > 1e-5} == {2, 7, 12, 17}  # the middles of the slices
        means = volume.movedim(axis, 0).reshape(4, 5, 20, 20).mean(1)
        np.testing.assert_allclose(lines[[2, 7, 12, 17]], means, atol=1e-6)


def test_slices_that_do_not_divide_the_grid_keep_its_shape():
    ramp = torch.arange(7.0).view(7, 1, 1).expand(7, 3, 2)
    assert module._resample_slices(ramp, 0, 3).shape == (7, 3, 2)
    assert torch.equal(module._resample_slices(ramp, 0, 1), ramp)


def test_ghosts_are_weak_copies_along_one_axis():
    point = torch.zeros(80, 80, 80)
    point[40, 40, 40] = 1
    for seed in range(5):
        ghosts = module._add_ghosts(draw(seed), (0.05, 0.05), point)
        places = (ghosts - point).nonzero() - 40
        assert ghosts[40, 40, 40] == pytest.approx(1, abs=0.01)
        assert 2 <= len(places) <= 3
        assert (places != 0).any(0).sum() == 1
        assert 15 <= places.abs().max() < 55 or places.abs().max() >= 80 - 55
        assert (ghosts - point).abs().max() == pytest.approx(0.05, abs=0.003)


def test_rician_noise_is_never_negative(still):
    """In fluid without signal, magnitudes are Rayleigh distributed: mean over deviation is 1.913, and none is 0."""
    dark = torch.zeros(32, 32, 32)
    gaussian, rician = (scan(dark, still, noise=(0.02, 0.02), rician=on) for on in (False, True))
    assert rician.mean() / rician.std() == pytest.approx(1.913, abs=0.05)
    floor = gaussian.min()
    assert (gaussian == floor).float().mean() == pytest.approx(0.5, abs=0.05)  # cut off, for it would be negative
    assert (rician <= 3 * rician.min()).float().mean() < 0.05


def test_ringing_overshoots_at_edges_and_falls_below_zero(still):
    dark_rim = (ball() - 0.2) / 0.8 + 0.01
    off, on = (scan(dark_rim, still, rings=chance, ringing=(0.5, 0.5)) for chance in (0, 1))
    assert off.min() >= 1
    assert on.min() < 0
    assert on.max() > 1.05 * off.max()
    assert not (on == 0).any()


def test_bias_is_smooth_and_as_strong_as_it_says(still):
    flat = scan(torch.ones(64, 64, 64), still, bias=(0.2, 0.2)) / 1000
    assert flat.std() > 0.05
    assert (flat[1:] - flat[:-1]).abs().max() < 0.06


def test_gamma_keeps_the_order_of_brightness(still):
    ramp = torch.linspace(0.1, 1, 1000).view(10, 10, 10)
    for gamma in (0.7, 1.4):
        out = scan(ramp, still, gamma=(gamma, gamma)).flatten()
        assert (out[1:] >= out[:-1]).all()
        assert (out[500] / out[999]) == pytest.approx(float(0.5504504**gamma), abs=0.01)


def test_blur_keeps_the_mean_and_takes_away_detail(still):
    volume = torch.rand(24, 24, 24, generator=torch.Generator().manual_seed(0))
    out = scan(volume, still, blurred=1, blur_mm=(0.8, 0.8), blur_thick_mm=(2, 2))
    assert out.std() < 0.5 * scan(volume, still).std()
