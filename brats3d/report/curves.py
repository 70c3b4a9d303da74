"""The curves of a run, read from its TensorBoard events, and a picture of its Dice curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from brats3d.errors import DataError
from brats3d.files import regular_file_size, write_whole
from brats3d.labels import REGION_COLOURS, REGIONS_TO_READ

MAX_EVENTS_BYTES = 2**30
"""Limit for a run's TensorBoard events, which hold scalars and a few pictures per validation."""


def save_curve(
    path: str | Path,
    curves: Mapping[str, Sequence[tuple[int, float]]],
    title: str = "",
    baseline: Mapping[str, float] | None = None,
    baseline_name: str = "",
) -> Path:
    """Write a PNG of the Dice curves of a run.

    Args:
        path: the PNG.
        curves: TensorBoard tag -> (iteration, value) pairs, such as ``val_dice_wt``.
        title: title of the plot.
        baseline: region -> Dice of another model, drawn as dashed lines.
        baseline_name: name of the other model in the legend.

    Returns:
        The path.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for tag, points in curves.items():
        region = tag.rsplit("_", 1)[-1].upper()
        steps, values = zip(*points, strict=True) if points else ((), ())
        axes.plot(steps, values, marker="o", markersize=3, label=tag, color=REGION_COLOURS.get(region, "black"))
    for region, dice in (baseline or {}).items():
        axes.axhline(dice, linestyle="--", color=REGION_COLOURS[region], label=f"{region}, {baseline_name}")
    axes.set(xlabel="iteration", ylabel="Dice", ylim=(0, 1), title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return write_whole(path, lambda file: figure.savefig(file, format="png", dpi=120))


def read_scalars(run_dir: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Read every curve of a run from its TensorBoard events.

    Returns:
        Tag -> (iteration, value) pairs.

    Raises:
        DataError: if the folder has no event file, or one of them is not a regular file, is damaged, or they have more
            than :data:`MAX_EVENTS_BYTES` together.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = Path(run_dir) / "tensorboard"
    files = sorted(folder.glob("*tfevents*"))
    if not any(path.name.startswith("events.out.tfevents.") for path in files):
        raise DataError(folder, "no TensorBoard events", expected="the output_dir of a training")
    try:
        if (size := sum(map(regular_file_size, files))) > MAX_EVENTS_BYTES:
            raise ValueError(f"{size:,} bytes; at most {MAX_EVENTS_BYTES:,} are read")
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    except Exception as error:  # TensorBoard raises different types for different kinds of damage
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(folder, f"the TensorBoard events cannot be read ({reason:.300})") from error
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def read_curves(run_dir: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Read the validation Dice curves of a run, in the form of :func:`read_scalars`.

    Raises:
        DataError: as :func:`read_scalars`.
    """
    prefixes = ("val_dice_", "val_mean_dice")
    return {tag: points for tag, points in read_scalars(run_dir).items() if tag.startswith(prefixes)}


if __name__ == "__main__":  # called by `make demo` with: RUN PNG METRICS_OF_THE_BUNDLED_WEIGHTS
    import json
    import sys

    run_dir, png, included = sys.argv[1:]
    summary = json.loads(Path(included).read_text(encoding="utf-8"))["summary"]
    save_curve(
        png,
        read_curves(run_dir),
        title="Dice on the validation cases",
        baseline={region: summary[region]["dice"] for region in REGIONS_TO_READ},
        baseline_name="included weights",
    )
