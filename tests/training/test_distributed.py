"""Processes that torchrun starts together."""

from __future__ import annotations

import itertools

import pytest
import torch

from brats3d.errors import UsageError
from brats3d.files.shards import take_shard
from brats3d.training.distributed import distributed_device, is_helper, process_shard


@pytest.mark.parametrize("shard", [None, "1/1", "2/3", "3/3"])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_divide_a_shard(monkeypatch, shard, processes):
    cases, parts = list(range(29)), []
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: processes)
    for rank in range(processes):
        monkeypatch.setattr("ignite.distributed.get_rank", lambda rank=rank: rank)
        parts.append(take_shard(cases, process_shard(torch.device("cpu"), shard)))
    assert sorted(itertools.chain(*parts)) == take_shard(cases, shard)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_distributed_config_needs_torchrun(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with pytest.raises(UsageError) as caught:
        distributed_device()
    assert "torchrun" in caught.value.expected


@pytest.mark.parametrize(("rank", "helper"), [(0, False), (1, True)])
def test_every_process_except_the_first_is_a_helper(monkeypatch, rank, helper):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: rank)
    assert is_helper() is helper
