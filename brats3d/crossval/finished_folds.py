"""Recognise folds that are finished: they have scores and probabilities of their present weights and settings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from brats3d.crossval.cross_validation import CrossValidation
from brats3d.evaluation import PROBABILITIES
from brats3d.files import read_json, write_json
from brats3d.networks import weights_digest
from brats3d.report import EVALUATED_NAME


def record_evaluation(crossval: CrossValidation, fold: int, made_with: str) -> None:
    """Record that a fold was evaluated.

    Args:
        crossval: the cross-validation.
        fold: the fold.
        made_with: a text that identifies the settings of the evaluation.
    """
    write_json(crossval.folder(fold) / EVALUATED_NAME, _present(crossval, fold, made_with))


def is_finished(crossval: CrossValidation, fold: int, made_with: str) -> bool:
    """Return True if the scores of a fold are those of its present weights with these settings.

    A fold whose probabilities were removed is evaluated again: the ensemble's post-processing is chosen on them.
    A training also writes ``metrics.json``, after each validation, so that the file's existence says nothing.
    """
    try:
        return bool(read_json(crossval.folder(fold) / EVALUATED_NAME) == _present(crossval, fold, made_with))
    except (OSError, ValueError):
        return False


def _present(crossval: CrossValidation, fold: int, made_with: str) -> dict[str, Any]:
    folder = crossval.folder(fold)
    return {
        "weights": weights_digest(crossval.best(fold)),
        "scores": _digest(folder / "metrics.json"),
        "probabilities": len(list((folder / PROBABILITIES).glob("*.npz"))),
        "made_with": made_with,
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def identify(parts: Any) -> str:
    """Return a short text that differs if the parts differ."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
