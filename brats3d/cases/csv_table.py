"""Read a small CSV file with commas, semicolons or tabs, in any of the encodings that Excel writes."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from brats3d.files import read_bounded


def read_table(path: Path) -> list[tuple[int, list[str]]]:
    """Return (line number, cells) of each row that is not empty; at least one.

    Raises:
        OSError, ValueError, csv.Error: if the file cannot be read as CSV.
    """
    text = _decode(read_bounded(path))
    lines = text.lstrip().splitlines()
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    table = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    table = [(line, row) for line, row in table if any(row)]
    if not table:
        raise ValueError("is empty")
    return table


def _decode(data: bytes) -> str:
    """Decode UTF-8 or, if that fails, Latin-1, which accepts any byte; Excel writes both."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if "\0" in text:
        raise ValueError("is not a text file")
    return text
