"""The scan of a phantom: contrasts, what else is bright, and what a scanner does to an image."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import ndimage

from brats3d.labels import MODALITIES
from brats3d.phantoms import scan as module
from brats3d.phantoms.atlas import INSIDE, NEAR, sample_landmarks, to_mni
from brats3d.phantoms.head import SIZES, Head, brain_box, place_head, refine, sample_tissue, strip_skull
from brats3d.phantoms.noise import Draw
from brats3d.phantoms.phantom import Grown, grow_phantom
from brats3d.phantoms.scan import TISSUES, contrast
from brats3d.phantoms.settings import SETTINGS, Contrasts, Ranges

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


@pytest.mark.parametrize("setting", ["varied", "new-scanner"])
@pytest.mark.parametrize("low_grade", [False, True])
def test_contrast_keeps_every_order_in_thousands_of_draws(setting, low_grade):
    values = [contrast(draw(seed), SETTINGS[setting], low_grade) for seed in range(2000)]
    v = {name: dict(zip(TISSUES, np.transpose([case[name] for case in values]), strict=True)) for name in MODALITIES}
    assert (v["t1"]["csf"] < v["t1"]["gm"]).all()
    assert (v["t1"]["gm"] < v["t1"]["wm"]).all()
    assert (v["t1ce"]["csf"] < v["t1ce"]["gm"]).all()
    assert (v["t1ce"]["gm"] < v["t1ce"]["wm"]).all()
    for name in ("csf", "gm", "wm", "core"):
        assert (v["t1ce"]["enhancing"] > v["t1ce"][name]).all()
    assert (v["t2"]["wm"] < v["t2"]["gm"]).all()
    assert (v["t2"]["gm"] < v["t2"]["csf"]).all()
    assert (v["flair"]["csf"] < v["flair"]["wm"]).all()
    assert (v["flair"]["wm"] <= v["flair"]["gm"]).all()
    for name in ("t2", "flair"):
        assert (v[name]["edema"] > v[name]["gm"]).all()


def test_another_t1_is_drawn_from_the_ranges_of_t1_and_leaves_the_other_sequences_as_they_were():
    far = 0
    for seed in range(200):
        same, other = (
            contrast(draw(seed), replace(Ranges(), contrasts=replace(Contrasts(), t1ce_other=chance)), False)
            for chance in (0, 1)
        )
        assert all(same[name] == other[name] for name in ("t1", "t2", "flair"))
        v, k = dict(zip(TISSUES, other["t1ce"], strict=True)), Contrasts()
        assert k.t1_csf[0] <= v["csf"] <= k.t1_csf[1]
        assert k.t1_gm[0] <= v["gm"] <= k.t1_gm[1]
        assert k.t1_wm[0] <= v["wm"] - v["gm"] <= k.t1_wm[1] + 1e-9
        darker_in_t1, darker = other["t1"][1] - other["t1"][3], v["gm"] - v["core"]
        assert 0.6 * darker_in_t1 <= darker + 1e-9 <= 1.5 * darker_in_t1 + 2e-9
        assert v["enhancing"] > max(v["gm"], v["wm"])
        far += abs(v["gm"] - other["t1"][1]) > 3 * k.t1ce_shift
    assert far > 30


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


@pytest.mark.parametrize("step", ["regional", "deep_gm", "folia", "core_variation", "uptake_variation", "flow_gain"])
def test_a_step_that_is_hardly_on_leaves_the_case_as_it_was(still, step):
    """It draws from a stream of its own, and what it does is in proportion."""
    noisy = replace(still, noise=(0.02, 0.02), texture=(0.03, 0.03))
    for seed in range(3):
        off, on = grown(noisy, seed), grown(noisy, seed, **{step: (1e-6, 1e-6)})
        assert torch.equal(off.label, on.label)
        np.testing.assert_allclose(on.image, off.image, atol=1)


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


def test_a_diffuse_core_stands_out_less_near_its_surface_alone(still):
    low = {"low_grade": 1, "radius_low_mm": (30, 30), "low_grade_enhances": 0, "has_edema": 0, "second_focus": 0}
    off, on = (grown(still, 3, **low, diffuse=share, margin_mm=(8, 8), margin_fade=(0.7, 0.7)) for share in (0, 1))
    assert torch.equal(off.label, on.label)
    core = off.label == 1
    deep = torch.from_numpy(ndimage.distance_transform_edt(core.numpy()) * 4 > 14)
    darker = added(off, on, "t2")
    assert darker[core & ~deep].mean() < -0.05
    assert darker[deep].abs().max() < 0.02
    assert darker[off.label == 0].abs().max() < 0.02


def test_soft_edges_reach_further_the_wider_they_are_and_are_labelled_all_the_same(still):
    sharp, softer, soft = (
        grown(still, 3, has_edema=1, faint=1, opacity=(1, 1), soft_mm=(mm, mm)) for mm in (0.1, 2.5, 5)
    )
    assert torch.equal(sharp.label, soft.label)
    around = ndimage.binary_dilation((sharp.label > 0).numpy()) & (sharp.label == 0).numpy()
    around = torch.from_numpy(around) & (image(sharp, "flair") != 0)
    brighter = [float(added(sharp, case, "flair")[around].mean()) for case in (softer, soft)]
    assert 0.01 < brighter[0] < brighter[1]


# --- in a head that stands still: what is added to it, before the scanner ---


@cache
def still_head(still: Ranges) -> Head:
    """The atlas as it is, sharp, without a tumour."""
    ranges = replace(still, rotation_deg=(0, 0), scale=(1, 1), shift_mm=(0, 0), warp_mm=(0, 0), sharpness=(2, 2))
    coords = place_head(draw(), ranges, SIZES["small"])
    frame = brain_box(coords, SIZES["small"].step_mm)
    brain, skull = strip_skull(draw(), replace(ranges, strip_mm=(0, 0)), coords, frame)
    return Head(frame, brain, skull, sample_tissue(draw(), ranges, coords, frame), coords)


def distractors(still: Ranges, seed: int, **on: object) -> dict[str, torch.Tensor]:
    """What is added to each sequence."""
    head = still_head(still)
    none = torch.zeros(head.brain.shape)
    extras = module._distractors(draw(seed), replace(still, **on), head, torch.ones_like(head.brain))
    return {name: sum(extras.get(name, []), none) for name in MODALITIES}


def test_flow_is_bright_in_flair_and_dark_in_t2_and_in_fluid_alone(still):
    found = 0
    fluid = still_head(still).brain & (still_head(still).tissue[0] > 0.5)
    for seed in range(6):
        off, on = (distractors(still, seed, flow_gain=(g, g)) for g in (0, 0.4))
        change = {name: on[name] - off[name] for name in MODALITIES}
        assert not any(change[name].any() for name in ("t1", "t1ce"))
        assert not any(values[~fluid].any() for values in change.values())
        assert change["flair"].min() >= 0
        assert change["flair"].max() <= 0.4 + 1e-6
        assert change["t2"].max() <= 0
        assert (change["t2"].abs() <= change["flair"] + 1e-6).all()
        found += int((change["flair"] > 0.05).sum())
    assert found > 100


def test_caps_are_none_where_the_ventricles_are_not_near(still):
    head = still_head(still)
    near = refine(sample_landmarks(head.coords, NEAR), head.frame)[0]
    bright = 0
    for seed in range(20):
        caps = distractors(still, seed, cap_gain=(0.3, 0.3))["flair"]
        assert (caps <= 0.3 * (near * 5).clamp(max=1) + 1e-6).all()
        assert caps[near < 0.01].max() < 0.016
        bright += int((caps > 0.1).sum())
    assert bright > 100


def test_the_sagittal_sinus_runs_along_the_vault_and_not_along_the_base(still):
    head = still_head(still)
    _, y, z = to_mni(refine(head.coords, head.frame))
    depth = refine(sample_landmarks(head.coords, INSIDE), head.frame)[0]
    deep = depth > 4  # patches of dura end there
    base, vault = deep & (z < 2) & (y > -70), deep & (z > 8)
    bright = 0
    for seed in range(20):
        after_contrast = distractors(still, seed, dura_gain=(1, 1))["t1ce"]
        assert not after_contrast[base].any()
        bright += int((after_contrast[vault] > 0).sum())
    assert bright > 100


VALUES = {"t1": (0.2, 0.5, 0.8), "t1ce": (0.2, 0.5, 0.8), "t2": (0.9, 0.5, 0.3), "flair": (0.2, 0.6, 0.5)}
"""Brightness of CSF, grey and white matter."""


def places(still: Ranges, seed: int, **on: object) -> dict[str, torch.Tensor]:
    """The sequences of a healthy head, mixed from place to place."""
    head = still_head(still)
    return module._mix_healthy(draw(seed), replace(still, **on), head, module._hindbrain(head), VALUES)


def even(still: Ranges) -> dict[str, torch.Tensor]:
    return {name: module._mix(values, still_head(still).tissue) for name, values in VALUES.items()}


def test_tissue_is_the_same_everywhere_unless_it_is_told_to_vary(still):
    for name, plain in even(still).items():
        np.testing.assert_allclose(places(still, 0)[name], plain, atol=1e-6)


def test_tissue_varies_from_place_to_place_in_t1ce_as_in_t1_and_otherwise_in_t2(still):
    plain, tissue = even(still), still_head(still).tissue
    alike, spread = [], []
    for seed in range(6):
        mixed = places(still, seed, regional=(0.1, 0.1), regional_mm=(30, 30))
        assert torch.equal(mixed["t1ce"], mixed["t1"])
        for name in MODALITIES:
            share = mixed[name] / plain[name] - 1
            assert share.abs().max() <= 0.5 + 1e-5
            assert share[tissue[0] > 0.995].abs().max() < 0.02  # fluid is fluid
        share = {name: (mixed[name] / plain[name] - 1)[tissue[2] > 0.9] for name in ("t1", "t2")}
        spread.append(float(share["t1"].square().mean().sqrt()))
        alike.append(bool(torch.allclose(share["t1"], share["t2"], atol=0.01)))
    assert 0.03 < np.mean(spread) < 0.2
    assert not any(alike)


def test_variation_from_place_to_place_is_smooth(still):
    field = (places(still, 1, regional=(0.1, 0.1), regional_mm=(60, 60))["t1"] / even(still)["t1"]).numpy()
    white = (still_head(still).tissue[2] > 0.95).numpy()
    both = white[1:] & white[:-1]
    steps, size = np.abs(field[1:] - field[:-1])[both], np.abs(field - 1)[white]
    assert steps.mean() < 0.4 * size.mean()


def test_deep_grey_matter_can_be_as_bright_as_white_and_cortex_stays(still):
    head, plain = still_head(still), even(still)
    x, y, z = to_mni(refine(head.coords, head.frame))
    thalamus = (x.abs() < 18) & (y.abs() + 10 < 20) & (z > 0) & (z < 10)
    outside = (x.abs() > 50) | (y < -55) | (y > 43) | (z > 41) | (z < -35)
    cortex = outside & (head.tissue[1] > 0.5)
    assert head.tissue[1][thalamus].max() > 0.7
    assert cortex.sum() > 1000
    for share in (1, 0.5, -0.2):
        mixed = places(still, 0, deep_gm=(share, share))
        for name, (csf, gm, wm) in VALUES.items():
            deep = gm + share * (wm - gm)
            expected = module._mix((csf, deep, wm), head.tissue)
            np.testing.assert_allclose(mixed[name][thalamus], expected[thalamus], atol=0.01)
            np.testing.assert_allclose(mixed[name][cortex], plain[name][cortex], atol=0.005)


def test_folia_mix_the_tissue_of_the_cerebellum_and_no_other(still):
    head, plain = still_head(still), even(still)
    _, y, z = to_mni(refine(head.coords, head.frame))
    cerebellum, cerebrum = head.brain & (y < -52) & (z < -32), head.brain & (z > 10)
    half, mixed = places(still, 0, folia=(0.5, 0.5)), places(still, 0, folia=(1, 1))
    for name, (csf, gm, wm) in VALUES.items():
        one = 0.7 * gm + 0.3 * wm
        expected = module._mix((csf, one, one), head.tissue)
        np.testing.assert_allclose(mixed[name][cerebellum], expected[cerebellum], atol=0.02)
        np.testing.assert_allclose(half[name], (plain[name] + mixed[name]) / 2, atol=1e-5)
        np.testing.assert_allclose(mixed[name][cerebrum], plain[name][cerebrum], atol=0.005)


T1CE = (0.2, 0.5, 0.7, 0.4, 0.45, 1.0, 0.2, 0.8)


def parts_of_a_tumour() -> torch.Tensor:
    """Core in enhancement in edema, a ball off the middle of its box."""
    axes = torch.meshgrid(*[torch.arange(40) - 22.0] * 3, indexing="ij")
    distance = sum(a**2 for a in axes).sqrt()
    borders = ((0, 5), (9, 14), (5, 9))  # of core, edema and enhancement
    return torch.stack([((distance >= a) & (distance < b)).float() for a, b in borders])


def variation(still: Ranges, seed: int, **on: object) -> dict[str, torch.Tensor]:
    """What is added to each sequence, in the whole volume."""
    parts = parts_of_a_tumour()
    box, changes = module._vary_tumour(draw(seed), replace(still, **on), parts, T1CE, 1)
    whole = {name: torch.zeros(parts.shape[1:]) for name in changes}
    for name, change in changes.items():
        whole[name][box] = change
    return whole


def test_tumours_vary_within_themselves_alone_and_not_unless_they_are_told_to(still):
    assert not variation(still, 0)
    core, edema, enhancing = parts_of_a_tumour() > 0
    ratios = []
    for seed in range(8):
        change = variation(still, seed, core_variation=(0.25, 0.25))
        assert list(change) == list(MODALITIES)
        for values in change.values():
            assert not values[~(core | edema | enhancing)].any()
        assert torch.equal(change["t1"], change["t1ce"])  # fluid, not the agent
        assert (change["t1"] * change["t2"] <= 0).all()  # what is dark in T1 is bright in T2
        assert change["t1"][core].abs().max() > 0.02
        ratios.append(float(change["t2"][edema].std() / change["t2"][core | enhancing].std()))
    assert 0.3 < np.mean(ratios) < 0.8  # edema half as much


def test_lacking_uptake_only_darkens_what_enhances_in_t1ce_and_never_below_the_core(still):
    enhancing = parts_of_a_tumour()[2] > 0
    lacking = 0
    for seed in range(8):
        change = variation(still, seed, uptake_variation=(0.8, 0.8))
        assert not any(change[name].any() for name in ("t1", "t2", "flair"))
        assert not change["t1ce"][~enhancing].any()
        assert change["t1ce"].max() <= 0
        assert change["t1ce"].min() >= -0.8 * (T1CE[5] - T1CE[3]) - 1e-6
        lacking += bool((change["t1ce"][enhancing] < -0.3).any() and (change["t1ce"][enhancing] > -0.1).any())
    assert lacking >= 6


def test_there_is_nothing_to_vary_without_a_tumour(still):
    on = replace(still, core_variation=(0.25, 0.25), uptake_variation=(0.8, 0.8))
    assert module._vary_tumour(draw(), on, torch.zeros(3, 8, 8, 8), T1CE, 1) == ((), {})


@pytest.mark.parametrize(("step", "seen"), [("core_variation", "t2"), ("uptake_variation", "t1ce")])
def test_varied_tumours_leave_the_healthy_brain_and_the_label_as_they_were(still, step, seen):
    for seed in range(4):
        off, on = grown(still, seed, low_grade=0), grown(still, seed, low_grade=0, **{step: (0.3, 0.3)})
        assert torch.equal(off.label, on.label)
        for name in MODALITIES:
            assert added(off, on, name)[on.label == 0].abs().max() < 0.02
        assert added(off, on, seen)[on.label > 0].abs().max() > 0.03


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


def test_slices_may_begin_before_the_image():
    volume = torch.rand(20, 4, 4, generator=torch.Generator().manual_seed(0))
    lines = module._resample_slices(volume, 0, 5, 2)
    bends = (lines[2:] - 2 * lines[1:-1] + lines[:-2]).abs().amax((1, 2))
    assert {i + 1 for i in range(18) if bends[i] > 1e-5} == {5, 10, 15}  # two voxels earlier; the ends are level
    np.testing.assert_allclose(lines[5], volume[3:8].mean(0), atol=1e-6)
    assert lines.shape == volume.shape


def test_axial_slices_are_thick_from_below_to_above_alone(still):
    volume = torch.rand(20, 20, 20, generator=torch.Generator().manual_seed(0)) + 0.5
    smooth = []
    for seed in range(12):
        out = scan(volume, still, seed, thick=1, slice_mm=(5, 5), axial=1)
        left, front, below = ((out.diff(dim=axis)).abs().mean() for axis in range(3))
        assert below < 0.5 * min(left, front)
        any_axis = scan(volume, still, seed, thick=1, slice_mm=(5, 5), axial=0)
        smooth.append(int(np.argmin([any_axis.diff(dim=axis).abs().mean() for axis in range(3)])))
    assert set(smooth) == {0, 1, 2}


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
