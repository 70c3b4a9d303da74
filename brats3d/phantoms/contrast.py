"""The contrast of a scan: how bright each tissue is in each sequence."""

from __future__ import annotations

from brats3d.phantoms.random_contrast import draw_random_contrast
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.relaxation import draw_relaxation_contrast
from brats3d.phantoms.settings import Setting

TISSUES = ("csf", "gm", "wm", "core", "edema", "enhancing", "cyst", "blood")
"""The tissues in the order of their brightness values."""


def draw_contrast(rng: RandomStream, setting: Setting, low_grade: bool) -> dict[str, list[float]]:
    """Draw the brightness of :data:`TISSUES` in each sequence; see :class:`brats3d.phantoms.Contrasts`.

    T1ce repeats T1 except in enhancing tissue, because tissue without contrast agent looks alike in both; or its
    tissues are drawn anew (``t1ce_other``), as if the two scans had different parameters. The core of a low-grade
    tumour is usually darker in T1 and brighter in T2 than the edema around it.

    With the chance ``relaxation``, :func:`brats3d.phantoms.relaxation.draw_relaxation_contrast` draws the contrast;
    of the other cases, the fraction ``random_contrast`` goes through
    :func:`brats3d.phantoms.random_contrast.draw_random_contrast`, which ignores the order of healthy tissues.

    Returns:
        Sequence -> brightness of each tissue, in the units of :class:`brats3d.phantoms.Contrasts`.
    """
    uniform, k = rng.uniform, setting.contrasts
    t1_csf, t1_gm = uniform(*k.t1_csf), uniform(*k.t1_gm)
    t1_wm = t1_gm + uniform(*k.t1_wm)
    core_darker = uniform(*(k.t1_core_low if low_grade else k.t1_core))
    edema_darker = uniform(*(k.t1_edema_low if low_grade else k.t1_edema))
    t1 = [t1_csf, t1_gm, t1_wm, t1_gm - core_darker, t1_gm - edema_darker]
    # Tissue that does not enhance differs a little between the two scans.
    t1ce = [value + rng.normal(k.t1ce_shift) for value in t1]
    t1ce[0] = min(t1ce[0], t1ce[1] - (t1_gm - t1_csf) / 4)
    t1ce[2] = max(t1ce[2], t1ce[1] + (t1_wm - t1_gm) / 4)
    other = rng.substream("another T1")
    if other.chance(k.t1ce_other):
        csf, gm = other.uniform(*k.t1_csf), other.uniform(*k.t1_gm)
        wm = gm + other.uniform(*k.t1_wm)
        t1ce = [csf, gm, wm, *(gm - darker * other.uniform(0.6, 1.5) for darker in (core_darker, edema_darker))]
    t2_wm = uniform(*k.t2_wm)
    t2_gm = t2_wm + uniform(*k.t2_gm)
    flair_wm = uniform(*k.flair_wm)
    flair_gm = flair_wm + uniform(*k.flair_gm)
    t1.append(t1_gm - uniform(*k.t1_enhancing))
    t1ce.append(t1ce[2] + uniform(*k.t1ce_enhancing))
    weak = rng.substream("weak uptake")
    if weak.chance(k.weak_uptake):
        t1ce[5] = min(t1ce[5], t1ce[3] + weak.uniform(*k.t1ce_weak))
    t2 = [t2_gm + uniform(*k.t2_csf), t2_gm, t2_wm]
    t2 += [t2_gm + uniform(*brighter) for brighter in (k.t2_core, k.t2_edema, k.t2_enhancing)]
    flair = [flair_wm - uniform(*k.flair_csf), flair_gm, flair_wm]
    flair += [flair_gm + uniform(*brighter) for brighter in (k.flair_core, k.flair_edema, k.flair_enhancing)]
    if low_grade:
        t2[3] = t2_gm + uniform(*k.t2_core_low)
        flair[3] = flair_gm + uniform(*k.flair_core_low)
    values = {"t1": t1, "t1ce": t1ce, "t2": t2, "flair": flair}
    fluids = _draw_fluids(rng.substream("fluids"), values)
    ordered = {name: [*tissues, *fluids[name]] for name, tissues in values.items()}
    other = rng.substream("other contrasts")
    if other.chance(setting.relaxation):
        return draw_relaxation_contrast(other)
    return draw_random_contrast(other, ordered) if other.chance(setting.random_contrast) else ordered


def _draw_fluids(rng: RandomStream, values: dict[str, list[float]]) -> dict[str, tuple[float, float]]:
    """Draw the brightness of cysts and blood: sequence -> (cyst, blood).

    Cysts resemble CSF, and are brighter than it in half the FLAIR images, depending on their protein. Blood is bright
    in T1, and bright or dark in T2 and FLAIR, depending on its age.
    """
    t1, t1ce, t2, flair = (values[name] for name in ("t1", "t1ce", "t2", "flair"))
    cyst, blood = rng.uniform(0, 0.12), rng.uniform(0, 0.4)
    dark_cyst, dark_blood = rng.chance(0.5), rng.chance(0.5)
    sign = -1 if dark_blood else 1
    return {
        "t1": (t1[0] + cyst, t1[2] + blood),
        "t1ce": (t1ce[0] + cyst, t1ce[2] + blood),
        "t2": (t2[0] * rng.uniform(0.85, 1.1), t2[1] + sign * rng.uniform(0, 0.25)),
        "flair": (
            flair[0] if dark_cyst else flair[1] + rng.uniform(-0.1, 0.25),
            flair[1] + sign * rng.uniform(0, 0.3),
        ),
    }
