"""The named settings of the generator, and how to find one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from brats3d.errors import UsageError
from brats3d.phantoms.settings import Contrasts, Setting

_VARIED = Setting(
    rotation_deg=(-8, 8),
    scale=(0.8, 1.02),
    fold_mm=(0, 1.6),
    ventricle_mm=(-2, 9),
    ventricle_skew=(-0.6, 0.6),
    ventricle_level=(0.2, 0.65),
    csf_weight=(0.6, 3),
    gyri=(0, 0.6),
    sharpness=(1.2, 3),
    bitten=0.15,
    leaves_skull=0.2,
    low_grade=0.3,
    cerebellar=0.15,
    more_foci=0.3,
    small=0.1,
    radius_low_mm=(14, 48),
    radius_high_mm=(14, 48),
    stretch=(0.65, 1.45),
    push=(0.1, 0.6),
    roughness=(0.1, 0.45),
    lobes=3,
    infiltrates=True,
    has_edema_low=0.6,
    edema_low_mm=(0, 18),
    edema_high_mm=(2, 34),
    edema_fade=(0, 0.5),
    low_grade_enhances=0.5,
    low_grade_enhancement_level=(0.4, 2),
    diffuse=0.5,
    rim_mm=(2, 16),
    shell=0.3,
    cystic=0.2,
    bleeds=0.15,
    bleed_level=(0.3, 1.5),
    min_core_ml=0.3,
    tube_gain=(0, 1.0),
    dura_gain=(0, 0.9),
    plexus_gain=(0, 0.6),
    cap_gain=(0, 0.3),
    flow_gain=(0, 0.4),
    spot_gain=(0, 0.35),
    contrasts=Contrasts(
        t1_csf=(0.08, 0.38),
        t1_gm=(0.42, 0.72),
        t1_wm=(0.04, 0.38),
        t1_core=(0.0, 0.32),
        t1_core_low=(0.04, 0.3),
        t1_edema=(-0.08, 0.2),
        t1_edema_low=(-0.05, 0.15),
        t1ce_shift=0.04,
        t1ce_other=0.4,
        t1ce_enhancing=(0.06, 1.0),
        t2_wm=(0.2, 0.5),
        t2_gm=(0.03, 0.28),
        t2_csf=(0.2, 1.3),
        t2_core=(0.03, 0.7),
        t2_core_low=(0.2, 0.85),
        t2_edema=(0.08, 0.5),
        flair_wm=(0.35, 0.65),
        flair_gm=(0, 0.22),
        flair_csf=(0.08, 0.45),
        flair_core=(-0.35, 0.5),
        flair_core_low=(-0.25, 0.55),
        flair_edema=(0.15, 0.7),
    ),
    opacity=(0.35, 1),
    soft_mm=(0.5, 2.5),
    regional=(0, 0.1),
    deep_gm=(-0.2, 1.1),
    folia=(0, 0.9),
    core_variation=(0, 0.25),
    uptake_variation=(0, 0.8),
    texture=(0.01, 0.07),
    hindbrain_gain=(-0.1, 0.3),
    bias=(0, 0.12),
    blur_mm=(0, 0.8),
    tumour_texture=(0.3, 3),
    thick=0.45,
    axial=0.6,
    ghosts=0.12,
    noise=(0.003, 0.05),
    rician=True,
    gamma=(0.75, 1.35),
    rings=0.3,
)

# Another hospital: thick slices, other contrasts, more noise, younger patients, more small and low-grade tumours
_NEW_SCANNER = replace(
    _VARIED,
    csf_weight=(0.5, 0.9),
    low_grade=0.7,
    small=0.3,
    bias=(0.12, 0.25),
    thick=1,
    slice_mm=(4, 7),
    noise=(0.04, 0.07),
    gamma=(1.4, 1.7),
    contrasts=replace(
        _VARIED.contrasts,
        t1_wm=(0.02, 0.08),
        t1_edema=(-0.1, 0.05),
        t2_csf=(0.08, 0.2),
        t2_edema=(0.04, 0.15),
        flair_csf=(0.04, 0.12),
        flair_edema=(0.06, 0.2),
        t1ce_enhancing=(0.05, 0.3),
    ),
)

# Beyond `varied`: the steps that weights are trained on, so that real scans lie within
_WIDE = replace(
    _VARIED,
    rigid_rotation_deg=(-12, 12),
    bend_mm=(0, 5),
    atrophic=0.25,
    all_thick=0.15,
    slice_gap_mm=(0, 2),
    slice_tilt=(-0.2, 0.2),
    misregistered=0.4,
    partial=0.15,
    uneven_edema=(0, 0.7),
    uneven_uptake=(0, 0.7),
    relaxation=0.33,
    random_contrast=0.5,
    class_spread=(0, 0.08),
    self_texture=(0, 0.5),
    contrasts=replace(_VARIED.contrasts, weak_uptake=0.25),
    small_core=0.08,
    satellites=0.15,
    swirl=(0, 0.5),
    resected=0.05,
    edema_shift=(0, 0.6),
    fingers_mm=(0, 20),
    coreless=0.1,
    core_like=0.2,
    thin_rim=0.12,
    nodule=0.06,
    least_contrast=(0.03, 0.1),
    least_uptake=(0.15, 0.4),
    edema_fade=(0, 0.8),
    margin_fade=(0.3, 0.9),
    low_grade=0.22,
    small=0.05,
    radius_low_mm=(18, 50),
    radius_high_mm=(20, 48),
    edema_low_mm=(0, 20),
    edema_high_mm=(4, 38),
    rim_mm=(3, 20),
)

SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {"varied": _VARIED, "plain": Setting(), "new-scanner": _NEW_SCANNER, "wide": _WIDE}
)
"""``varied`` covers a wide range of scanners and tumours, to train weights that transfer. ``plain`` is easier, for a
first look in minutes (the demo). ``new-scanner`` is narrow and lies at the edges of ``varied`` or beyond, to try
fine-tuning. ``wide`` adds to ``varied`` whatever helped weights to transfer further; ``brats3d pretrain`` uses it."""

DEFAULT_SETTING = "varied"


def get_setting(setting: str | Setting) -> Setting:
    """Return a named setting; return a :class:`Setting` as it is.

    Raises:
        UsageError: if there is no setting of that name.
    """
    if isinstance(setting, Setting):
        return setting
    if setting not in SETTINGS:
        raise UsageError("setting", expected=f"one of {', '.join(SETTINGS)}", found=setting)
    return SETTINGS[setting]
