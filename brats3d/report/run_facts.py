"""The facts at the top of a report: network, data, main knobs and versions."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from brats3d.report.run_results import Run
from brats3d.training import source_version


def describe_run(run: Run) -> dict[str, str]:
    """Return name -> value of what is known about a run and about this report."""
    settings, card = run.settings, run.card
    facts = {
        "run": run.folder,
        "network": _network(card.get("network_def")),
        "weights": f"after epoch {run.epoch}" if run.epoch is not None else None,
        "sequences": list(run.modalities),
        "data": settings.get("dataset_dir"),
        "fold": settings.get("fold"),
        "training cases": _count(settings.get("training_cases")),
        "validation cases": len(run.by_case),
        "folds": len(run.folds) or None,
        "label conventions": _conventions(settings.get("label_conventions")),
        "epochs": settings.get("epochs"),
        "patch size, voxels": settings.get("patch_size"),
        "learning rate": settings.get("learning_rate"),
        "seed": settings.get("seed"),
        "device": card.get("device", settings.get("device")),
        "trained with": card.get("commit"),
        "report made by": source_version(),
        "report made with": _versions(),
    }
    return {name: _as_text(value) for name, value in facts.items() if value not in (None, "")}


def _as_text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _network(network: Any) -> str:
    if not isinstance(network, dict):
        return ""
    name = str(network.get("class", "")).rpartition(".")[2]
    channels = network.get("channels")
    return f"{name} with {_as_text(channels)} channels" if name and channels else name


def _count(value: Any) -> int | None:
    return len(value) if isinstance(value, list) else None


def _conventions(value: Any) -> str:
    """List the label conventions of the cases with their counts."""
    return ", ".join(f"{name} ({count})" for name, count in value.items()) if isinstance(value, dict) else ""


def _versions() -> str:
    versions = [f"Python {platform.python_version()}"]
    for name in ("torch", "monai", "nibabel"):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(versions)
