"""Atrophy: wide ventricles and wide sulci together, as in old age."""

from __future__ import annotations

from dataclasses import replace

from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting

_VENTRICLE_MM, _CSF_WEIGHT, _GYRI = (3, 12), (1.5, 5), (0.2, 0.8)
"""Fields of the setting in mild and in severe atrophy."""


def draw_atrophy(rng: RandomStream, setting: Setting) -> Setting:
    """Draw whether a head is atrophic, and to what degree.

    Returns:
        The setting; for an atrophic head, with one width for its ventricles and one for its sulci.
    """
    if not rng.chance(setting.atrophic):
        return setting
    degree = rng.uniform(0, 1)
    ventricle_mm, csf_weight, gyri = (
        (low + degree * (high - low),) * 2 for low, high in (_VENTRICLE_MM, _CSF_WEIGHT, _GYRI)
    )
    return replace(setting, ventricle_mm=ventricle_mm, csf_weight=csf_weight, gyri=gyri)
