"""A picture for checking a prepared case: each sequence with its skull, the brain mask and the edges of T1."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from brats3d.files import MODALITY_TITLES, to_lps, to_rgb, write_whole
from brats3d.scans.preparation import PreparedCase

MASK_COLOUR, EDGE_COLOUR = "#F0E442", "#56B4E9"  # of Okabe and Ito's palette


def save_check_picture(path: Path, case_id: str, case: PreparedCase, inside: np.ndarray) -> Path:
    """Write a PNG: a column for each sequence, with an axial, a coronal and a sagittal slice through the brain.

    The edges are those of brain and fluid in T1 (or T1ce). They lie on the same edges in every sequence that is
    registered well.

    Args:
        path: the file.
        case_id: the title.
        case: the prepared case.
        inside: (x, y, z) bool, its brain mask.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from scipy.ndimage import gaussian_filter

    volumes = {m: to_lps(sequence.with_skull, case.grid.affine) for m, sequence in case.sequences.items()}
    mask = to_lps(inside, case.grid.affine)
    t1 = volumes["t1" if "t1" in volumes else "t1ce"]
    edges = gaussian_filter((mask & (t1 > _FLUID * np.median(t1[mask]))).astype(np.float32), 1)
    middle = [round(float(place.mean())) for place in np.nonzero(mask)]
    figure = Figure(figsize=(2.6 * len(volumes), 7.4), facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(3, len(volumes), squeeze=False)
    for column, (modality, volume) in zip(rows.T, volumes.items(), strict=True):
        column[0].set_title(MODALITY_TITLES[modality], color="white", fontsize=10)
        for axes, axis in zip(column, (2, 1, 0), strict=True):
            picture, outline, edge = (_slice(each, axis, middle[axis]) for each in (volume, mask, edges))
            axes.imshow(to_rgb(picture), interpolation="nearest")
            axes.contour(edge.T, [0.5], colors=EDGE_COLOUR, linewidths=0.4)
            axes.contour(outline.T, [0.5], colors=MASK_COLOUR, linewidths=0.8)
            axes.axis("off")
    lines = [Line2D([], [], color=MASK_COLOUR, label="brain mask"), Line2D([], [], color=EDGE_COLOUR, label="T1 edges")]
    figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False, labelcolor="white", fontsize=9)
    figure.suptitle(case_id, color="white", fontsize=11)
    return write_whole(path, lambda file: figure.savefig(file, format="png", dpi=110, facecolor="black"))


_FLUID = 0.7  # times the median of the brain: fluid is darker in T1


def _slice(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    """Return a plane; the second axis runs down the picture."""
    plane = np.take(volume, index, axis)
    return plane if axis == 2 else plane[:, ::-1]
