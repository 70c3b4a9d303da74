"""Folders of many cases made of hard links to a few."""

from __future__ import annotations

import itertools
import os
from pathlib import Path


def link_cases(phantoms: Path, folder: Path, cases: int) -> None:
    """Fill ``folder`` with cases in BraTS 2020's layout that link to the files of the phantoms in turn."""
    sources = itertools.cycle(sorted(path for path in phantoms.iterdir() if path.is_dir()))
    for number, source in zip(range(1, cases + 1), sources):
        name = f"BraTS20_Training_{number:06d}"
        (folder / name).mkdir(parents=True)
        for file in source.iterdir():
            os.link(file, folder / name / file.name.replace(source.name, name))
