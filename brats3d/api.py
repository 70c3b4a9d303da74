"""The Python API: :func:`predict` and :func:`score`, like the commands of the same names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brats3d.bundle import config_files, misread_paths, run_workflow, unknown_ids
from brats3d.errors import ExplainedError
from brats3d.evaluation import FolderScores, score_folders
from brats3d.files import cause_of, check_replaceable


def predict(
    cases: str | Path | Sequence[str | Path], output: str | Path, checkpoint: str | Path | None = None, **knobs: Any
) -> list[Path]:
    """Segment cases in their own space.

    Args:
        cases: a folder of cases or raw scans, the folder of one, or a list of such folders.
        output: folder to write ``<case_id>.nii.gz`` to: uint8 labels with the shape and affine of the input. Cases that
            were segmented by an earlier call are skipped; segmentations that were corrected since are kept.
        checkpoint: the weights; default: those of the bundle, which were trained on synthetic cases.
        knobs: any knob of ``inference.yaml``, such as ``device="cuda:1"``, ``preview=True`` or ``modalities=["t1"]``.

    Returns:
        The segmentation of each case, in the order of the cases.

    Raises:
        UsageError: if an argument is wrong or a knob unknown.
        DataError: if a case could not be segmented. It is raised after all other cases.
    """
    paths = [cases] if isinstance(cases, str | Path) else list(cases)
    overrides: dict[str, Any] = {"dataset_dir": [str(path) for path in paths], "output_dir": str(output), **knobs}
    if checkpoint is not None:
        overrides["checkpoint"] = str(checkpoint)
    for error in unknown_ids(overrides, config_files("predict")) + misread_paths(overrides):
        raise error
    try:
        workflow = run_workflow("predict", overrides)
    except RuntimeError as error:
        cause = cause_of(error)  # MONAI wraps errors that occur while it builds components
        if isinstance(cause, ExplainedError):
            raise cause from error
        raise
    ids = [item["case_id"] for item in workflow.parser.get_parsed_content("dataset#data")]
    return [Path(output) / f"{case_id}.nii.gz" for case_id in ids]


def score(pred: str | Path, ref: str | Path, output: str | Path | None = None, **options: Any) -> FolderScores:
    """Score a folder of segmentations against a folder of references, as the BraTS challenges do.

    Args:
        pred: folder with ``<case_id>.nii.gz`` or ``<case_id>_seg.nii.gz``.
        ref: the same, or a data set as downloaded.
        output: JSON file to write the scores to, with a CSV beside it; default: nothing is written.
        options: further arguments of :func:`brats3d.evaluation.score_folders`, such as ``convention="brats2023-met"``.

    Returns:
        The scores; ``print`` shows the table, ``.rows`` has one row per case and region.

    Raises:
        UsageError: if an argument is wrong or a folder does not exist.
        DataError: if a file cannot be scored.
    """
    if output is not None:
        check_replaceable(output, "output")
        check_replaceable(Path(output).with_suffix(".csv"), "output")
    scored = score_folders(pred, ref, **options)
    if output is not None:
        scored.write(output)
    return scored
