"""The datalist.json of a data set, for its repaired copy: the same folds with the paths of the copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from brats3d.audit.whole_dataset import Audit
from brats3d.cases import DATALIST_NAME, Case, read_datalist
from brats3d.errors import DataError
from brats3d.files import read_json


def datalist_of_copy(audit: Audit, copies: Mapping[Path, str]) -> dict[str, Any] | None:
    """Return the content of the copy's datalist.json: the same folds, without the cases that were dropped.

    ``"testing"`` lists the cases without a segmentation, as ``brats3d split`` does.

    Args:
        audit: the audit of the data set.
        copies: original file -> its path in the copy.

    Returns:
        None if the data set has no datalist.json, or consists of several folders, in which none is read.

    Raises:
        DataError: if the datalist.json is invalid, lists other files than the audit found, or a fold would be empty.
    """
    file = audit.roots[0] / DATALIST_NAME
    if len(audit.roots) > 1 or not file.is_file():
        return None
    owner_of = {path: case for case in audit.cases for path in case.images.values()}
    copied = {case.case_id: case for case in audit.cases if all(path in copies for path in case.files)}
    training = []
    for number, fold in enumerate(read_datalist(audit.roots[0], audit.modalities) or []):
        kept = []
        for listed in fold:
            owner = next((owner_of[path] for path in listed.images.values() if path in owner_of), None)
            if owner is None or (owner.case_id in copied and owner.label is None):
                raise DataError(file, f"lists files of {listed.case_id} that the audit did not find")
            if owner.case_id in copied:
                kept.append(replace(listed, images=owner.images, label=owner.label))
        if not kept:
            raise DataError(file, f"no case of fold {number} is in the copy")
        training += [_entry(case, copies) | {"fold": number} for case in kept]
    testing = [_entry(case, copies) for case in copied.values() if case.label is None]
    lists = {"numTraining": len(training), "numTest": len(testing), "training": training, "testing": testing}
    settings = {key: value for key, value in read_json(file).items() if not isinstance(value, list)}
    return settings | lists


def _entry(case: Case, copies: Mapping[Path, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"image": [copies[path] for path in case.images.values()]}
    if case.label:
        entry["label"] = copies[case.label]
    if case.label and case.convention:
        entry["label_convention"] = case.convention
    return entry | {"case_id": case.case_id, "patient_id": case.patient_id}
