"""A data set's datalist.json for its repaired copy: the same folds, with the copy's paths."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brats3d.audit.dataset_audit import Audit
from brats3d.audit.repair_record import RepairedCase, RepairedFile
from brats3d.cases import DATALIST_NAME, SEGMENTATION, identical_files, parse_file_name, read_datalist
from brats3d.files import read_json, write_json


def carry_datalists(audit: Audit, cases: Sequence[RepairedCase], out: Path) -> tuple[list[RepairedFile], list[str]]:
    """Each root's datalist.json for the copy; what is said of those that cannot be carried over."""
    files, notes = [], []
    for root in audit.roots:
        source = root / DATALIST_NAME
        if not source.is_file():
            continue
        part = part_of(audit, root)
        try:
            content = read_json(source)
            new, removed = _new_datalist(content, root, part, _Places(audit, cases))
            write_json(out / part / DATALIST_NAME, new)
            read_datalist(out / part, audit.modalities)
        except (OSError, ValueError, TypeError) as error:
            (out / part / DATALIST_NAME).unlink(missing_ok=True)
            notes.append(
                f"left out {source}: {' '.join(str(error).split())}: "
                "training on the copy splits its cases anew; brats3d split writes a split"
            )
            continue
        changes = [f"{removed} entries of cases that are left out removed"] if removed else []
        if new != content:
            changes.append("paths and counts adjusted to the copy")
        action = "rewritten" if changes else "copied"
        files.append(RepairedFile((part / DATALIST_NAME).as_posix(), action, str(source), (), tuple(changes)))
    return files, notes


def part_of(audit: Audit, root: Path) -> Path:
    """The folder of the copy that holds what lay in a root: the copy itself where there is one."""
    return Path(str(audit.roots.index(root) + 1)) if len(audit.roots) > 1 else Path()


class _Places:
    """Where the data set's files are in the copy."""

    def __init__(self, audit: Audit, cases: Sequence[RepairedCase]) -> None:
        self.left_out = {case.case_id for case in cases if case.left_out}
        self._place_of: dict[Path, str | None] = {}
        self._source_of: dict[tuple[str, str], Path] = {}
        placed = {file.source: file.file for case in cases for file in case.files}
        for case in audit.cases:
            for modality, path in (*case.images.items(), *([(SEGMENTATION, case.label)] if case.label else [])):
                self._source_of[case.case_id, modality] = path
                self._place_of[path] = placed.get(str(path))
        for path in self._source_of.values():  # after the names themselves: a file can be a link to another case's
            self._place_of.setdefault(path.resolve(), self._place_of[path])

    def find(self, path: Path) -> str | None:
        """A file's place; None if its case is left out.

        Raises:
            ValueError: if it is neither a file of a case nor equal to the one that stands for it.
        """
        for spelling in (path, path.resolve()):
            if spelling in self._place_of:
                return self._place_of[spelling]
        case_id, modality = parse_file_name(path.name) or ("", "")
        case_id = case_id or path.parent.name
        if case_id in self.left_out:
            return None
        source = self._source_of.get((case_id, modality))
        if source and path.is_file() and identical_files([source, path]):
            return self._place_of[source]
        raise ValueError(f"{path} is no file of a case that was audited")


def _new_datalist(content: Any, root: Path, part: Path, places: _Places) -> tuple[dict[str, Any], int]:
    """A datalist's content for the copy, and how many entries are gone.

    Raises:
        ValueError: if it is none, names other files, or would lose a fold.
    """
    if not isinstance(content, dict):
        raise ValueError("is no datalist")
    new = dict(content)
    for name in ("training", "validation", "testing", "test"):
        if isinstance(content.get(name), list):
            entries = [_new_entry(entry, root, part, places) for entry in content[name]]
            new[name] = [entry for entry in entries if entry is not None]
    before, after = _folds(content), _folds(new)
    if before != after:
        raise ValueError(f"{', '.join(sorted(before - after))} would have no case left")
    for count, names in (("numTraining", ("training",)), ("numTest", ("testing", "test"))):
        if count in content:
            new[count] = sum(len(new.get(name) or ()) for name in names)
    removed = sum(len(content[name]) - len(new[name]) for name in new if isinstance(new[name], list))
    return new, removed


def _folds(content: Mapping[str, Any]) -> set[str]:
    lists = [name for name in ("training", "validation") if content.get(name)]
    return {
        *lists,
        *(f"fold {entry.get('fold')}" for name in lists for entry in content[name] if isinstance(entry, dict)),
    }


def _new_entry(entry: Any, root: Path, part: Path, places: _Places) -> Any:
    """An entry with the copy's paths; None if its case is left out."""
    if isinstance(entry, str):  # as the Decathlon lists its test cases
        return (_new_entry({"image": entry}, root, part, places) or {}).get("image")
    if not isinstance(entry, dict) or not entry.get("image"):
        raise ValueError(f"has an entry without an image: {entry!r:.200}")
    if entry.get("case_id") in places.left_out:
        return None
    keys = [key for key in ("image", "label") if entry.get(key)]
    texts = {key: [entry[key]] if isinstance(entry[key], str) else list(entry[key]) for key in keys}
    found = {key: [places.find(Path(os.path.normpath(root / text))) for text in texts[key]] for key in keys}
    moved = {key: [os.path.relpath(place, part).replace(os.sep, "/") for place in found[key] if place] for key in keys}
    if any(None in each for each in found.values()):
        return None
    return entry | {key: moved[key][0] if isinstance(entry[key], str) else moved[key] for key in keys}
