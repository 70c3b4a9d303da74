"""Data sets of phantoms on disk, in the layout of a published release."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from brats3d.files import writable_folder
from brats3d.labels import MODALITIES
from brats3d.phantom import SIZES, Phantom, check, make_phantom

__all__ = ["LAYOUTS", "FileNames", "case_seed", "write_phantoms"]


@dataclass(frozen=True)
class FileNames:
    """Names of the files of a published release: ``case_id`` takes the case's number, ``suffixes`` name its files."""

    case_id: str
    suffixes: Mapping[str, str]


LAYOUTS: Mapping[str, FileNames] = MappingProxyType(
    {"brats2020": FileNames("BraTS20_Training_{:03d}", MappingProxyType({k: k for k in (*MODALITIES, "seg")}))}
)


def case_seed(seed: int, index: int) -> int:
    """Seed of the index-th case (from 0) of a set: it depends on nothing else, such as how many cases there are."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> 1)


def write_phantoms(
    output_dir: str | os.PathLike[str],
    cases: int,
    seed: int = 0,
    size: str = "full",
    device: str | torch.device = "cpu",
    layout: str = "brats2020",
    progress: bool = True,
) -> list[Path]:
    """Write a data set of synthetic cases in a published layout. A case's folder appears whole or not at all.

    Args:
        output_dir: folder of the data set; made if it is not there.
        cases: how many. Case i is the same whatever this is.
        seed: of the set, from 0.
        size, device: as for :func:`make_phantom`.
        layout: one of :data:`LAYOUTS`.
        progress: show a progress bar.

    Returns:
        The folders of the cases.

    Raises:
        ValueError: if an argument is outside its valid set.
        FileExistsError: if the folder of one of the cases is there already; nothing has been written then.
    """
    from tqdm import tqdm  # here, as nibabel below: whoever only generates needs neither

    check(cases >= 1, f"cases: expected at least 1, got {cases}")
    check(seed >= 0, f"seed: expected an integer from 0, got {seed}")
    check(size in SIZES, f"size: expected one of {', '.join(SIZES)}, got {size!r}")
    check(layout in LAYOUTS, f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    names = LAYOUTS[layout]
    root = writable_folder(output_dir)
    folders = [root / names.case_id.format(i + 1) for i in range(cases)]
    for folder in folders:
        if folder.exists():
            raise FileExistsError(f"{folder}: a case is there already; choose another output folder or remove it")
    for i, folder in enumerate(tqdm(folders, desc="phantoms", unit="case", disable=not progress)):
        phantom = make_phantom(case_seed(seed, i), size, device)
        _write_case(replace(phantom, case_id=folder.name), folder, names.suffixes)
    return folders


def _write_case(phantom: Phantom, folder: Path, suffixes: Mapping[str, str]) -> None:
    """Write the files into a hidden folder beside, then rename it."""
    import nibabel as nib

    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    partial.mkdir()
    try:
        for name, array in {**phantom.images, "seg": phantom.label}.items():
            image = nib.Nifti1Image(array, phantom.affine)
            image.header.set_xyzt_units("mm")
            image.set_sform(phantom.affine, code=1)
            image.set_qform(phantom.affine, code=1)
            path = partial / f"{folder.name}_{suffixes[name]}.nii.gz"
            nib.save(image, path)
            with path.open("rb") as file:
                os.fsync(file.fileno())
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
