"""Charts of a cross-validation: the training curves of all folds."""

from __future__ import annotations

from collections.abc import Sequence

from brats3d.report.charts import Chart, describe_curve, draw_scalar, label_iterations, new_figure
from brats3d.report.run_results import Run

CHARTS = {
    "train_loss": ("train_loss", "Training loss", "loss"),
    "dice_curve": ("val_mean_dice", "Dice on the validation cases", "mean Dice"),
}
"""Name of a chart -> its TensorBoard tag, title and vertical axis."""


def draw_fold_curves(folds: Sequence[Run]) -> dict[str, Chart]:
    """Draw loss and mean Dice over the iterations, with a line for each fold that has the curve.

    Args:
        folds: the runs of the folds.

    Returns:
        ``train_loss`` and ``dice_curve`` -> chart.
    """
    charts = {}
    for chart, (tag, title, name) in CHARTS.items():
        figure, axes = new_figure(title)
        texts = []
        for number, run in enumerate(folds):
            if points := run.curves.get(tag):
                label = f"fold {run.settings.get('fold', number)}"
                draw_scalar(axes, points, f"C{number}", label)
                texts.append(describe_curve(f"{name} of {label}", points))
        if texts:
            label_iterations(axes)
            axes.set_ylabel(name)
            if chart == "dice_curve":
                axes.set_ylim(0, 1)
            axes.legend(frameon=False, ncols=2, fontsize=8)
            charts[chart] = Chart(figure, "; ".join(texts))
    return charts
