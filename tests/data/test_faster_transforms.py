"""The faster forms of MONAI's transforms give MONAI's results."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, NormalizeIntensityd

from brats3d.data.faster_transforms import speed_up

CROP = CropForegroundd("image", source_key="image", allow_smaller=True)
ZSCORE = NormalizeIntensityd("image", nonzero=True, channel_wise=True)


def brain(channels: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    image = torch.zeros(channels, 12, 10, 14)
    image[:, 2:9, 1:8, 3:12] = 500 + 100 * torch.randn(channels, 7, 7, 9, generator=generator)
    image[:, 4, 4, 4:6] = 0
    return image


def both(transform, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the results of MONAI's transform and of the faster one."""
    pipeline = Compose([copy.deepcopy(transform)])
    speed_up(pipeline)
    return tuple(each({"image": MetaTensor(image.clone())})["image"] for each in (transform, pipeline))


def test_the_box_contains_what_is_positive_in_any_channel() -> None:
    image = brain()
    image[1, 11, 0, 0] = 1
    image[0, 0, 9, 13] = -1  # is not positive
    image[0, 5, 5, 5] = torch.nan
    expected, cropped = both(CROP, image)
    assert expected.shape == (2, 10, 8, 12)
    torch.testing.assert_close(cropped.as_tensor(), expected.as_tensor(), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(cropped.affine, expected.affine)


def test_the_box_can_be_inverted() -> None:
    pipeline = Compose([copy.deepcopy(CROP)])
    speed_up(pipeline)
    restored = pipeline.inverse(pipeline({"image": MetaTensor(brain())}))["image"]
    assert torch.equal(restored.as_tensor(), brain())


def test_the_z_score_is_monais_up_to_rounding() -> None:
    expected, normalised = both(ZSCORE, brain())
    torch.testing.assert_close(normalised.as_tensor(), expected.as_tensor(), rtol=1e-5, atol=1e-6)
    values = normalised.as_tensor()[brain() != 0].double()
    np.testing.assert_allclose([values.mean(), values.std(correction=0)], [0, 1], atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0, 4095.1, 1e9])
def test_an_image_of_one_value_is_not_divided_by_rounding_errors(value: float) -> None:
    expected, normalised = both(ZSCORE, value * (brain() != 0))
    assert torch.equal(normalised.as_tensor(), expected.as_tensor())


@pytest.mark.parametrize(
    "transform",
    [
        NormalizeIntensityd("image", channel_wise=True),
        NormalizeIntensityd("image", nonzero=True),
        NormalizeIntensityd("image", nonzero=True, subtrahend=np.float32(3), divisor=np.float32(2)),
        CropForegroundd("image", source_key="image", select_fn=lambda image: image < 0, allow_smaller=True),
    ],
)
def test_other_options_are_left_to_monai(transform) -> None:
    image = brain() - 400 * (brain() != 0)
    expected, found = both(transform, image)
    assert torch.equal(found.as_tensor(), expected.as_tensor())
