"""The direction of the arrows between the modules."""

from __future__ import annotations

import ast
from pathlib import Path

import brats3d

PACKAGE = Path(brats3d.__file__).parent

LEVELS = [
    {"bounded"},
    {"labels", "files", "volumes", "findings", "losses", "repaired", "fingerprint", "averaging", "budget"}
    | {"phantom_noise", "surfaces", "stopping", "memory", "predictions", "describing", "norms", "shards"},
    {
        "layouts",
        "cards",
        "weights",
        "pictures",
        "report_page",
        "report_viewer",
        "kaggle_h5",
        "decathlon",
        "cache",
        "dropout",
        "provenance",
        "stitching",
        "failures",
    }
    | {"phantom_ranges", "phantom_atlas", "lesions", "one_pass"},
    {"discovery", "phantom_head", "case_stats", "report_figures"},
    {"cases", "phantom_tumour"},
    {"checks", "name_mapping", "duplicates", "folds", "convert", "copy_folder", "phantom_scan"},
    {"datalist", "transforms", "inspection", "phantom"},
    {"splitting", "case_audit", "mending", "phantom_sets"},
    {"audit", "datasets", "metrics", "segmentations", "tracking", "checkpoints"},
    {"evaluated", "scoring", "comparing", "resuming", "collapse"},
    {"audit_report", "batch", "carried_split", "engines", "runs", "stream"},
    {"repair", "bundle", "prefetch", "epoch_report", "resources"},
    {"report_run"},
    {"report_cases"},
    {"report_gallery", "report_sections"},
    {"report"},
    {"cli"},
]
"""A module may import from the levels above its own line, and engines may know datasets; never the other way round."""


def imported(module: Path) -> set[str]:
    """Names of the package's modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "brats3d":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("brats3d.")}
    return found - {"__version__"}


def test_every_module_has_its_level() -> None:
    modules = {file.stem for file in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert modules == set().union(*LEVELS)


def test_imports_point_one_way() -> None:
    below: set[str] = set()
    for level in LEVELS:
        for name in level:
            assert imported(PACKAGE / f"{name}.py") <= below, name
        below |= level


def test_facts_import_nothing_heavy() -> None:
    allowed = {"__future__", "collections", "dataclasses", "types"}
    for node in ast.walk(ast.parse((PACKAGE / "labels.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.module.split(".")[0] in allowed
        assert not isinstance(node, ast.Import)
