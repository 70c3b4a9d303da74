"""The entry point of evaluate.yaml."""

from __future__ import annotations

import pytest

from brats3d.errors import UsageError
from brats3d.evaluation import run_evaluation


def test_random_weights_are_not_evaluated(tmp_path) -> None:
    with pytest.raises(UsageError) as caught:
        run_evaluation(None, None, None, ["t1"], tmp_path / "out", "brain")
    assert caught.value.subject == "checkpoint" and not (tmp_path / "out").exists()
