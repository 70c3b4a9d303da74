"""Contrasts from relaxation physics: the signal of tissues in spin echoes, gradient echoes and inversion recovery.

One draw of relaxation times and proton densities explains all sequences of a case, so their contrasts are correlated
as in a real scan: qSynth, https://arxiv.org/abs/2412.03318. Relaxation times at 1.5 and 3 T: Stanisz et al. 2005
(https://doi.org/10.1002/mrm.20605); the spread of published values: Bojorquez et al. 2017
(https://doi.org/10.1016/j.mri.2016.08.021); tumours and edema: Badve et al. 2017 (https://doi.org/10.3174/ajnr.A5035);
water contents: Whittall et al. 1997 (https://doi.org/10.1002/mrm.1910370107); relaxivities: Rohrer et al. 2005
(https://doi.org/10.1097/01.rli.0000184756.66360.d3). Ranges are wider than any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Range

_RANGES: Mapping[str, tuple[Range, Range, Range]] = MappingProxyType(
    {
        "csf": ((3500, 4500), (500, 2000), (0.97, 1.0)),
        "gm": ((950, 1800), (80, 110), (0.79, 0.86)),
        "wm": ((600, 1100), (65, 85), (0.68, 0.73)),
        "core": ((1300, 2800), (110, 350), (0.83, 0.97)),
        "edema": ((1000, 1900), (110, 230), (0.8, 0.92)),
        "enhancing": ((1100, 2000), (90, 180), (0.82, 0.92)),
        "cyst": ((2200, 4200), (300, 1500), (0.95, 1.0)),
        "blood": ((300, 700), (40, 250), (0.8, 0.9)),
    }
)
"""T1 in ms, T2 in ms, proton density relative to water; T1 from 1.5 T to 3 T. Blood is methaemoglobin."""

_CSF, _GM, _WM, _CORE, _EDEMA, _ENHANCING = range(6)
_R1_PER_MM, _R2_PER_MM = 4.3e-3, 5e-3
"""Relaxivities of contrast agents, per ms and mmol/l."""

_LEAST = 0.08
"""Least difference in brightness between a tumour and what it lies in."""


@dataclass(frozen=True)
class Tissues:
    """T1 and T2 in ms and proton density, an array over tissues each."""

    t1: np.ndarray
    t2: np.ndarray
    density: np.ndarray


def spin_echo(tissues: Tissues, tr: float, te: float, ti: float | None = None) -> np.ndarray:
    """Return the signal of a spin echo, after an inversion if there is a ``ti``; all times in ms."""
    recovered = 1 - np.exp(-tr / tissues.t1)
    if ti is not None:
        recovered = np.abs(1 - 2 * np.exp(-ti / tissues.t1) + np.exp(-tr / tissues.t1))
    return tissues.density * recovered * np.exp(-te / tissues.t2)


def spoiled_gradient_echo(tissues: Tissues, tr: float, te: float, flip_deg: float) -> np.ndarray:
    """Return the signal of a spoiled gradient echo (FLASH, SPGR); times in ms. T2 stands in for T2*."""
    left, flip = np.exp(-tr / tissues.t1), np.deg2rad(flip_deg)
    return tissues.density * np.sin(flip) * (1 - left) / (1 - np.cos(flip) * left) * np.exp(-te / tissues.t2)


def draw_relaxation_contrast(rng: RandomStream) -> dict[str, list[float]]:
    """Draw the brightness of :data:`brats3d.phantoms.contrast.TISSUES` in each sequence from relaxation physics.

    Tissues and parameters are drawn again until edema is brighter than healthy tissue in FLAIR and T2, the core in T2,
    and enhancing tissue brighter than core and edema in T1ce.

    Returns:
        Sequence -> brightness of each tissue, scaled so that grey and white matter average 0.4 to 0.7.
    """
    while True:
        tissues = _draw_tissues(rng)
        plain_t1 = _draw_t1_weighting(rng)
        t1ce_like = plain_t1 if rng.chance(0.5) else _draw_t1_weighting(rng)
        signals = {
            "t1": plain_t1(tissues),
            "t1ce": t1ce_like(_add_agent(tissues, rng.log_uniform(0.1, 1))),
            "t2": spin_echo(tissues, rng.uniform(3000, 7000), rng.uniform(80, 120)),
            "flair": _flair(rng, tissues),
        }
        bright = rng.uniform(0.4, 0.7)
        values = {name: signal * (bright / signal[_GM : _WM + 1].mean()) for name, signal in signals.items()}
        t1ce, t2, flair = (values[name] for name in ("t1ce", "t2", "flair"))
        brain_t2, brain_flair = (image[_GM : _WM + 1].max() for image in (t2, flair))
        above = [t2[_CORE] - brain_t2, t2[_EDEMA] - brain_t2, flair[_EDEMA] - brain_flair]
        above.append(t1ce[_ENHANCING] - max(t1ce[_CORE], t1ce[_EDEMA]))
        if min(above) >= _LEAST:
            return {name: value.tolist() for name, value in values.items()}


def _draw_tissues(rng: RandomStream) -> Tissues:
    """Draw tissues; the T1 of all of them grows with the field strength."""
    field = rng.uniform(0, 1)
    t1, t2, density = [], [], []
    for (low, high), t2_range, density_range in _RANGES.values():
        t1.append(low + (high - low) * (0.7 * field + 0.3 * rng.uniform(0, 1)))
        t2.append(rng.log_uniform(*t2_range))
        density.append(rng.uniform(*density_range))
    return Tissues(np.array(t1), np.array(t2), np.array(density))


def _add_agent(tissues: Tissues, mmol_per_l: float) -> Tissues:
    """Shorten T1 and T2 of enhancing tissue by contrast agent."""
    t1, t2 = tissues.t1.copy(), tissues.t2.copy()
    t1[_ENHANCING] = 1 / (1 / t1[_ENHANCING] + _R1_PER_MM * mmol_per_l)
    t2[_ENHANCING] = 1 / (1 / t2[_ENHANCING] + _R2_PER_MM * mmol_per_l)
    return replace(tissues, t1=t1, t2=t2)


def _draw_t1_weighting(rng: RandomStream) -> Callable[[Tissues], np.ndarray]:
    """Draw a T1-weighted sequence: a spin echo, a spoiled gradient echo or one prepared by inversion (MPRAGE)."""
    kind, part, echo = rng.integer(3), rng.uniform(0, 1), rng.uniform(0, 1)
    if kind == 0:
        return lambda tissues: spin_echo(tissues, 400 + 300 * part, 8 + 7 * echo)
    if kind == 1:
        return lambda tissues: spoiled_gradient_echo(tissues, 7 + 20 * part, 2 + 4 * echo, 15 + 20 * part)
    return lambda tissues: spin_echo(tissues, 1800 + 600 * part, 2 + 3 * echo, 800 + 250 * part)


def _flair(rng: RandomStream, tissues: Tissues) -> np.ndarray:
    """Draw a FLAIR, whose inversion time suppresses CSF more or less completely."""
    tr, t1 = rng.uniform(6000, 11000), tissues.t1[_CSF]
    null = t1 * (np.log(2) - np.log1p(np.exp(-tr / t1)))
    return spin_echo(tissues, tr, rng.uniform(80, 140), null * rng.uniform(0.85, 1.1))
