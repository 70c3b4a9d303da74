"""Packages import in one direction and only public names; ``--help`` imports nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import brats3d

ROOT = Path(brats3d.__file__).parent

ORDER = [
    "errors",
    "labels",
    "files",
    "cases",
    "convert",
    "data",
    "networks",
    "phantoms",
    "scans",
    "audit",
    "evaluation",
    "quality",
    "training",
    "inference",
    "postprocessing",
    "config_reader",
    "report",
    "view",
    "knob_checks",
    "bundle",
    "plan",
    "crossval",
    "monai_label",
    "api",
    "cli",
]
"""A package may import only from those above it in this list."""

MODULES = sorted(ROOT.rglob("*.py"))

HELP_IMPORTS = {
    "numpy",
    "torch",
    "monai",
    "nibabel",
    "scipy",
    "matplotlib",
    "ignite",
    "nilearn",
    "sklearn",
    "pandas",
    "h5py",
    "SimpleITK",
    "pydicom",
    "highdicom",
    "deepbet",
    "mlflow",
}
"""Libraries that ``brats3d --help`` must not import."""


def package_of(module: Path) -> str:
    """Return the package of a module, or the name of a module that is in no package."""
    return module.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(module: Path) -> set[tuple[str, ...]]:
    """Return the modules of brats3d that a module imports anywhere, as their name parts after ``brats3d``."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "brats3d":
            inner = tuple(node.module.split(".")[1:])
            found |= {inner} if inner else {(alias.name,) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {tuple(a.name.split(".")[1:]) for a in node.names if a.name.startswith("brats3d.")}
    return found - {("__version__",)}


def test_every_package_is_in_the_order() -> None:
    assert {package_of(module) for module in MODULES} - {"__init__", "__main__"} == set(ORDER)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_a_module_imports_only_public_names_of_packages_above_its_own(module: Path) -> None:
    package = package_of(module)
    if package in ("__init__", "__main__"):
        return
    above = ORDER[: ORDER.index(package)]
    for parts in imported(module):
        if parts[0] != package:
            assert parts[0] in above, parts
            assert len(parts) == 1 or (ROOT / parts[0]).with_suffix(".py").exists(), f"{parts} is not a public name"


@pytest.mark.parametrize("package", [name for name in ORDER if (ROOT / name).is_dir()])
def test_the_modules_of_a_package_import_each_other_in_no_circle(package: str) -> None:
    graph = {
        module.stem: {parts[1] for parts in imported(module) if parts[0] == package and len(parts) > 1}
        for module in (ROOT / package).glob("*.py")
    }
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_labels_import_nothing_heavy() -> None:
    allowed = {"__future__", "brats3d", "collections", "dataclasses", "types"}
    for node in ast.walk(ast.parse((ROOT / "labels.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.module.split(".")[0] in allowed
        assert not isinstance(node, ast.Import)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from brats3d.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HELP_IMPORTS & set(done.stderr.split())


def test_no_module_imports_what_windows_lacks() -> None:
    posix_only = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
    found = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {(path.name, name) for name in names if name.partition(".")[0] in posix_only}
    assert found == set()
