"""Options of several subcommands, checks of their values, and silence of the libraries."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brats3d.errors import UsageError
from brats3d.files import check_replaceable, writable_folder
from brats3d.labels import CONVENTIONS, get_convention, order_modalities

EITHER_SPELLING = {"token_normalize_func": lambda name: name.replace("_", "-")}
"""Accepts ``--label_convention``, as the config spells it, and ``--label-convention``."""

LABELS_HELP = f"Meaning of the labels: {', '.join(CONVENTIONS)}."


def without_none(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def dataset_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that describe a data set, checked before anything is read."""
    given = without_none(options)
    if "modalities" in given:  # "t1,flair", or "['t1','flair']" as in the config
        given["modalities"] = order_modalities(re.findall(r"\w+", given["modalities"]))
    if "label_convention" in given:
        get_convention(given["label_convention"])
    return given


def check_json(path: str, name: str) -> Path:
    """Return the absolute path of a JSON file to write; refuse to replace one that brats3d did not write."""
    file = Path(path).expanduser().absolute()
    if file.suffix.lower() != ".json" or file.is_dir():
        raise UsageError(name, expected="a file name that ends in .json", found=path)
    writable_folder(file.parent, name)
    check_replaceable(file, name)
    return file


def silence_libraries() -> None:
    """Hide warnings about the internals of libraries, and lines of the log that nobody reads."""
    logging.raiseExceptions = False
    warnings.filterwarnings("ignore", module=r"(monai|ignite|torch)\.")
    logging.getLogger("monai").setLevel(logging.WARNING)
    # It warns of every --config in another folder. Its level is set when MONAI is imported, so that a filter is needed.
    logging.getLogger("monai.bundle.workflows").addFilter(lambda record: record.levelno >= logging.ERROR)
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # our own errors describe the header
