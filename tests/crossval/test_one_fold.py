"""One fold: a signal at the very end of its training."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from brats3d.crossval import CrossValidation, one_fold


def test_a_signal_after_the_last_step_of_a_training_stops_the_cross_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    state = SimpleNamespace(finished=True, late_signal=signal.SIGTERM)
    ran = SimpleNamespace(parser=SimpleNamespace(get_parsed_content=lambda id_: state))
    workflows: list[str] = []
    monkeypatch.setattr(one_fold, "run_workflow", lambda name, *given: workflows.append(name) or ran)
    with pytest.raises(SystemExit) as stopped:
        one_fold.run_fold(CrossValidation(Path("out"), {}), 0, "", None, echo=lambda line: None)
    assert stopped.value.code == 143 and workflows == ["train"]
