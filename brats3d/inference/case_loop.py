"""A folder of cases, one after the other: a case that raises is set aside, and the next one comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from monai.data import list_data_collate
from monai.engines import Evaluator

from brats3d.cases import item_to_case
from brats3d.data import CaseDataset
from brats3d.files import Failures


class CaseLoader:
    """The evaluator's loader: batches of one case each, without the cases that cannot be read or prepared.

    It has no length, since nobody knows it before the cases are read; ignite's engines then go to the end.

    Args:
        dataset: of the cases.
        failures: take those that raise.
    """

    def __init__(self, dataset: CaseDataset, failures: Failures) -> None:
        self.dataset = dataset
        self.failures = failures

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Batches, in the data set's order."""
        for index, item in enumerate(self.dataset.data):
            batch = None
            self.failures.folders[item["case_id"]] = str(item_to_case(item).files[0].parent)
            with self.failures.of(item["case_id"]):
                batch = list_data_collate([self.dataset[index]])
            if batch is not None:
                yield batch


class EachCase:
    """``iteration_update`` of the evaluator: another one, whose failure on a case is that case's alone.

    What the engine does within it counts: network, windows and postprocessing. Handlers then see a batch of no case.

    Args:
        step: the ``iteration_update`` that does the work.
        failures: take the cases for which it raises.
    """

    def __init__(self, step: Callable[[Evaluator, dict[str, Any]], Any], failures: Failures) -> None:
        self.step = step
        self.failures = failures

    def __call__(self, engine: Evaluator, batch: dict[str, Any]) -> Any:
        """The step's output; nothing, an empty list, where it fails."""
        with self.failures.of(batch["case_id"][0]):
            return self.step(engine, batch)
        engine.state.batch = engine.state.output = []
        if torch.cuda.is_available():  # after "out of memory", the next case finds all of it
            torch.cuda.empty_cache()
        return []
