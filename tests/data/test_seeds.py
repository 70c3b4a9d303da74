"""Random seeds derived from their parts."""

from __future__ import annotations

from brats3d.data.seeds import derive_seed


def test_seeds_fit_into_32_bits_and_depend_on_every_part():
    seeds = {derive_seed(seed, epoch, case) for seed in (0, 1) for epoch in (1, 11) for case in ("1", "11", "a")}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert derive_seed(0, 1, "BraTS20_Training_001") == 3813824741  # from sha256sum; must never change
