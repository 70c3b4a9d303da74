"""The curves of a run, read from TensorBoard's events, and a picture of its Dice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from brats3d.files import ordinary_size, write_whole
from brats3d.labels import REGION_COLOURS, REGIONS_TO_READ

MAX_EVENTS_BYTES = 2**30
"""Of a run's TensorBoard events: scalars, and a few pictures a validation."""


def save_curve(
    path: str | Path,
    curves: Mapping[str, Sequence[tuple[int, float]]],
    title: str = "",
    beside: Mapping[str, float] | None = None,
    beside_name: str = "",
) -> Path:
    """A PNG of the Dice curves of a run.

    Args:
        path: of the PNG.
        curves: TensorBoard tag -> (iteration, value) pairs, such as ``val_dice_wt``.
        title: stands above.
        beside: region -> Dice of something to compare the run with, drawn as dashed lines.
        beside_name: what the dashed lines are.

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
    for region, dice in (beside or {}).items():
        axes.axhline(dice, linestyle="--", color=REGION_COLOURS[region], label=f"{region}, {beside_name}")
    axes.set(xlabel="iteration", ylabel="Dice", ylim=(0, 1), title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return write_whole(path, lambda file: figure.savefig(file, format="png", dpi=120))


def read_scalars(run_dir: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Every curve of a run, from its TensorBoard events: tag -> (iteration, value) pairs.

    Raises:
        FileNotFoundError: if the folder holds no event file.
        ValueError: if one of them is no ordinary file, larger than :data:`MAX_EVENTS_BYTES`, or damaged.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = Path(run_dir) / "tensorboard"
    files = sorted(folder.glob("*tfevents*"))
    if not any(path.name.startswith("events.out.tfevents.") for path in files):
        raise FileNotFoundError(f"{folder}: no TensorBoard events; expected the output_dir of a training")
    try:
        if (size := sum(map(ordinary_size, files))) > MAX_EVENTS_BYTES:
            raise ValueError(f"{size:,} bytes; at most {MAX_EVENTS_BYTES:,} are read")
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    except Exception as error:  # what TensorBoard makes of a damaged file depends on the damage
        what = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{folder}: TensorBoard events that cannot be read ({what:.300})") from error
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def read_curves(run_dir: str | Path) -> dict[str, list[tuple[int, float]]]:
    """The Dice curves of a run, as :func:`read_scalars` gives them.

    Raises:
        FileNotFoundError: if the folder holds no event file.
    """
    return {
        tag: points for tag, points in read_scalars(run_dir).items() if tag.startswith(("val_dice_", "val_mean_dice"))
    }


if __name__ == "__main__":
    import json
    import sys

    run_dir, png, shipped = sys.argv[1:]
    summary = json.loads(Path(shipped).read_text())["summary"]
    save_curve(
        png,
        read_curves(run_dir),
        title="Dice of the validation cases",
        beside={region: summary[region]["dice"] for region in REGIONS_TO_READ},
        beside_name="weights that ship",
    )
