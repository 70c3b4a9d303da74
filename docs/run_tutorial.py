"""Run docs/tutorial.ipynb and save its outputs in the file.

python docs/run_tutorial.py

This takes five to ten minutes on two cores. Cells that start a server are skipped.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

TUTORIAL = Path(__file__).with_name("tutorial.ipynb")


def run_tutorial(folder: Path, **parameters: Any) -> nbformat.NotebookNode:
    """Run the notebook.

    Args:
        folder: the working directory.
        parameters: values that replace those of the cell with the tag ``parameters``.

    Returns:
        The notebook with its outputs, without progress bars, clock times and speeds.

    Raises:
        KeyError: if there is no parameter of that name.
        CellExecutionError: if a cell fails.
    """
    notebook = nbformat.read(TUTORIAL, as_version=4)
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    for name, value in parameters.items():
        if f"\n{name} = " not in f"\n{cell.source}":
            raise KeyError(name)
        cell.source += f"\n{name} = {value!r}"
    client = NotebookClient(
        notebook,
        timeout=3600,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if _PROGRESS_BAR not in out.get("data", {})]
            for out in cell.outputs:
                if "text" in out:
                    out.text = _CLOCK_AND_SPEED.sub("", out.text)
    notebook.metadata.pop("widgets", None)
    return notebook


_PROGRESS_BAR = "application/vnd.jupyter.widget-view+json"

_CLOCK_AND_SPEED = re.compile(r"^\d\d:\d\d:\d\d  |  waiting for data .*$", re.MULTILINE)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(run_tutorial(Path(folder)), TUTORIAL)
