"""Charts of a report: training curves, box plots of the scores, and predicted against true Dice.

They are matplotlib figures, built without pyplot's global state.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

from brats3d.evaluation import MEASURES, ScoreRow
from brats3d.labels import REGION_COLOURS, REGION_NAMES, REGIONS_TO_READ
from brats3d.quality import REVIEW_DICE
from brats3d.report.predicted_quality import ComparedCase

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curves = Mapping[str, Sequence[tuple[int, float]]]
"""TensorBoard tag -> (iteration, value) pairs."""


@dataclass(frozen=True, eq=False)
class Chart:
    """A chart.

    Args:
        figure: the matplotlib figure.
        alt: a description for readers who cannot see it.
    """

    figure: Figure
    alt: str

    def svg(self) -> bytes:
        """Return the chart as SVG, the same bytes each time. Letters are outlines, so no font is needed."""
        from matplotlib import rc_context

        buffer = io.BytesIO()
        with rc_context({"svg.hashsalt": "brats3d", "svg.fonttype": "path"}):
            metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
            self.figure.savefig(buffer, format="svg", metadata=metadata)
        return buffer.getvalue()

    def save_png(self, file: IO[bytes]) -> None:
        """Write the chart as PNG."""
        self.figure.savefig(file, format="png", dpi=150)


def draw_curves(curves: Curves) -> dict[str, Chart]:
    """Draw loss, learning rate and Dice over the iterations, for the tags that are present.

    Args:
        curves: TensorBoard tag -> (iteration, value) pairs.

    Returns:
        ``train_loss``, ``learning_rate`` and ``dice_curve`` -> chart.
    """
    charts = {}
    for tag, title, name in (
        ("train_loss", "Training loss", "loss"),
        ("learning_rate", "Learning rate", "learning rate"),
    ):
        if points := curves.get(tag):
            figure, axes = new_figure(title)
            draw_scalar(axes, points)
            label_iterations(axes)
            axes.set_ylabel(name)
            charts[tag] = Chart(figure, describe_curve(name, points))
    dice = {region: curves[tag] for region in REGIONS_TO_READ if (tag := f"val_dice_{region.lower()}") in curves}
    if dice:
        figure, axes = new_figure("Dice on the validation cases")
        for region, points in dice.items():
            axes.plot(*zip(*points), marker="o", markersize=3, label=region, color=REGION_COLOURS[region])
        label_iterations(axes)
        axes.set(ylabel="Dice", ylim=(0, 1))
        axes.legend(frameon=False, ncols=3, loc="lower right")
        alt = "; ".join(describe_curve(f"Dice of {region}", points) for region, points in dice.items())
        charts["dice_curve"] = Chart(figure, alt)
    return charts


def draw_boxes(rows: Sequence[ScoreRow]) -> dict[str, Chart]:
    """Draw box plots of Dice, HD95 and lesion-wise Dice by region, with one point per case.

    Args:
        rows: the scores; a measure that a row lacks is not drawn.

    Returns:
        Measure -> chart.
    """
    charts = {}
    for measure in ("dice", "hd95_mm", "lesion_dice"):
        measured = [(row.region, value) for row in rows if (value := row.value(measure)) is not None]
        if len(measured) < len(rows):
            continue
        title = MEASURES[measure].title
        values = {region: [value for name, value in measured if name == region] for region in REGIONS_TO_READ}
        figure, axes = new_figure(title[:1].upper() + title[1:])
        for place, (region, of_region) in enumerate(values.items()):
            _draw_box(axes, place, of_region, REGION_COLOURS[region])
        axes.set_xticks(range(len(values)), [f"{region}\n{REGION_NAMES[region]}" for region in values])
        if measure == "hd95_mm":  # on a linear axis, the 374 mm of a missed region would flatten all other values
            axes.set_yscale("symlog", linthresh=10, linscale=1.2)
            ticks = [0, 5, 10, 20, 50, 100, 200, 374]
            axes.set_yticks(ticks, [str(tick) for tick in ticks])
            axes.set(ylabel="mm, logarithmic above 10", ylim=(-0.5, 450))
        else:
            axes.set_ylim(-0.03, 1.03)
        medians = ", ".join(f"{region} {np.median(of_region):.3g}" for region, of_region in values.items())
        charts[measure] = Chart(figure, f"Box plot of {title} by region, one point per case; medians: {medians}")
    return charts


def draw_predicted_dice(cases: Sequence[ComparedCase]) -> dict[str, Chart]:
    """Draw predicted against true Dice, a point for each case and region.

    Args:
        cases: the cases; without any, nothing is drawn.

    Returns:
        ``predicted_dice`` -> chart.
    """
    if not cases:
        return {}
    figure, axes = new_figure("Predicted against true Dice")
    axes.plot([0, 1], [0, 1], color="#8a929b", linewidth=1, zorder=1)
    axes.axhline(REVIEW_DICE, color="#d55e00", linewidth=1, linestyle="--", zorder=1)
    axes.text(0.01, REVIEW_DICE + 0.015, "WT below: look first", fontsize=7, color="#a34700")
    for region in REGIONS_TO_READ[::-1]:
        dice = [case.regions[region].row.dice for case in cases]
        predicted = [case.regions[region].quality.predicted_dice for case in cases]
        colour = REGION_COLOURS[region]
        axes.scatter(dice, predicted, s=16, color=colour, edgecolor="black", linewidth=0.4, label=region, zorder=3)
    axes.set(xlabel="Dice", ylabel="predicted Dice", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.legend(frameon=False, fontsize=8, loc="lower right", reverse=True)
    return {"predicted_dice": Chart(figure, f"Predicted against true Dice of {len(cases)} cases, by region")}


MAX_POINTS = 400
"""Curves with more points are drawn as means of neighbours."""


def new_figure(title: str) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def label_iterations(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("iteration")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))


def draw_scalar(axes: Axes, points: Sequence[tuple[int, float]], colour: str = "#0072B2", label: str = "") -> None:
    """Draw a line; a long curve as the mean of neighbouring points, within the band that they span."""
    finite = np.array([(step, value) for step, value in points if math.isfinite(value)]).reshape(-1, 2)
    if len(finite) > MAX_POINTS:
        groups = np.array_split(finite, MAX_POINTS // 2)
        low, high = (np.array([extreme(group[:, 1]) for group in groups]) for extreme in (np.min, np.max))
        finite = np.array([group.mean(axis=0) for group in groups])
        axes.fill_between(finite[:, 0], low, high, color=colour, alpha=0.2, linewidth=0)
    marker = "." if len(finite) < 50 else ""
    axes.plot(finite[:, 0], finite[:, 1], color=colour, linewidth=1.2, marker=marker, label=label)


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


def describe_curve(name: str, points: Sequence[tuple[int, float]]) -> str:
    (first, start), (last, end) = points[0], points[-1]
    return f"{name}: {start:.3g} at iteration {first}, {end:.3g} at iteration {last}"
