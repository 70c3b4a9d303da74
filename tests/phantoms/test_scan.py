"""The scan of a phantom: tissues are mixed, and vary, as the setting says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from brats3d.labels import MODALITIES
from brats3d.phantoms.atlas import to_mni
from brats3d.phantoms.brain_parts import hindbrain_mask
from brats3d.phantoms.head import Head, refine
from brats3d.phantoms.phantom import PhantomTensors
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.scan import mix, mix_healthy, vary_tumour
from brats3d.phantoms.settings import Contrasts, Setting


def stream(seed: int = 0) -> RandomStream:
    return RandomStream(seed, torch.device("cpu"))


def image(case: PhantomTensors, name: str) -> torch.Tensor:
    return case.image[MODALITIES.index(name)]


@pytest.mark.parametrize(
    "step",
    [
        "regional",
        "deep_gm",
        "folia",
        "core_variation",
        "uptake_variation",
        "uneven_uptake",
        "uneven_edema",
        "flow_gain",
    ],
)
def test_a_negligible_step_does_not_change_the_case(still_case, step):
    """The step draws from a substream, and its effect is proportional to its strength."""
    noisy = {"noise": (0.02, 0.02), "texture": (0.03, 0.03)}
    for seed in range(3):
        off, on = still_case(seed, **noisy), still_case(seed, **noisy, **{step: (1e-6, 1e-6)})
        assert torch.equal(off.label, on.label)
        np.testing.assert_allclose(on.image, off.image, atol=1)


def test_only_the_hindbrain_is_brighter_and_by_the_given_fraction(unmoved_case, atlas_head):
    off, on = unmoved_case(3), unmoved_case(3, hindbrain_gain=(0.3, 0.3))
    assert torch.equal(off.label, on.label)
    _, y, z = to_mni(refine(atlas_head.coords, on.box))
    inside = off.image[0] != 0
    for name in MODALITIES:
        ratio = image(on, name) / image(off, name).clamp(min=1)
        cerebellum, cortex = ratio[inside & (y < -55) & (z < -35)].median(), ratio[inside & (z > 10)].median()
        assert cerebellum / cortex == pytest.approx(1.3, abs=0.03)


def test_a_cyst_is_dark_in_t1_bright_in_t2_and_labelled_core(still_case, added):
    result = 0
    for seed in range(8):
        off, on = still_case(seed, low_grade=1), still_case(seed, low_grade=1, cystic=1)
        cyst = (on.image != off.image).any(0) & (added(off, on, "t2").abs() > 0.02)
        if cyst.sum() < 5:
            continue
        result += 1
        assert torch.equal(off.label, on.label) or (on.label[off.label != on.label] == 1).all()
        assert (on.label[cyst] == 1).all()
        brain = (image(on, "t1") != 0) & (on.label == 0)
        assert image(on, "t1")[cyst].mean() < image(on, "t1")[brain].median()
        assert image(on, "t2")[cyst].mean() > np.percentile(image(on, "t2")[brain], 85)
    assert result >= 4


def test_blood_is_bright_in_t1(still_case, added):
    result = 0
    for seed in range(8):
        off, on = (still_case(seed, low_grade=1, bleeds=chance, bleed_level=(0.5, 0.5)) for chance in (0, 1))
        blood = added(off, on, "t1").abs() > 0.02
        if blood.sum() < 5:
            continue
        result += 1
        assert (on.label[blood] == 1).all()
        brain = (image(on, "t1") != 0) & (on.label == 0)
        assert image(on, "t1")[blood].mean() > np.percentile(image(on, "t1")[brain], 60)
    assert result >= 4


def test_enhancing_tumour_is_brighter_than_healthy_tissue_in_t1ce_but_not_in_t1(still_case):
    for seed in range(8):
        case = still_case(seed, low_grade=0)
        enhancing, healthy = case.label == 4, (case.label == 0) & (case.image[0] != 0)
        assert image(case, "t1ce")[enhancing].mean() > np.percentile(image(case, "t1ce")[healthy], 99)
        assert image(case, "t1")[enhancing].mean() < np.percentile(image(case, "t1")[healthy], 99)


def test_edema_is_brighter_than_the_brain_in_flair_and_t2(still_case):
    for seed in range(8):
        case = still_case(seed, has_edema=1)
        edema, healthy = case.label == 2, (case.label == 0) & (case.image[0] != 0)
        for name in ("flair", "t2"):
            assert image(case, name)[edema].mean() > image(case, name)[healthy].median()


def test_faint_tumours_stand_out_less(still_case):
    contrasts = []
    for opacity in (1, 0.3):
        case = still_case(3, has_edema=1, faint=1, opacity=(opacity, opacity))
        flair, healthy = image(case, "flair"), (case.label == 0) & (case.image[0] != 0)
        contrasts.append(float((flair[case.label == 2].mean() - flair[healthy].mean()) / flair[healthy].mean()))
    assert 0 < contrasts[1] < 0.5 * contrasts[0]


def test_faded_edema_stands_out_less_and_keeps_its_label(still_case, added):
    off, on = (still_case(3, has_edema=1, edema_fade=(share, share)) for share in (0, 0.7))
    assert torch.equal(off.label, on.label)
    edema = on.label == 2
    assert added(off, on, "flair")[edema].mean() < -0.02
    assert added(off, on, "flair")[on.label == 0].abs().max() < 0.02


def test_core_like_edema_is_as_bright_as_the_core_in_places_and_keeps_its_label(still_case, added):
    # The core is much brighter than edema in T2, and nothing else differs
    bright = replace(Contrasts(), t2_core=(1, 1), t2_edema=(0.1, 0.1))
    high = {"low_grade": 0, "has_edema": 1, "edema_high_mm": (20, 20), "contrasts": bright}
    off, on = (still_case(3, **high, core_like=chance, core_like_level=(0, 0)) for chance in (0, 1))
    assert torch.equal(off.label, on.label)
    brighter = added(off, on, "t2")
    edema = on.label == 2
    assert 0.1 < (brighter[edema] > 0.2).float().mean() < 0.9
    assert brighter[~edema].abs().max() < 0.02


def test_a_diffuse_core_stands_out_less_near_its_surface_only(still_case, added):
    low = {"low_grade": 1, "radius_low_mm": (30, 30), "low_grade_enhances": 0, "has_edema": 0, "second_focus": 0}
    off, on = (still_case(3, **low, diffuse=share, margin_mm=(8, 8), margin_fade=(0.7, 0.7)) for share in (0, 1))
    assert torch.equal(off.label, on.label)
    core = off.label == 1
    deep = torch.from_numpy(ndimage.distance_transform_edt(core.numpy()) * 4 > 14)
    darker = added(off, on, "t2")
    assert darker[core & ~deep].mean() < -0.05
    assert darker[deep].abs().max() < 0.02
    assert darker[off.label == 0].abs().max() < 0.02


def test_wider_soft_edges_reach_further_and_keep_the_label(still_case, added):
    sharp, softer, soft = (
        still_case(3, has_edema=1, faint=1, opacity=(1, 1), soft_mm=(mm, mm)) for mm in (0.1, 2.5, 5)
    )
    assert torch.equal(sharp.label, soft.label)
    around = ndimage.binary_dilation((sharp.label > 0).numpy()) & (sharp.label == 0).numpy()
    around = torch.from_numpy(around) & (image(sharp, "flair") != 0)
    brighter = [float(added(sharp, case, "flair")[around].mean()) for case in (softer, soft)]
    assert 0.01 < brighter[0] < brighter[1]


VALUES = {"t1": (0.2, 0.5, 0.8), "t1ce": (0.2, 0.5, 0.8), "t2": (0.9, 0.5, 0.3), "flair": (0.2, 0.6, 0.5)}
"""Brightness of CSF, grey and white matter."""


def mix_head(head: Head, still: Setting, seed: int, **steps: object) -> dict[str, torch.Tensor]:
    """Return the sequences of a healthy head."""
    hindbrain = refine(hindbrain_mask(head.coords)[None], head.box)[0]
    return mix_healthy(stream(seed), replace(still, **steps), head, hindbrain, VALUES)


def even(head: Head) -> dict[str, torch.Tensor]:
    return {name: mix(values, head.tissue) for name, values in VALUES.items()}


def test_tissue_is_uniform_by_default(still, atlas_head):
    for name, plain in even(atlas_head).items():
        np.testing.assert_allclose(mix_head(atlas_head, still, 0)[name], plain, atol=1e-6)


def test_tissue_varies_alike_in_t1_and_t1ce_and_differently_in_t2(still, atlas_head):
    plain, tissue = even(atlas_head), atlas_head.tissue
    alike, spread = [], []
    for seed in range(6):
        mixed = mix_head(atlas_head, still, seed, regional=(0.1, 0.1), regional_mm=(30, 30))
        assert torch.equal(mixed["t1ce"], mixed["t1"])
        for name in MODALITIES:
            share = mixed[name] / plain[name] - 1
            assert share.abs().max() <= 0.5 + 1e-5
            assert share[tissue[0] > 0.995].abs().max() < 0.02  # tissue variation does not affect fluid
        share = {name: (mixed[name] / plain[name] - 1)[tissue[2] > 0.9] for name in ("t1", "t2")}
        spread.append(float(share["t1"].square().mean().sqrt()))
        alike.append(bool(torch.allclose(share["t1"], share["t2"], atol=0.01)))
    assert 0.03 < np.mean(spread) < 0.2
    assert not any(alike)


def test_regional_variation_is_smooth(still, atlas_head):
    field = (
        mix_head(atlas_head, still, 1, regional=(0.1, 0.1), regional_mm=(60, 60))["t1"] / even(atlas_head)["t1"]
    ).numpy()
    white = (atlas_head.tissue[2] > 0.95).numpy()
    both = white[1:] & white[:-1]
    steps, size = np.abs(field[1:] - field[:-1])[both], np.abs(field - 1)[white]
    assert steps.mean() < 0.4 * size.mean()


def test_deep_grey_matter_changes_its_brightness_and_cortex_does_not(still, atlas_head):
    head, plain = atlas_head, even(atlas_head)
    x, y, z = to_mni(refine(head.coords, head.box))
    thalamus = (x.abs() < 18) & (y.abs() + 10 < 20) & (z > 0) & (z < 10)
    outside = (x.abs() > 50) | (y < -55) | (y > 43) | (z > 41) | (z < -35)
    cortex = outside & (head.tissue[1] > 0.5)
    assert head.tissue[1][thalamus].max() > 0.7
    assert cortex.sum() > 1000
    for share in (1, 0.5, -0.2):
        mixed = mix_head(atlas_head, still, 0, deep_gm=(share, share))
        for name, (csf, gm, wm) in VALUES.items():
            deep = gm + share * (wm - gm)
            expected = mix((csf, deep, wm), head.tissue)
            np.testing.assert_allclose(mixed[name][thalamus], expected[thalamus], atol=0.01)
            np.testing.assert_allclose(mixed[name][cortex], plain[name][cortex], atol=0.005)


def test_folia_mix_only_the_tissue_of_the_cerebellum(still, atlas_head):
    head, plain = atlas_head, even(atlas_head)
    _, y, z = to_mni(refine(head.coords, head.box))
    cerebellum, cerebrum = head.brain & (y < -52) & (z < -32), head.brain & (z > 10)
    half, mixed = mix_head(atlas_head, still, 0, folia=(0.5, 0.5)), mix_head(atlas_head, still, 0, folia=(1, 1))
    for name, (csf, gm, wm) in VALUES.items():
        one = 0.7 * gm + 0.3 * wm
        expected = mix((csf, one, one), head.tissue)
        np.testing.assert_allclose(mixed[name][cerebellum], expected[cerebellum], atol=0.02)
        np.testing.assert_allclose(half[name], (plain[name] + mixed[name]) / 2, atol=1e-5)
        np.testing.assert_allclose(mixed[name][cerebrum], plain[name][cerebrum], atol=0.005)


T1CE = (0.2, 0.5, 0.7, 0.4, 0.45, 1.0, 0.2, 0.8)


def parts_of_a_tumour() -> torch.Tensor:
    """Return fractions of a ball: core within enhancing tissue within edema, off the middle of the volume."""
    axes = torch.meshgrid(*[torch.arange(40) - 22.0] * 3, indexing="ij")
    distance = sum(a**2 for a in axes).sqrt()
    borders = ((0, 5), (9, 14), (5, 9))  # of core, edema and enhancement
    return torch.stack([((distance >= a) & (distance < b)).float() for a, b in borders])


def variation(still: Setting, seed: int, **on: object) -> dict[str, torch.Tensor]:
    """Return what the variation adds to each sequence, in the whole volume."""
    parts = parts_of_a_tumour()
    box, changes = vary_tumour(stream(seed), replace(still, **on), parts, T1CE, 1)
    whole = {name: torch.zeros(parts.shape[1:]) for name in changes}
    for name, change in changes.items():
        whole[name][box] = change
    return whole


def test_tumours_vary_only_inside_and_only_if_switched_on(still):
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


@pytest.mark.parametrize("step", ["uptake_variation", "uneven_uptake"])
def test_lacking_uptake_darkens_only_enhancing_tissue_in_t1ce_and_never_below_the_core(still, step):
    enhancing = parts_of_a_tumour()[2] > 0
    lacking = 0
    for seed in range(8):
        change = variation(still, seed, **{step: (0.8, 0.8)})
        assert not any(change[name].any() for name in ("t1", "t2", "flair"))
        assert not change["t1ce"][~enhancing].any()
        assert change["t1ce"].max() <= 0
        assert change["t1ce"].min() >= -0.8 * (T1CE[5] - T1CE[3]) - 1e-6
        lacking += bool((change["t1ce"][enhancing] < -0.3).any() and (change["t1ce"][enhancing] > -0.1).any())
    assert lacking >= (6 if step == "uptake_variation" else 2)  # a ball of 18 mm often lies within one patch of 40 mm


def test_nothing_varies_without_a_tumour(still):
    on = replace(still, core_variation=(0.25, 0.25), uptake_variation=(0.8, 0.8))
    assert vary_tumour(stream(), on, torch.zeros(3, 8, 8, 8), T1CE, 1) == ((), {})


@pytest.mark.parametrize(
    ("step", "seen"),
    [
        *(("core_variation", "t2"), ("uptake_variation", "t1ce")),
        *(("uneven_uptake", "t1ce"), ("uneven_edema", "flair")),
    ],
)
def test_varied_tumours_change_neither_the_healthy_brain_nor_the_label(still_case, added, step, seen):
    for seed in range(4):
        off, on = still_case(seed, low_grade=0), still_case(seed, low_grade=0, **{step: (0.3, 0.3)})
        assert torch.equal(off.label, on.label)
        for name in MODALITIES:
            assert added(off, on, name)[on.label == 0].abs().max() < 0.02
        assert added(off, on, seen)[on.label > 0].abs().max() > 0.03
