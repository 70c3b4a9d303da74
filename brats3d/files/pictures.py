"""Draw slices of cases, with the regions painted over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from brats3d.files.atomic_write import Writer, write_whole
from brats3d.labels import REGION_COLOURS, REGION_NAMES, REGIONS, REGIONS_TO_READ

MODALITY_TITLES: Mapping[str, str] = {"t1": "T1", "t1ce": "T1ce", "t2": "T2", "flair": "FLAIR"}


def best_slice(regions: np.ndarray) -> int:
    """Return the index of the axial slice with the most tumour, or of the middle slice if there is no tumour.

    Args:
        regions: {0, 1}, shape (3, H, W, D), channels in the order of ``labels.REGIONS``.
    """
    area = np.asarray(regions)[REGIONS.index("WT")].sum(axis=(0, 1))
    return int(area.argmax()) if area.any() else regions.shape[-1] // 2


def to_rgb(plane: np.ndarray) -> np.ndarray:
    """Return a grey picture of a slice in radiological orientation: anterior up, the patient's right on the left.

    Args:
        plane: intensities, shape (H, W), axes towards L and P.

    Returns:
        uint8, shape (W, H, 3). The 1st and 99.5th percentiles of the foreground become black and white.
    """
    plane = np.asarray(plane, dtype=np.float32)
    inside = plane[plane != 0]
    low, high = np.percentile(inside, (1, 99.5)) if inside.size else (0.0, 1.0)
    grey = np.clip((plane - low) / max(high - low, 1e-6), 0, 1) * (plane != 0)
    return np.repeat((grey.T * 255).astype(np.uint8)[..., None], 3, axis=-1)


def overlay(plane: np.ndarray, regions: np.ndarray, opacity: float = 0.45) -> np.ndarray:
    """Paint the regions over a slice, the outermost first, each in its own colour.

    Args:
        plane: intensities, shape (H, W).
        regions: {0, 1}, shape (3, H, W), channels in the order of ``labels.REGIONS``.
        opacity: opacity of the paint, 0 to 1.

    Returns:
        uint8, shape (W, H, 3).
    """
    grey = to_rgb(plane)
    rgb = grey.astype(np.float32)
    for region in REGIONS_TO_READ:
        mask = np.asarray(regions)[REGIONS.index(region)].T > 0
        colour = np.array([int(REGION_COLOURS[region][i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float32)
        rgb[mask] = (1 - opacity) * grey[mask] + opacity * colour
    return rgb.astype(np.uint8)


def save_preview(
    path: str | Path,
    image: np.ndarray,
    modalities: Sequence[str],
    pred: np.ndarray,
    ref: np.ndarray | None = None,
    title: str = "",
    spacing_mm: Sequence[float] = (1, 1, 1),
    write: Writer = write_whole,
) -> Path:
    """Write a PNG of a case: each sequence in the slice with the most tumour, then the reference and the prediction.

    Args:
        path: the PNG file.
        image: intensities, shape (C, H, W, D), axes towards L, P and S.
        modalities: names of the channels.
        pred: predicted regions {0, 1}, shape (3, H, W, D).
        ref: reference regions, if there is a reference.
        title: text above the panels.
        spacing_mm: voxel size along each axis.
        write: writes the file.

    Returns:
        The path.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    z = best_slice(pred if ref is None else ref)
    box = _brain_box(image)
    image, pred, ref = image[:, *box], pred[:, *box], None if ref is None else ref[:, *box]
    base = image[modalities.index("flair") if "flair" in modalities else 0][..., z]
    panels = [(MODALITY_TITLES[m], to_rgb(image[i][..., z])) for i, m in enumerate(modalities)]
    if ref is not None:
        panels.append(("reference", overlay(base, ref[..., z])))
    panels.append(("prediction", overlay(base, pred[..., z])))

    figure = Figure(figsize=(2.2 * len(panels), 3.1), facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, picture) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.imshow(picture, interpolation="nearest", aspect=spacing_mm[1] / spacing_mm[0])
        axes.set_title(name, color="white", fontsize=10)
        axes.axis("off")
    patches = [Patch(color=REGION_COLOURS[r], label=f"{r}  {REGION_NAMES[r]}") for r in REGIONS_TO_READ]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False, labelcolor="white", fontsize=9)
    figure.suptitle(title, color="white", fontsize=11)
    return write(Path(path), lambda file: figure.savefig(file, format="png", dpi=110, facecolor="black"))


def _brain_box(image: np.ndarray, margin: int = 4) -> tuple[slice, slice]:
    """Return the rows and columns of an image (C, H, W, D) that hold brain in any slice; all if there is no brain."""
    inside = (image != 0).any(axis=(0, 3))
    if not inside.any():
        return slice(None), slice(None)
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + 1 + margin),
        slice(max(0, columns[0] - margin), columns[-1] + 1 + margin),
    )
