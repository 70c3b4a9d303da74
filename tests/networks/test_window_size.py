"""Sizes of windows and patches that the network can process, and a warning about windows unlike the patches."""

from __future__ import annotations

import pytest

from brats3d.errors import UsageError
from brats3d.networks.window_size import check_window, compare_windows


@pytest.mark.parametrize("size", [[32, 32, 32], (96, 128, 160)])
def test_multiples_of_16_from_32_are_valid(size):
    check_window("roi_size", size)


@pytest.mark.parametrize("size", [[16, 32, 32], [40, 48, 48], [32, 32], [32.0, 32, 32], "[32,32,32]", 32, None])
def test_other_sizes_are_refused_under_the_knobs_name(size):
    with pytest.raises(UsageError) as error:
        check_window("patch_size", size)
    assert (error.value.subject, error.value.found) == ("patch_size", size)


@pytest.mark.parametrize(
    ("card", "warned"), [({}, False), ({"patch_size": [96, 96, 96]}, False), ({"patch_size": [64, 64, 64]}, True)]
)
def test_windows_of_another_size_than_the_patches_log_a_warning(log, card, warned):
    compare_windows("best.pt", card, (96, 96, 96))
    assert ("--roi_size" in log.text) is warned
