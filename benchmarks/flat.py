"""Memory of a prediction of many cases, from the tenth case to the last.

    python benchmarks/flat.py [--cases 200] [--phantoms 4] [--ids window=[128,128,128] ...] [--record]

The cases are links to a few full-size phantoms. ``inference.yaml`` runs in this process; its resident memory is read
after each case.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import psutil
import yaml
from links import link_cases
from machine import rows, show
from workflows import workflow_of

from brats3d.files import use_huge_pages
from brats3d.phantoms import write_phantoms

TENTH = 10


def predict(folder: Path, output: Path, ids: dict[str, object]) -> list[int]:
    """Return the bytes of memory after each case."""
    from ignite.engine import Events

    workflow = workflow_of("predict", dataset_dir=str(folder), output_dir=str(output), **ids)
    workflow.initialize()
    process, memory = psutil.Process(), []
    workflow.evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda _: memory.append(process.memory_info().rss))
    workflow.run()
    return memory


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--phantoms", type=int, default=4)
    parser.add_argument("--ids", nargs="*", default=[], help="such as window=[128,128,128]")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    ids = {name: yaml.safe_load(value) for name, value in (each.split("=", 1) for each in options.ids)}
    use_huge_pages()  # before the phantoms, which are tensors too
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(Path(folder, "phantoms"), options.phantoms, seed=7, setting="plain", progress=False)
        link_cases(Path(folder, "phantoms"), Path(folder, "cases"), options.cases)
        memory = predict(Path(folder, "cases"), Path(folder, "out"), ids)
    gib = [each / 2**30 for each in memory]
    # means over as many cases as there are phantoms, because each takes a different amount
    around = [statistics.mean(gib[end - options.phantoms : end]) for end in (TENTH, len(gib))]
    cells: list[list[object]] = [[gib[TENTH - 1], gib[-1], *around, around[1] / around[0], max(gib)]]
    few = options.phantoms
    header = ["after the tenth, GiB", "after the last", f"mean of {few} to the tenth", "to the last", "ratio"]
    what = ", ".join(options.ids) or "inference.yaml as shipped"
    title = f"Memory of predicting {options.cases} cases, {what}"
    show("memory", title, rows([*header, "largest"], cells), options.record)


if __name__ == "__main__":
    main()
