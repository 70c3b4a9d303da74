"""Whether a file that is there may be replaced: one that brats3d has not written is not."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path

from brats3d.files.atomic import writable_folder
from brats3d.files.bounded import read_json
from brats3d.files.nifti import read_header
from brats3d.files.nifti_writing import MARK


def prepare_output(folder: Path, case_ids: Iterable[str], written: Collection[str] = ()) -> None:
    """Make the folder for segmentations of these cases, none of which may replace a file that is not ours.

    Args:
        folder: made if it is missing.
        case_ids: whose segmentations are to come.
        written: names of files that brats3d has written there; of these, what is too damaged to say whose it is may be
            replaced.

    Raises:
        ValueError: naming the folder that cannot be written, or the file.
    """
    writable_folder(folder)
    for case_id in case_ids:
        _refuse_foreign(folder / f"{case_id}.nii.gz", written)


def _refuse_foreign(path: Path, written: Collection[str]) -> None:
    """An image or an expert's segmentation may lie under the very name that ours would have: it is not replaced."""
    if not path.exists():
        return
    try:
        ours = bytes(read_header(path).nifti["descrip"].item()).startswith(MARK.encode())
    except (OSError, ValueError):
        ours = path.name in written and _is_damaged_gzip(path)
    if not ours:
        raise ValueError(
            f"output_dir: {path} is there, and brats3d has not written it; expected no file, or an earlier "
            "segmentation of brats3d; name another --output_dir"
        )


def _is_damaged_gzip(path: Path) -> bool:
    """Whether it begins as a gzip file does, as far as it goes, and cannot be unpacked."""
    try:
        content = path.read_bytes()
        if content[:2] != b"\x1f\x8b"[: len(content)]:
            return False
        gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return True
    return not content


def refuse_foreign_stats(path: Path, written: Collection[str]) -> None:
    if not path.exists():
        return
    try:
        ours = {"brats3d", "label_convention"} <= read_json(path).keys()
    except (OSError, AttributeError):
        ours = False
    except ValueError:  # no JSON any more, or never
        ours = path.name in written
    if not ours:
        raise ValueError(f"output_dir: {path} is there, and brats3d has not written it; name another --output_dir")
