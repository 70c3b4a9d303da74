"""What a phantom is drawn from: one table of numbers with units, and the named settings made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from brats3d.phantoms.noise import Range

NEVER: Range = (0, 0)


@dataclass(frozen=True)
class Contrasts:
    """Brightness of tissues, in arbitrary units in which white and grey matter lie between about 0.2 and 1.

    The order of the healthy tissues is what defines a sequence (T1: CSF < GM < WM; T2: WM < GM < CSF; FLAIR: CSF < WM
    <= GM): each is drawn as a distance from the one before it, so that no draw can invert it. T1ce repeats T1 but for a
    small shift of each tissue, which keeps at least a quarter of the distances; or is drawn as T1 is, where the two
    were scanned in different ways. What tumours look like is written as a distance from grey matter: in T1 how much
    darker, in T2 and FLAIR how much brighter. ``_low`` is of low-grade tumours.
    """

    t1_csf: Range = (0.1, 0.35)
    t1_gm: Range = (0.45, 0.7)
    t1_wm: Range = (0.08, 0.35)  # above GM
    t1_core: Range = (0.02, 0.3)  # below GM
    t1_core_low: Range = (0.08, 0.3)
    t1_edema: Range = (-0.05, 0.2)  # below GM
    t1_edema_low: Range = (-0.03, 0.12)
    t1_enhancing: Range = (-0.12, 0.2)  # below GM, before the agent
    t1ce_shift: float = 0.03  # standard deviation by which T1ce differs from T1 where no agent is taken up
    t1ce_other: float = 0  # chance that T1ce is another kind of T1: CSF, GM and WM are drawn anew, from T1's ranges
    t1ce_enhancing: Range = (0.1, 0.9)  # above WM
    t2_wm: Range = (0.25, 0.45)
    t2_gm: Range = (0.05, 0.25)  # above WM
    t2_csf: Range = (0.2, 0.6)  # above GM
    t2_core: Range = (0.05, 0.6)  # above GM
    t2_core_low: Range = (0.25, 0.7)
    t2_edema: Range = (0.1, 0.45)
    t2_enhancing: Range = (-0.05, 0.35)
    flair_wm: Range = (0.4, 0.6)
    flair_gm: Range = (0, 0.2)  # above WM
    flair_csf: Range = (0.15, 0.4)  # below WM
    flair_core: Range = (-0.35, 0.45)  # above GM
    flair_core_low: Range = (-0.1, 0.5)
    flair_edema: Range = (0.15, 0.6)
    flair_enhancing: Range = (0, 0.5)


@dataclass(frozen=True)
class Ranges:
    """What a case is drawn from: uniform between the two ends, or the chance of something, between 0 and 1.

    The defaults are the plain setting: a round tumour in an average head, with some vessels and white-matter spots.
    What is off in it draws from streams of its own (:meth:`brats3d.phantoms.Draw.of`), so that switching it on
    changes little else in a case. Steps that share a stream (those of a focus, the distractors, the scanner of a
    sequence) do shift one another, and noise is another in a head of another size. A step is off where its range is
    (0, 0), its chance 0.
    """

    # --- anatomy and deformation ---
    rotation_deg: Range = (-6, 6)
    # The ICBM brain is about 1.9 l within its mask; adult brains with the CSF around them average about 1.4 l.
    scale: Range = (0.84, 1.0)
    shift_mm: Range = (-4, 4)
    warp_mm: Range = (1, 5)
    warp_length_mm: Range = (24, 50)
    fold_mm: Range = NEVER  # a second, finer warp, for gyri of its own
    fold_length_mm: Range = (9, 18)
    ventricle_mm: Range = NEVER  # how far the walls of the lateral ventricles move outwards
    ventricle_skew: Range = NEVER  # share of it by which the left one moves further and the right one less
    ventricle_level: Range = NEVER  # fraction of CSF at which a wall stands; the average has blurred all walls
    csf_weight: Range = (1, 1)  # times the fraction of CSF: wide sulci (atrophy) above 1, narrow ones below
    gyri: Range = NEVER  # how strongly sulci and white-matter blades of a random folding are cut into the cortex
    sharpness: Range = (1, 2.5)  # exponent of the tissue fractions: the average atlas is smoother than any one brain
    # --- skull-stripping ---
    strip_mm: Range = (0, 3)  # how deep below the atlas's brain surface the skull-stripping cuts
    bitten: float = 0  # chance that it cuts deeper in places, by `bite_mm`
    bite_mm: Range = (3, 10)
    leaves_skull: float = 0  # chance that it leaves patches of what lies outside the brain, up to `skull_mm` thick
    skull_mm: Range = (1, 4)
    # --- tumour: size and place ---
    healthy: float = 0  # chance that there is no tumour: never in a case, some of the time in training
    low_grade: float = 0.4
    cerebellar: float = 1  # chance that foci may lie in the cerebellum too, where gliomas of adults are rare
    second_focus: float = 0.2
    more_foci: float = 0  # chance of each further focus, up to four in all
    small: float = 0  # chance that the first focus has `radius_small_mm`
    radius_small_mm: Range = (3, 9)
    radius_low_mm: Range = (10, 34)
    radius_high_mm: Range = (6, 28)
    radius_second_mm: Range = (4, 12)
    stretch: Range = (0.75, 1.3)
    pushes: float = 0.6
    push: Range = (0.1, 0.45)  # displacement at the centre, in radii
    # --- tumour: shape ---
    roughness: Range = (0.1, 0.3)  # of the core's surface, in radii
    lobes: int = 1  # a core is the union of up to so many ellipsoids
    infiltrates: bool = False  # reach is measured along tissue: slow in grey matter, hardly through CSF, not the falx
    slow_in_gm: Range = (1.3, 2.2)  # times as long a way as through white matter
    has_edema: float = 0.85
    has_edema_low: float = 0.85  # around low-grade tumours, of which many are core alone
    edema_low_mm: Range = (0, 14)
    edema_high_mm: Range = (0, 30)
    edema_roughness_mm: Range = (2, 7)
    edema_in_white_matter_mm: float = 8  # how much further edema reaches in white than in grey matter
    edema_fade: Range = NEVER  # share of its contrast that edema has lost where it ends
    # --- tumour: what the core holds ---
    low_grade_enhances: float = 0.3
    low_grade_enhancement_level: Range = (1.6, 1.6)  # of unit noise, above which the core enhances
    diffuse: float = 0  # chance that a low-grade core has no edge: it merges into what is around it over `margin_mm`
    margin_mm: Range = (6, 20)
    margin_fade: Range = (0.3, 0.8)  # share of such a core that has given way at its surface
    rim_mm: Range = (1.5, 9)  # thickness of the enhancing rim
    necrosis_level: Range = (-2.5, 0.3)  # of unit noise: low, the whole inside is necrotic; high, patches of it
    has_necrosis: float = 0.85
    shell: float = 0  # chance that a high-grade core has tissue that does not enhance around what does
    shell_mm: Range = (2, 10)
    cystic: float = 0  # chance of a cyst: a smooth cavity full of fluid within the core
    cyst: Range = (0.3, 0.8)  # its radius, in radii of the focus
    min_core_ml: float = 0  # a tumour with a smaller core is grown again, larger
    bleeds: float = 0  # chance of haemorrhage: patches within the core that are bright in T1
    bleed_level: Range = (0.8, 2.0)  # of unit noise
    # --- unlabelled distractors: level of unit noise above which they stand, and brightness ---
    vessel_level: Range = (1.2, 2.2)
    vessel_gain: Range = (0, 0.9)
    spot_level: Range = (1.6, 2.8)  # white-matter hyperintensities
    spot_gain: Range = (0, 0.3)
    tube_gain: Range = NEVER  # vessels as tubes, in T1ce
    dura_gain: Range = NEVER  # patches of dura and the sagittal sinus, in T1ce
    plexus_gain: Range = NEVER  # choroid plexus within the ventricles, in T1ce
    cap_gain: Range = NEVER  # hyperintense white matter around the ventricles, in FLAIR and T2
    flow_gain: Range = NEVER  # patches of moving CSF, brighter in FLAIR and darker in T2
    # --- contrast and acquisition ---
    contrasts: Contrasts = field(default_factory=Contrasts)
    faint: float = 0.5  # chance that a tumour is blended with the tissue below by `opacity`, with soft edges
    opacity: Range = (0.3, 1)
    soft_mm: Range = (0.8, 0.8)  # standard deviation of the blur of those edges
    regional: Range = NEVER  # standard deviation, as a share, by which grey and white matter vary from place to place
    regional_mm: Range = (20, 70)  # over which length
    deep_gm: Range = NEVER  # how far deep grey matter is from cortex on the way to white matter
    folia: Range = NEVER  # how far cerebellar tissue is mixed, as folia finer than a voxel mix it
    core_variation: Range = NEVER  # how unequal the core's parts are in brightness; the edema's half as much
    uptake_variation: Range = NEVER  # share of its enhancement that enhancing tissue lacks in places
    texture: Range = (0.01, 0.06)
    tumour_texture: Range = (0.3, 1.5)  # times texture, beside 0.4 in healthy tissue
    hindbrain_gain: Range = NEVER  # by what share cerebellum and brain stem are brighter than the same tissue above
    bias: Range = (0, 0.18)
    blurred: float = 0.6
    blur_mm: Range = (0, 0.6)  # standard deviation
    blur_thick_mm: Range = (0, 2.4)  # across slices; clinical ones of 5 mm are about 2.1
    thick: float = 0  # chance a sequence that slices of `slice_mm` were resampled to the grid
    slice_mm: Range = (2, 6)
    axial: float = 0  # chance that thick slices are axial, as most are; else along any axis
    ghosts: float = 0  # chance a sequence of motion ghosts
    ghost: Range = (0.01, 0.08)  # of the image's own brightness
    noise: Range = (0.003, 0.04)
    rician: bool = False  # noise of magnitude images, which cannot be negative
    gamma: Range = (0.8, 1.25)
    rings: float = 0  # chance a sequence of overshoot from interpolation, which may fall below 0
    ringing: Range = (0.05, 0.5)  # of the difference to the mean over 3 voxels along an axis
    brain_mean: Range = (100, 2000)  # raw units of the scanner, drawn on a logarithmic scale


_VARIED = Ranges(
    rotation_deg=(-8, 8),
    scale=(0.8, 1.02),
    warp_mm=(1, 5),
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

# Another hospital: thick slices, other contrasts, more noise, younger patients, more small and low-grade tumours.
_SHIFTED = replace(
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

SETTINGS: Mapping[str, Ranges] = MappingProxyType({"varied": _VARIED, "plain": Ranges(), "new-scanner": _SHIFTED})
"""``varied`` is as wide as scanners and tumours are, to train weights that transfer; ``plain`` is easier, for a first
look in minutes (the demo); ``new-scanner`` is narrow and lies at the edges of ``varied`` or beyond, to fine-tune on."""

DEFAULT_SETTING = "varied"


def get_ranges(setting: str | Ranges) -> Ranges:
    """The ranges of a named setting; ranges of one's own come back as they are.

    Raises:
        ValueError: if there is no setting of that name.
    """
    if isinstance(setting, Ranges):
        return setting
    if setting not in SETTINGS:
        raise ValueError(f"setting: expected one of {', '.join(SETTINGS)}, got {setting!r}")
    return SETTINGS[setting]
