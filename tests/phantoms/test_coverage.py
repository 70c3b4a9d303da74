"""The part of the brain that a sequence covers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from monai.transforms import Compose, CropForegroundd, NormalizeIntensityd, RandCropByPosNegLabeld

from brats3d.labels import MODALITIES
from brats3d.phantoms.coverage import draw_coverage
from brats3d.phantoms.phantom_datasets import PhantomStream
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting

PARTIAL = Setting(partial=1, uncovered=(0.25, 0.25))


def draw(seed: int, inside: torch.Tensor) -> dict[str, torch.Tensor]:
    return draw_coverage(RandomStream(seed, torch.device("cpu")), PARTIAL, inside)


def test_one_sequence_lacks_the_drawn_fraction_of_the_brain_on_one_side():
    inside = torch.zeros(30, 36, 32, dtype=torch.bool)
    inside[3:27, 3:33, 3:29] = True
    lacking, sides = [], set()
    for seed in range(60):
        covered = draw(seed, inside)
        (name,) = (name for name in MODALITIES if not torch.equal(covered[name], inside))
        missing = inside & ~covered[name]
        assert missing.sum() / inside.sum() == pytest.approx(0.25, abs=0.01)
        middle = missing.nonzero().float().mean(0) - inside.nonzero().float().mean(0)
        axis = int(middle.abs().argmax())
        assert middle[axis].abs() > 8  # a quarter of the brain at one end lies at least this far from the middle
        sides.add((axis, bool(middle[axis] > 0)))
        lacking.append(name)
    assert len(sides) == 6
    assert set(lacking) == set(MODALITIES)
    assert lacking.count("t1") + lacking.count("t2") > 0.6 * len(lacking)


def test_without_the_step_every_sequence_covers_the_brain():
    inside = torch.ones(4, 4, 4, dtype=torch.bool)
    covered = draw_coverage(RandomStream(0, torch.device("cpu")), Setting(), inside)
    assert list(covered) == list(MODALITIES)
    assert all(mask is inside for mask in covered.values())


def test_a_case_is_the_same_where_it_is_covered(still_case):
    for seed in range(4):
        off, on = still_case(seed), still_case(seed, partial=1)
        brain = (off.image != 0).all(0)
        assert torch.equal(off.label, on.label)
        missing = (on.image == 0) & brain
        (channel,) = missing.flatten(1).any(1).nonzero().flatten().tolist()
        assert 0.02 < missing[channel].sum() / brain.sum() < 0.34
        others = [k for k in range(4) if k != channel]
        assert torch.equal(on.image[others], off.image[others])
        inside = on.image[channel] != 0
        ratio = on.image[channel][inside] / off.image[channel][inside]  # the mean is taken where the image covers
        assert (ratio / ratio.median() - 1).abs().quantile(0.99) < 0.02


def test_training_copes_with_partial_sequences(still):
    keys = ["image", "label"]
    transforms = Compose(
        [
            CropForegroundd(keys, source_key="image", allow_smaller=True),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
            RandCropByPosNegLabeld(keys, label_key="label", spatial_size=(16, 16, 16), num_samples=2),
        ]
    )
    stream = iter(PhantomStream("small", replace(still, partial=1, uncovered=(0.33, 0.33)), transforms, MODALITIES))
    for _ in range(6):
        patch = next(stream)
        assert patch["image"].shape == (4, 16, 16, 16)
        assert patch["image"].isfinite().all()
        assert patch["image"].abs().max() < 30
