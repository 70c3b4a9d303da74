"""Distractors: bright in the sequences that show them, and never labelled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from brats3d.labels import MODALITIES
from brats3d.phantoms.atlas import MM_INSIDE, VENTRICLES, sample_landmarks, to_mni
from brats3d.phantoms.distractors import draw_distractors
from brats3d.phantoms.head import Head, refine
from brats3d.phantoms.phantom import PhantomTensors
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting


def stream(seed: int = 0) -> RandomStream:
    return RandomStream(seed, torch.device("cpu"))


def image(case: PhantomTensors, name: str) -> torch.Tensor:
    return case.image[MODALITIES.index(name)]


@pytest.mark.parametrize("step", ["tube_gain", "dura_gain", "plexus_gain"])
def test_vessels_dura_and_plexus_are_bright_in_t1ce_only_and_never_labelled(still_case, added, step):
    bright_voxels = 0
    for seed in range(4):
        off, on = still_case(seed), still_case(seed, **{step: (1, 1)})
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


def test_caps_are_bright_in_flair_and_t2_dark_in_t1_and_lie_beside_the_ventricles(unmoved_case, added, atlas_head):
    beside, anywhere = [], []
    for seed in range(6):
        off, on = unmoved_case(seed), unmoved_case(seed, cap_gain=(0.5, 0.5))
        near = refine(sample_landmarks(atlas_head.coords, VENTRICLES), on.box)[0]
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


def distractors(head: Head, still: Setting, seed: int, **steps: object) -> dict[str, torch.Tensor]:
    """Return what distractors add to each sequence of a head."""
    none = torch.zeros(head.brain.shape)
    extras = draw_distractors(stream(seed), replace(still, **steps), head, torch.ones_like(head.brain))
    return {name: sum(extras.get(name, []), none) for name in MODALITIES}


def test_flow_is_bright_in_flair_and_dark_in_t2_and_only_in_fluid(still, atlas_head):
    result = 0
    fluid = atlas_head.brain & (atlas_head.tissue[0] > 0.5)
    for seed in range(6):
        off, on = (distractors(atlas_head, still, seed, flow_gain=(g, g)) for g in (0, 0.4))
        change = {name: on[name] - off[name] for name in MODALITIES}
        assert not any(change[name].any() for name in ("t1", "t1ce"))
        assert not any(values[~fluid].any() for values in change.values())
        assert change["flair"].min() >= 0
        assert change["flair"].max() <= 0.4 + 1e-6
        assert change["t2"].max() <= 0
        assert (change["t2"].abs() <= change["flair"] + 1e-6).all()
        result += int((change["flair"] > 0.05).sum())
    assert result > 100


def test_caps_lie_only_near_the_ventricles(still, atlas_head):
    head = atlas_head
    near = refine(sample_landmarks(head.coords, VENTRICLES), head.box)[0]
    bright = 0
    for seed in range(20):
        caps = distractors(atlas_head, still, seed, cap_gain=(0.3, 0.3))["flair"]
        assert (caps <= 0.3 * (near * 5).clamp(max=1) + 1e-6).all()
        assert caps[near < 0.01].max() < 0.016
        bright += int((caps > 0.1).sum())
    assert bright > 100


def test_the_sagittal_sinus_runs_along_the_vault_not_the_base(still, atlas_head):
    head = atlas_head
    _, y, z = to_mni(refine(head.coords, head.box))
    depth = refine(sample_landmarks(head.coords, MM_INSIDE), head.box)[0]
    deep = depth > 4  # patches of dura end there
    base, vault = deep & (z < 2) & (y > -70), deep & (z > 8)
    bright = 0
    for seed in range(20):
        t1ce = distractors(atlas_head, still, seed, dura_gain=(1, 1))["t1ce"]
        assert not t1ce[base].any()
        bright += int((t1ce[vault] > 0).sum())
    assert bright > 100
