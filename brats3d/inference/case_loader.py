"""The data loader of predict: one case at a time, skipping those that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from monai.data import list_data_collate

from brats3d.cases import item_to_case
from brats3d.data import CaseDataset
from brats3d.files import Failures


class CaseLoader:
    """Iterate over batches of one case each. Cases that cannot be read or prepared are recorded as failures.

    The loader has no length, because the number of readable cases is not known in advance; ignite's engines then run
    until it is exhausted.

    Args:
        dataset: the cases.
        failures: record the cases that raise.
    """

    def __init__(self, dataset: CaseDataset, failures: Failures) -> None:
        self.dataset = dataset
        self.failures = failures

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield batches in the order of the data set."""
        for index, item in enumerate(self.dataset.data):
            batch = None
            self.failures.folders[item["case_id"]] = str(item_to_case(item).files[0].parent)
            with self.failures.catch(item["case_id"]):
                batch = list_data_collate([self.dataset[index]])
            if batch is not None:
                yield batch
