"""Resampling and blur, compared with scipy and with values worked out by hand."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from brats3d.phantoms.volume_ops import blur, bounding_box, resize


def test_resize_keeps_the_corners_and_straight_lines():
    ramp = torch.arange(4.0).view(4, 1, 1).expand(4, 3, 2)
    np.testing.assert_allclose(resize(ramp, (7, 3, 2))[:, 0, 0], [0, 0.5, 1, 1.5, 2, 2.5, 3], atol=1e-6)


def test_blur_keeps_constants_and_agrees_with_scipy_away_from_edges():
    volume = torch.randn(20, 22, 24, generator=torch.Generator().manual_seed(0))
    expected = ndimage.gaussian_filter(volume.numpy(), (0.6, 1.4, 0.9), truncate=8)
    got = blur(volume, [0.6, 1.4, 0.9]).numpy()
    np.testing.assert_allclose(got[8:-8, 8:-8, 8:-8], expected[8:-8, 8:-8, 8:-8], atol=1e-4)
    np.testing.assert_allclose(blur(torch.ones(5, 6, 7), [0, 1, 3]), 1, atol=1e-5)


def test_blur_applies_to_each_channel():
    volume = torch.randn(2, 6, 7, 8, generator=torch.Generator().manual_seed(0))
    together = blur(volume, [1, 0.5, 2])
    for channel in range(2):
        np.testing.assert_allclose(together[channel], blur(volume[channel], [1, 0.5, 2]), atol=1e-6)


def test_the_bounding_box_holds_every_voxel_of_a_mask_and_no_more():
    mask = torch.zeros(5, 6, 7, dtype=torch.bool)
    mask[1, 2, 6] = mask[3, 5, 4] = True
    assert bounding_box(mask) == (slice(1, 4), slice(2, 6), slice(4, 7))
