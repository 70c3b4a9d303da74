"""The images, references and predictions behind a run's scores: found, read, and compared with what the scores say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from brats3d.cases import Case, check_labels, grid_difference, name_some, read_datalist, scan_cases, whole_labels
from brats3d.data import labels_to_regions
from brats3d.evaluation import ScoreRow, box_with_margin
from brats3d.files import Header, Volume, best_slice, lps_axes, read_volume, to_lps
from brats3d.labels import BRATS2020, REGIONS, REGIONS_TO_READ, get_convention
from brats3d.report.run_folder import Run


@dataclass(frozen=True)
class Trouble:
    """Why something is not shown, or is doubtful.

    Args:
        case_id: whose; None where it concerns all cases.
        text: what was found, what was expected and what to do.
    """

    case_id: str | None
    text: str


@dataclass(frozen=True)
class CaseFiles:
    """Where a scored case lies.

    Args:
        case: its images and reference.
        segmentation: what was predicted.
    """

    case: Case
    segmentation: Path


@dataclass(frozen=True, eq=False)
class CaseVolumes:
    """A case within the box around its brain and its tumour, axes towards L, P and S.

    Args:
        case_id: whose.
        modalities: the channels' names.
        image: shape (C, H, W, D).
        ref: regions {0, 1} of the reference, shape (3, H, W, D).
        pred: the same of the prediction.
        spacing_mm: voxel size along each axis.
        start: the box's first voxel, along the axes of the whole volume in LPS.
        ref_ml: region -> volume of the reference.
    """

    case_id: str
    modalities: tuple[str, ...]
    image: np.ndarray
    ref: np.ndarray
    pred: np.ndarray
    spacing_mm: tuple[float, float, float]
    start: tuple[int, int, int]
    ref_ml: Mapping[str, float]


def find_files(
    run: Run, dataset_dir: str | Path | Sequence[str | Path] | None = None
) -> tuple[dict[str, CaseFiles], list[Trouble]]:
    """The files of the scored cases that have everything, and what is in the way of the others.

    Only names are looked at, so that one damaged file costs no other case its picture.

    Args:
        run: whose scores they are.
        dataset_dir: where the cases are now; None takes what the settings say.
    """
    folder = run.folder / "segmentations"
    if not folder.is_dir():
        text = f"there are no segmentations in {folder}; to have pictures of the cases, run: {run.evaluate_line}"
        return {}, [Trouble(None, text)]
    try:
        cases = _find_cases(run, dataset_dir)
    except (ValueError, OSError, TypeError) as error:
        moved = "; pass --dataset-dir DIR if they have moved" if isinstance(error, OSError) and not dataset_dir else ""
        return {}, [Trouble(None, f"the cases cannot be shown: {error}{moved}")]
    found: dict[str, CaseFiles] = {}
    troubles: list[Trouble] = []
    if absent := [case_id for case_id in run.by_case if case_id not in cases]:
        where = dataset_dir or run.settings.get("dataset_dir")
        text = f"not in {where}: {name_some(absent)}; expected the data that were scored"
        troubles.append(Trouble(absent[0], text) if len(absent) == 1 else Trouble(None, text))
    for case_id in run.by_case:
        case = cases.get(case_id)
        if case is None:
            continue
        if case.label is None or set(case.images) != set(run.modalities):
            lacking = [name for name in run.modalities if name not in case.images]
            lacking += ["the reference"] if case.label is None else []
            troubles.append(Trouble(case_id, f"lacks {', '.join(lacking)}; expected the files that were scored"))
        elif not (path := folder / f"{case_id}.nii.gz").is_file():
            troubles.append(Trouble(case_id, f"has no segmentation {path}; run: {run.evaluate_line}"))
        else:
            found[case_id] = CaseFiles(case, path)
    return found, troubles


def load_volumes(files: CaseFiles, modalities: Sequence[str]) -> CaseVolumes:
    """Read a case.

    Args:
        files: where it lies.
        modalities: which of its sequences to read.

    Raises:
        ValueError: if a file cannot be read, lies on another grid, or holds labels that its convention does not have.
    """
    case = files.case
    if case.label is None or case.convention is None:
        raise ValueError(
            f"{case.label}: neither its name nor the run's settings say what its labels mean; expected a "
            "label_convention in settings.json"
        )
    volumes = [read_volume(case.images[name]) for name in modalities]
    first = volumes[0].header
    labels = []
    for path, convention in ((case.label, get_convention(case.convention)), (files.segmentation, BRATS2020)):
        volume = read_volume(path)
        check_labels(volume.values, convention, str(path))
        labels.append((volume, convention))
    for volume in (*volumes[1:], *(volume for volume, _ in labels)):
        if difference := grid_difference(volume.header, first):
            raise ValueError(difference[1])
    turned = [np.nan_to_num(_turned(volume, first)) for volume in volumes]
    ref, pred = (
        labels_to_regions(torch.from_numpy(whole_labels(_turned(v, first)).astype(np.uint8))[None], c).numpy()
        for v, c in labels
    )
    occupied = np.logical_or.reduce([*(image != 0 for image in turned), *ref, *pred])
    box = box_with_margin(occupied, 3) if occupied.any() else tuple(slice(0, n) for n in occupied.shape)
    x, y, z = (first.spacing_mm[axis] for axis in lps_axes(first.affine))
    return CaseVolumes(
        case_id=case.case_id,
        modalities=tuple(modalities),
        image=np.stack([image[box] for image in turned]),
        ref=ref[:, *box],
        pred=pred[:, *box],
        spacing_mm=(x, y, z),
        start=(int(box[0].start), int(box[1].start), int(box[2].start)),
        ref_ml=_volumes_ml(ref, first.voxel_ml),
    )


def compare_volumes(volumes: CaseVolumes, rows: Mapping[str, ScoreRow]) -> str:
    """Whether the files are those that were scored: what is wrong, nothing where volumes and Dice agree.

    Args:
        volumes: the case.
        rows: region -> its scores.
    """
    advice = "pictures and scores are of different files; run brats3d evaluate again"
    for region in REGIONS_TO_READ:
        found, scored = volumes.ref_ml[region], rows[region].ref_volume_ml
        if abs(found - scored) > 0.01 + 0.01 * scored:
            said = f"its reference holds {found:.2f} ml of {region}, the scores were computed with {scored:.2f} ml"
            return f"{said}: {advice}"
        ref, pred = (regions[REGIONS.index(region)] > 0 for regions in (volumes.ref, volumes.pred))
        both, total = np.count_nonzero(ref & pred), np.count_nonzero(ref) + np.count_nonzero(pred)
        dice, scored = (2 * both / total if total else 1.0), rows[region].dice
        if abs(dice - scored) > 0.005:
            return f"its files give {region} a Dice of {dice:.3f}, the scores say {scored:.3f}: {advice}"
    return ""


def shown_slice(volumes: CaseVolumes) -> int:
    """The axial slice with the most tumour in the reference; in the prediction where the reference has none."""
    return best_slice(volumes.ref if volumes.ref.any() else volumes.pred)


def _find_cases(run: Run, dataset_dir: str | Path | Sequence[str | Path] | None) -> dict[str, Case]:
    """Every case of the data set; the label convention that the run was given goes before what the names say."""
    where = dataset_dir or run.settings.get("dataset_dir")
    if not where:
        raise ValueError(f"{run.folder / 'settings.json'} names no dataset_dir; pass --dataset-dir DIR")
    folds = read_datalist(where, run.modalities, _datalist(run, dataset_dir))
    cases = scan_cases(where, run.modalities).cases if folds is None else [case for fold in folds for case in fold]
    convention = run.settings.get("label_convention")
    name = get_convention(convention).name if convention else None
    return {case.case_id: replace(case, convention=name or case.convention) for case in cases}


def _datalist(run: Run, dataset_dir: str | Path | Sequence[str | Path] | None) -> str | Path | None:
    """The run's datalist, which may have moved together with the data; None finds the cases by their names."""
    datalist = run.settings.get("datalist")
    if not datalist or dataset_dir is None or Path(datalist).expanduser().is_file():
        return datalist
    beside = Path(dataset_dir) / Path(datalist).name if isinstance(dataset_dir, str | Path) else None
    return beside if beside is not None and beside.is_file() else None


def _turned(volume: Volume, grid: Header) -> np.ndarray:
    native = volume.values.astype(volume.values.dtype.newbyteorder("="), copy=False)  # torch takes no other
    return to_lps(native, grid.affine)


def _volumes_ml(regions: np.ndarray, voxel_ml: float) -> dict[str, float]:
    return {region: float(np.count_nonzero(regions[REGIONS.index(region)])) * voxel_ml for region in REGIONS_TO_READ}
