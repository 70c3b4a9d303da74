"""The drawings of a report: curves, box plots, and slices of cases with the regions outlined.

Charts are matplotlib figures, built without pyplot's global state; slices are plain arrays, so that a page can lay them
out anew for each width.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from brats3d.evaluation import MEASURES, ScoreRow
from brats3d.files import MODALITY_TITLES, overlay, to_rgb
from brats3d.labels import REGION_COLOURS, REGION_NAMES, REGIONS, REGIONS_TO_READ

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curves = Mapping[str, Sequence[tuple[int, float]]]


@dataclass(frozen=True, eq=False)
class Picture:
    """A slice to be shown.

    Args:
        pixels: uint8, shape (height, width, 3).
        title: stands below it.
        alt: says what it shows to who cannot see it.
    """

    pixels: np.ndarray
    title: str
    alt: str


def draw_curves(curves: Curves) -> dict[str, tuple[Figure, str]]:
    """Loss, learning rate and Dice over the iterations, each where its tags are there: name -> (figure, alt text).

    Args:
        curves: TensorBoard tag -> (iteration, value) pairs.
    """
    drawn = {}
    for tag, name in (("train_loss", "loss"), ("learning_rate", "learning rate")):
        if points := curves.get(tag):
            figure, axes = _figure(f"Training {name}" if tag == "train_loss" else "Learning rate")
            _draw_scalar(axes, points)
            axes.set(xlabel="iteration", ylabel=name)
            drawn[tag] = figure, _said(name, points)
    regions = [region for region in REGIONS_TO_READ if curves.get(f"val_dice_{region.lower()}")]
    if regions:
        figure, axes = _figure("Dice of the validation cases")
        for region in regions:
            steps, values = zip(*curves[f"val_dice_{region.lower()}"], strict=True)
            axes.plot(steps, values, marker="o", markersize=3, label=region, color=REGION_COLOURS[region])
        axes.set(xlabel="iteration", ylabel="Dice", ylim=(0, 1))
        axes.legend(frameon=False, ncols=3, loc="lower right")
        drawn["dice_curve"] = figure, "; ".join(_said(f"Dice of {r}", curves[f"val_dice_{r.lower()}"]) for r in regions)
    return drawn


def draw_boxes(rows: Sequence[ScoreRow]) -> dict[str, tuple[Figure, str]]:
    """Dice, HD95 and lesion-wise Dice of each region, a point a case: measure -> (figure, alt text).

    Args:
        rows: as :func:`brats3d.evaluation.score_case` returns them; a measure that a row lacks is not drawn.
    """
    drawn = {}
    for measure in ("dice", "hd95_mm", "lesion_dice"):
        measured = [(row.region, value) for row in rows if (value := row.value(measure)) is not None]
        if len(measured) < len(rows):
            continue
        values = {region: [value for name, value in measured if name == region] for region in REGIONS_TO_READ}
        title = MEASURES[measure].title
        figure, axes = _figure(title[:1].upper() + title[1:])
        for place, (region, each) in enumerate(values.items()):
            _draw_box(axes, place, each, REGION_COLOURS[region])
        axes.set_xticks(range(len(values)), [f"{region}\n{REGION_NAMES[region]}" for region in values])
        if measure == "hd95_mm":  # a missed region's 374 mm would press the rest onto the axis
            axes.set_yscale("symlog", linthresh=10, linscale=1.2)
            ticks = [0, 5, 10, 20, 50, 100, 200, 374]
            axes.set_yticks(ticks, [str(tick) for tick in ticks])
            axes.set(ylabel="mm, logarithmic above 10", ylim=(-0.5, 450))
        else:
            axes.set_ylim(-0.03, 1.03)
        medians = ", ".join(f"{region} {np.median(each):.3g}" for region, each in values.items())
        text = f"Box plot of {title} by region, one point a case; medians: {medians}"
        drawn[measure] = figure, text
    return drawn


def as_svg(figure: Figure) -> bytes:
    """A figure as SVG, the same bytes each time; letters are outlines, so that no font is needed."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "brats3d", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return buffer.getvalue()


def as_png(figure: Figure) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def as_jpeg(pixels: np.ndarray, quality: int = 85) -> bytes:
    """A picture (height, width, 3) of uint8 as JPEG; colours keep every pixel, so that thin outlines stay."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality, subsampling=0, optimize=True)
    return buffer.getvalue()


def case_panels(
    image: np.ndarray,
    modalities: Sequence[str],
    ref: np.ndarray,
    pred: np.ndarray,
    z: int,
    spacing_mm: Sequence[float],
    case_id: str,
    start: int = 0,
) -> list[Picture]:
    """One slice of a case: each sequence as it is, then reference and prediction outlined on FLAIR and on T1ce.

    FLAIR shows the whole tumour's border, T1ce that of the core.

    Args:
        image: shape (C, H, W, D), axes towards L, P and S.
        modalities: the channels' names.
        ref: regions {0, 1}, shape (3, H, W, D).
        pred: the same.
        z: which slice.
        spacing_mm: voxel size along each axis.
        case_id: for the alternative texts.
        start: slices of the whole volume before the first of the image.
    """
    shown = f"{case_id}, axial slice {start + z}"
    planes = {name: image[i][..., z] for i, name in enumerate(modalities)}
    nothing = np.zeros_like(ref[..., z])
    panels = [
        Picture(outlined(plane, nothing, spacing_mm), MODALITY_TITLES[name], f"{shown}: {name}")
        for name, plane in planes.items()
    ]
    for name in border_sequences(modalities):
        for what, regions in (("reference", ref), ("prediction", pred)):
            pixels = outlined(planes[name], regions[..., z], spacing_mm)
            alt = f"{shown}: outlines of the {what} on {name}"
            panels.append(Picture(pixels, f"{what} on {MODALITY_TITLES[name]}", alt))
    return panels


def border_sequences(modalities: Sequence[str]) -> list[str]:
    """On which of a case's sequences borders are judged: FLAIR and T1ce; the first one where there is neither."""
    return [name for name in modalities if name in ("t1ce", "flair")][::-1] or [modalities[0]]


def outlined(plane: np.ndarray, regions: np.ndarray, spacing_mm: Sequence[float], zoom: int = 3) -> np.ndarray:
    """A slice, enlarged, with the borders of its regions drawn over it, so that what lies inside can be seen.

    The line of WT and TC runs along the outside of the border, that of ET along the inside: where the enhancing rim is
    the border of the core, both are to be seen.

    Args:
        plane: intensities, shape (H, W), axes towards L and P.
        regions: {0, 1}, shape (3, H, W), channels in the order of ``labels.REGIONS``.
        spacing_mm: voxel size along the two axes, or along three.
        zoom: pixels for the shorter side of a voxel.

    Returns:
        uint8, shape (height, width, 3).
    """
    from PIL import Image
    from scipy.ndimage import binary_dilation, binary_erosion

    size = _size(plane.shape, spacing_mm, zoom)
    pixels = np.array(Image.fromarray(to_rgb(plane)).resize(size, Image.Resampling.BICUBIC))
    line = max(1, round(max(size) / 150))
    for region in REGIONS_TO_READ:
        mask = Image.fromarray((np.asarray(regions)[REGIONS.index(region)].T > 0).astype(np.uint8) * 255)
        large = np.array(mask.resize(size, Image.Resampling.BICUBIC)) > 127
        if region == "ET":
            border = large & ~binary_erosion(large, iterations=line, border_value=1)
        else:
            border = binary_dilation(large, iterations=line) & ~large
        pixels[border] = _rgb(REGION_COLOURS[region])
    return pixels


def thumbnail(plane: np.ndarray, ref: np.ndarray, pred: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Reference and prediction of one slice side by side, a pixel for the shorter side of a voxel.

    Args:
        plane: intensities, shape (H, W), axes towards L and P.
        ref: regions {0, 1}, shape (3, H, W), channels in the order of ``labels.REGIONS``.
        pred: the same.
        spacing_mm: voxel size along the two axes, or along three.

    Returns:
        uint8, shape (height, 2 width + 2, 3).
    """
    from PIL import Image

    width, height = _size(plane.shape, spacing_mm)
    left, right = (
        np.array(Image.fromarray(overlay(plane, regions)).resize((width, height))) for regions in (ref, pred)
    )
    return np.concatenate([left, np.full((height, 2, 3), 255, np.uint8), right], axis=1)


def _size(shape: Sequence[int], spacing_mm: Sequence[float], zoom: int = 1) -> tuple[int, int]:
    """Width and height in pixels of a slice (H, W) whose voxels need not be square."""
    step_mm = min(spacing_mm[:2])
    width, height = (round(n * zoom * mm / step_mm) for n, mm in zip(shape, spacing_mm[:2], strict=True))
    return width, height


_FEW_POINTS = 400


def _figure(title: str) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _draw_scalar(axes: Axes, points: Sequence[tuple[int, float]]) -> None:
    """A line; of many points the mean of neighbours within the range that they span."""
    kept = [(step, value) for step, value in points if math.isfinite(value)]
    if len(kept) <= _FEW_POINTS:
        axes.plot(*zip(*kept, strict=True), color="#0072B2", linewidth=1.2)
        return
    parts = list(_parts(kept, _FEW_POINTS // 2))
    steps = [part[:, 0].mean() for part in parts]
    low, mean, high = ([find(part[:, 1]) for part in parts] for find in (np.min, np.mean, np.max))
    axes.fill_between(steps, low, high, color="#0072B2", alpha=0.2, linewidth=0)
    axes.plot(steps, mean, color="#0072B2", linewidth=1.2)


def _parts(points: Sequence[tuple[int, float]], count: int) -> Iterator[np.ndarray]:
    yield from np.array_split(np.array(points, dtype=float), count)


def _draw_box(axes: Axes, place: int, values: Sequence[float], colour: str) -> None:
    axes.boxplot(
        [values],
        positions=[place],
        widths=0.5,
        showfliers=False,  # every case is drawn as a point
        patch_artist=True,
        boxprops={"facecolor": colour, "alpha": 0.45, "edgecolor": "black"},
        medianprops={"color": "black", "linewidth": 1.6},
    )
    golden = (math.sqrt(5) - 1) / 2  # its multiples spread evenly, the same way each time
    beside = [place + 0.36 * ((i * golden) % 1 - 0.5) for i in range(len(values))]
    axes.scatter(beside, values, s=11, color=colour, edgecolor="black", linewidth=0.4, zorder=3)


def _said(name: str, points: Sequence[tuple[int, float]]) -> str:
    (first, start), (last, end) = points[0], points[-1]
    return f"{name}: {start:.3g} at iteration {first}, {end:.3g} at iteration {last}"


def _rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
