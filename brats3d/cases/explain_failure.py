"""Explain why a case could not be loaded, by reading all of its voxels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brats3d.cases.case import item_to_case
from brats3d.cases.naming_rules import modality_of
from brats3d.cases.valid_headers import header_problems
from brats3d.errors import DataError
from brats3d.files import read_volume


def explain_item(item: Mapping[str, Any]) -> None:
    """Find the damaged files of a datalist item that could not be loaded or transformed. Slow: reads every voxel.

    Label values are not checked: ``StandardLabelsd`` knows the convention and reports file and values itself.

    Raises:
        DataError: with every file that ends early, contains NaN or Inf, or is empty. Returns if all files are sound,
            so that the failure has another cause, and for an image of all sequences in one file.
    """
    case = item_to_case(item)
    image = item["image"]
    if isinstance(image, str) and modality_of(image) is None and Path(image).exists():
        return  # a file of all sequences, which is 4-D
    problems = header_problems(case)
    empty: list[Path] = []
    for path in case.files if not problems else ():
        try:
            values = read_volume(path).values
        except ValueError as error:
            problems.append(str(error))
            continue
        if path == case.label:
            continue
        if n_bad := values.size - np.count_nonzero(np.isfinite(values)):
            expected = "expected finite intensities"
            problems.append(f"{path}: {n_bad:,} of {values.size:,} voxels are NaN or Inf; {expected}")
        elif not values.any():
            empty.append(path)
            problems.append(f"{path}: every voxel is 0; expected a brain: there is nothing to normalise")
    if problems:
        advice = "download or convert the case again, move it out of the folder, or try brats3d audit --repair"
        if len(problems) == len(empty) < len(case.images):
            advice = (
                "if the sequence was never acquired, use weights that were trained for absent sequences, or work "
                "without it: --modalities"
            )
        raise DataError.of_many(f"case {case.case_id}", problems, advice)
