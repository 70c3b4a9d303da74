"""Sequences that have moved against each other."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brats3d.labels import MODALITIES
from brats3d.phantoms.misregistration import Motion, draw_misregistration, move_rigidly
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting

MOVED = Setting(misregistered=1)


def smooth_image() -> torch.Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(40, 48, 36)), 2)).float()


def test_whole_shifts_move_the_voxels_and_repeat_the_edge():
    image = torch.rand(6, 7, 8, generator=torch.Generator().manual_seed(0))
    moved = move_rigidly(image, Motion(torch.tensor([1.0, 0, -2]), torch.zeros(3)), 1)
    assert torch.equal(moved[:-1, :, 2:], image[1:, :, :-2])
    assert torch.equal(moved[-1, :, 2:], image[-1, :, :-2])
    half = move_rigidly(image, Motion(torch.tensor([0, 2.0, 0]), torch.zeros(3)), 4)  # half a voxel of 4 mm
    torch.testing.assert_close(half[:, :-1], (image[:, :-1] + image[:, 1:]) / 2)


def test_a_motion_is_a_rotation_about_the_middle_and_a_shift():
    image, motion = smooth_image(), Motion(torch.tensor([0.5, -1.2, 2]), torch.tensor([1.0, -0.8, 0.9]))
    matrix = Rotation.from_rotvec(motion.angle_deg, degrees=True).as_matrix()
    middle = (np.array(image.shape) - 1) / 2
    offset = middle - matrix @ middle + motion.shift_mm.numpy()
    expected = ndimage.affine_transform(image.numpy(), matrix, offset, order=1)
    difference = np.abs(move_rigidly(image, motion, 1).numpy() - expected)[4:-4, 4:-4, 4:-4]
    assert difference.max() < 0.1 * image.std()
    assert difference.mean() < 0.02 * np.abs(image.numpy() - expected).mean()


def test_every_sequence_moves_but_the_one_that_was_labelled():
    still = set()
    for seed in range(12):
        motions = draw_misregistration(RandomStream(seed, torch.device("cpu")), MOVED)
        (reference,) = set(MODALITIES) - set(motions)
        still.add(reference)
        for motion in motions.values():
            assert 0.5 <= motion.shift_mm.norm() <= 2
            assert motion.angle_deg.abs().max() <= 1
    assert still == {"flair", "t1ce"}
    assert not draw_misregistration(RandomStream(0, torch.device("cpu")), Setting())


def test_in_a_case_tissue_moves_within_the_same_brain(still_case, added):
    for seed in range(3):
        off, on = still_case(seed), still_case(seed, misregistered=1, misregistered_mm=(2, 2))
        assert torch.equal(off.label, on.label)
        assert torch.equal(off.image != 0, on.image != 0)
        changes = [float(added(off, on, name).abs().mean()) for name in MODALITIES]
        assert sum(change > 0.005 for change in changes) == 3
        assert min(changes) == 0
