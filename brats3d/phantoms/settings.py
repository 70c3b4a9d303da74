"""The fields of a setting: every range and probability that a phantom is drawn from, with units."""

from __future__ import annotations

from dataclasses import dataclass, field

Range = tuple[float, float]

OFF: Range = (0, 0)


@dataclass(frozen=True)
class Contrasts:
    """Brightness of tissues, in arbitrary units in which white and grey matter lie between about 0.2 and 1.

    The order of the healthy tissues defines a sequence (T1: CSF < GM < WM; T2: WM < GM < CSF; FLAIR: CSF < WM <= GM).
    Each tissue is therefore drawn as a distance from the one before it, and no draw can invert the order. T1ce repeats
    T1 with a small shift of each tissue, which keeps at least a quarter of each distance; or its tissues are drawn
    anew, as if the two scans had different parameters (``t1ce_other``). Tumour tissues are distances from grey matter:
    how much darker in T1, how much brighter in T2 and FLAIR. ``_low`` stands for low-grade tumours.
    """

    t1_csf: Range = (0.1, 0.35)
    t1_gm: Range = (0.45, 0.7)
    t1_wm: Range = (0.08, 0.35)  # above GM
    t1_core: Range = (0.02, 0.3)  # below GM
    t1_core_low: Range = (0.08, 0.3)
    t1_edema: Range = (-0.05, 0.2)  # below GM
    t1_edema_low: Range = (-0.03, 0.12)
    t1_enhancing: Range = (-0.12, 0.2)  # below GM, without contrast agent
    t1ce_shift: float = 0.03  # standard deviation of the difference from T1 in tissue without contrast agent
    t1ce_other: float = 0  # chance that CSF, GM and WM of T1ce are drawn anew, from T1's ranges
    t1ce_enhancing: Range = (0.1, 0.9)  # above WM
    weak_uptake: float = 0  # chance that it is instead `t1ce_weak` above the core, which may be darker than WM
    t1ce_weak: Range = (0.1, 0.4)
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
class Setting:
    """Everything that a case is drawn from. A range is drawn from uniformly; a single number is a probability (0 to 1)
    unless its comment says otherwise.

    The defaults are the plain setting: a round tumour in an average head, with some vessels and white-matter spots.
    A step is off if its range is (0, 0) or its probability 0. The steps that are off by default draw from substreams
    (:meth:`brats3d.phantoms.RandomStream.substream`), so switching one on changes little else in a case. Steps that
    share a substream (those of one focus, the distractors, the scanner of one sequence) do affect each other, and a
    head of another size gets other noise.
    """

    # --- anatomy and deformation ---
    rotation_deg: Range = (-6, 6)
    rigid_rotation_deg: Range = OFF  # instead: a rotation without the shear of `rotation_deg`
    # The ICBM brain is about 1.9 l within its mask; adult brains with the CSF around them average about 1.4 l.
    scale: Range = (0.84, 1.0)
    shift_mm: Range = (-4, 4)
    warp_mm: Range = (1, 5)
    warp_length_mm: Range = (24, 50)
    bend_mm: Range = OFF  # a stronger warp that does not fold: standard deviation of the velocity, followed for a unit
    bend_length_mm: Range = (50, 90)
    fold_mm: Range = OFF  # a second, finer warp, which changes the gyri
    fold_length_mm: Range = (9, 18)
    ventricle_mm: Range = OFF  # how far the walls of the lateral ventricles move outwards
    ventricle_skew: Range = OFF  # fraction of that by which the left walls move further and the right ones less
    ventricle_level: Range = OFF  # fraction of CSF at which a wall is drawn; averaging has blurred all walls
    csf_weight: Range = (1, 1)  # factor on the fraction of CSF: above 1 wide sulci (atrophy), below 1 narrow ones
    gyri: Range = OFF  # how strongly random sulci and white-matter blades are cut into the cortex
    atrophic: float = 0  # chance of atrophy, which widens ventricles and sulci together: see atrophy.py
    sharpness: Range = (1, 2.5)  # exponent of the tissue fractions: the average atlas is smoother than any single brain
    # --- skull-stripping ---
    strip_mm: Range = (0, 3)  # how deep below the brain's surface skull-stripping cuts
    bitten: float = 0  # chance that it cuts deeper in places, by `bite_mm`
    bite_mm: Range = (3, 10)
    leaves_skull: float = 0  # chance that it leaves patches outside the brain, up to `skull_mm` thick
    skull_mm: Range = (1, 4)
    # --- tumour: size and position ---
    healthy: float = 0  # chance that there is no tumour; only pretraining uses it
    low_grade: float = 0.4
    cerebellar: float = 1  # chance that foci may lie in the cerebellum too, where adult gliomas are rare
    second_focus: float = 0.2
    more_foci: float = 0  # chance of each further focus, up to four in all
    small: float = 0  # chance that the first focus has `radius_small_mm`
    radius_small_mm: Range = (3, 9)
    radius_low_mm: Range = (10, 34)
    radius_high_mm: Range = (6, 28)
    radius_second_mm: Range = (4, 12)
    small_core: float = 0  # chance that the first focus has `small_core_mm` and `small_core_edema_mm`
    small_core_mm: Range = (4, 9)  # radius; 0.3 to 3 ml
    small_core_edema_mm: Range = (14, 30)
    satellites: float = 0  # chance of 1 to 6 tiny enhancing foci within the edema of a tumour that enhances
    satellite_mm: Range = (2, 5)  # their radius
    stretch: Range = (0.75, 1.3)
    pushes: float = 0.6
    push: Range = (0.1, 0.45)  # displacement at the centre, in radii
    # --- tumour: shape ---
    roughness: Range = (0.1, 0.3)  # of the core's surface, in radii
    lobes: int = 1  # maximum number of ellipsoids whose union is the core
    swirl: Range = OFF  # how far a smooth flow stirs the tumour's shape, in radii
    infiltrates: bool = False  # spread along tissue: slow in grey matter, hardly through CSF, not through the falx
    slow_in_gm: Range = (1.3, 2.2)  # length of a millimetre of grey matter, in millimetres of white matter
    has_edema: float = 0.85
    has_edema_low: float = 0.85  # the same for low-grade tumours, many of which have none
    edema_low_mm: Range = (0, 14)
    edema_high_mm: Range = (0, 30)
    edema_roughness_mm: Range = (2, 7)
    edema_in_white_matter_mm: float = 8  # how much further edema reaches in white than in grey matter, in mm
    fingers_mm: Range = OFF  # by how much less it reaches in grey matter in addition, so that it looks like fingers
    edema_shift: Range = (
        OFF  # how far the middle of the edema lies from that of the core, as a fraction of `edema_*_mm`
    )
    coreless: float = 0  # chance that a low-grade tumour infiltrates without a core: all of it is labelled edema
    edema_fade: Range = OFF  # fraction of its contrast that edema loses towards its outer end
    # --- tumour: contents of the core ---
    low_grade_enhances: float = 0.3
    low_grade_enhancement_level: Range = (1.6, 1.6)  # level of unit noise above which the core enhances
    diffuse: float = 0  # chance that a low-grade core merges into its surroundings over `margin_mm`
    margin_mm: Range = (6, 20)
    margin_fade: Range = (0.3, 0.8)  # fraction of such a core that is replaced by its surroundings at the surface
    rim_mm: Range = (1.5, 9)  # thickness of the enhancing rim
    thin_rim: float = 0  # chance, in a necrotic core, of a rim of `thin_rim_mm` around an inside that is all necrotic
    thin_rim_mm: Range = (0.8, 2)
    nodule: float = 0  # chance that of a high-grade core only a nodule enhances
    nodule_mm: Range = (3.5, 8)  # its radius; 0.2 to 2 ml
    necrosis_level: Range = (-2.5, 0.3)  # level of unit noise: low, all of the inside is necrotic; high, patches of it
    has_necrosis: float = 0.85
    shell: float = 0  # chance that a high-grade core has a non-enhancing layer around the enhancing tissue
    shell_mm: Range = (2, 10)
    cystic: float = 0  # chance of a cyst: a smooth cavity full of fluid in the core
    cyst: Range = (0.3, 0.8)  # its radius, in radii of the focus
    min_core_ml: float = 0  # a tumour with a smaller core is grown again, larger; in ml
    bleeds: float = 0  # chance of haemorrhage: patches in the core that are bright in T1
    bleed_level: Range = (0.8, 2.0)  # level of unit noise
    resected: float = 0  # chance of a resection cavity in or beside the tumour: fluid without a label
    cavity_mm: Range = (7, 20)  # its radius
    # --- unlabelled distractors: level of unit noise above which they appear, and brightness ---
    vessel_level: Range = (1.2, 2.2)
    vessel_gain: Range = (0, 0.9)
    spot_level: Range = (1.6, 2.8)  # white-matter hyperintensities
    spot_gain: Range = (0, 0.3)
    tube_gain: Range = OFF  # vessels as tubes, in T1ce
    dura_gain: Range = OFF  # patches of dura and the sagittal sinus, in T1ce
    plexus_gain: Range = OFF  # choroid plexus within the ventricles, in T1ce
    cap_gain: Range = OFF  # hyperintense white matter around the ventricles, in FLAIR and T2
    flow_gain: Range = OFF  # patches of moving CSF, brighter in FLAIR and darker in T2
    # --- contrast and acquisition ---
    contrasts: Contrasts = field(default_factory=Contrasts)
    relaxation: float = 0  # chance that the contrast comes from relaxation physics
    random_contrast: float = 0  # chance in the other cases that healthy tissues have any order of brightness
    faint: float = 0.5  # chance that a tumour is blended with the tissue below it by `opacity`, with soft edges
    opacity: Range = (0.3, 1)
    least_contrast: Range = OFF  # tumour of less contrast in all sequences is not labelled
    least_uptake: Range = OFF  # fraction of its clearest enhancement below which enhancing tissue is labelled core
    soft_mm: Range = (0.8, 0.8)  # standard deviation of the blur of those edges
    regional: Range = OFF  # relative standard deviation with which grey and white matter vary in space
    regional_mm: Range = (20, 70)  # length over which they vary
    deep_gm: Range = OFF  # brightness of deep grey matter: 0 as cortex, 1 as white matter
    folia: Range = OFF  # how far grey and white matter of the cerebellum are mixed, as by folia finer than a voxel
    class_spread: Range = OFF  # standard deviation of the brightness of the sub-classes of each tissue
    class_mm: Range = (12, 60)  # length of their patches
    core_like: float = 0  # chance that edema looks like core in places, which stay labelled as edema
    core_like_level: Range = (0, 1)  # level of unit noise
    core_variation: Range = OFF  # how much the brightness varies within the core; within edema half as much
    self_texture: Range = OFF  # strength, in tumours, of the structure of healthy tissue from elsewhere in the head
    uptake_variation: Range = OFF  # fraction of its enhancement that enhancing tissue lacks in places
    uneven_uptake: Range = OFF  # the same over about 40 mm, so that some foci enhance less than others
    uneven_edema: Range = OFF  # fraction of its contrast that edema lacks in places, over 10 to 30 mm
    texture: Range = (0.01, 0.06)
    tumour_texture: Range = (0.3, 1.5)  # factor on the texture in tumours, added to 0.4, the factor in healthy tissue
    hindbrain_gain: Range = OFF  # by what fraction cerebellum and brain stem are brighter than the same tissue above
    misregistered: float = 0  # chance, per sequence but the one that was labelled, of a motion against it
    misregistered_mm: Range = (0.5, 2)  # its shift, in any direction
    misregistered_deg: Range = (-1, 1)  # its rotation about each axis
    bias: Range = (0, 0.18)
    blurred: float = 0.6
    blur_mm: Range = (0, 0.6)  # standard deviation
    blur_thick_mm: Range = (0, 2.4)  # the same along one axis; clinical slices of 5 mm correspond to about 2.1
    thick: float = 0  # chance, per sequence, of slices of `slice_mm` resampled to the grid
    slice_mm: Range = (2, 6)
    all_thick: float = 0  # chance that all sequences of a case have such slices
    slice_gap_mm: Range = OFF  # between two slices, seen by neither
    slice_tilt: Range = OFF  # slope of the slices along each axis of their plane; 0.1 is 6 degrees
    axial: float = 0  # chance that thick slices are axial; otherwise they lie along any axis
    ghosts: float = 0  # chance, per sequence, of motion ghosts
    ghost: Range = (0.01, 0.08)  # as a fraction of the image's brightness
    noise: Range = (0.003, 0.04)
    rician: bool = False  # noise of magnitude images, which is never negative
    gamma: Range = (0.8, 1.25)
    rings: float = 0  # chance, per sequence, of overshoot at edges as from interpolation, which may fall below 0
    ringing: Range = (0.05, 0.5)  # as a fraction of the difference from the mean of 3 voxels along an axis
    partial: float = 0  # chance that one sequence does not cover the whole brain
    uncovered: Range = (0.02, 0.33)  # fraction of the brain that it lacks, on one side
    brain_mean: Range = (100, 2000)  # in units of the scanner, drawn on a logarithmic scale
