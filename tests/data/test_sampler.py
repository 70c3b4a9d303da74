"""The order of the cases in an epoch, in several processes and after a resume."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, strategies as st
from ignite.engine import Engine
from torch.utils.data import DataLoader

from brats3d.data.sampler import EpochCaseSampler, PlaceSampler


def keys_of(monkeypatch, size: int, rank: int, processes: int, epoch: int = 1, start: int = 0, **options) -> list:
    """Return the (epoch, index) of one process."""
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: rank)
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: processes)
    sampler = EpochCaseSampler(range(size), **options)
    sampler.place(epoch, start)
    keys = list(sampler)
    assert len(sampler) - start == len(keys)
    return keys


@given(st.integers(1, 30), st.integers(0, 5), st.integers(1, 50))
def test_an_epoch_has_every_case_once_in_a_reproducible_order(size, seed, epoch):
    sampler, again = EpochCaseSampler(range(size), seed), EpochCaseSampler(range(size), seed)
    for placed in (sampler, again):
        placed.place(epoch)
    keys = list(sampler)
    assert sorted(keys) == [(epoch, index) for index in range(size)]
    assert list(again) == keys == list(sampler)


def test_orders_differ_by_epoch_and_by_seed():
    orders = []
    for seed, epoch in itertools.product((0, 1), (1, 2)):
        sampler = EpochCaseSampler(range(20), seed)
        sampler.place(epoch)
        orders.append([index for _, index in sampler])
    assert all(a != b for a, b in itertools.combinations(orders, 2))


def test_without_shuffling_the_order_is_that_of_the_data_set():
    assert list(EpochCaseSampler("abc", shuffle=False)) == [(1, 0), (1, 1), (1, 2)]


@given(st.integers(1, 20), st.data())
def test_a_sampler_placed_within_an_epoch_yields_the_rest_of_it(size, data):
    start = data.draw(st.integers(0, size))
    sampler = EpochCaseSampler(range(size), seed=4)
    sampler.place(3)
    whole = list(sampler)
    sampler.place(3, start)
    assert list(sampler) == whole[start:]


def test_a_pass_that_has_begun_keeps_its_epoch():
    sampler = EpochCaseSampler(range(5), shuffle=False)
    begun = iter(sampler)
    next(begun)
    sampler.place(2)
    assert {epoch for epoch, _ in begun} == {1}


@pytest.mark.parametrize(("size", "processes"), [(8, 2), (9, 2), (7, 3), (1, 4), (3, 8)])
def test_processes_divide_one_order_into_equal_parts(monkeypatch, size, processes):
    parts = [keys_of(monkeypatch, size, rank, processes, seed=1) for rank in range(processes)]
    assert len({len(part) for part in parts}) == 1
    order = [key for keys in zip(*parts, strict=True) for key in keys]
    assert order[:size] == keys_of(monkeypatch, size, 0, 1, seed=1)
    assert set(order[size:]) <= set(order[:size])
    if size % processes == 0:
        assert len(set(order)) == len(order)


def test_a_process_skips_samples_of_its_own_part(monkeypatch):
    whole = keys_of(monkeypatch, 9, 1, 2, epoch=2)
    assert keys_of(monkeypatch, 9, 1, 2, epoch=2, start=3) == whole[3:]


class Keys:
    """A data set of five cases that returns the key."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, int]:
        return key


def seen_keys(workers: int, epochs: int = 3, done: int = 0) -> list:
    """Return the keys that an engine sees in each iteration when it is restored after ``done`` iterations."""
    sampler = EpochCaseSampler(Keys(), seed=2)
    loader = DataLoader(Keys(), batch_size=2, sampler=sampler, num_workers=workers)
    seen: list = []
    engine = Engine(lambda engine, batch: seen.append(list(zip(*[column.tolist() for column in batch], strict=True))))
    PlaceSampler(sampler, loader.batch_size).attach(engine)
    engine.state.max_epochs, engine.state.epoch_length = epochs, len(loader)
    engine.state.epoch, engine.state.iteration = done // len(loader), done
    engine.run(loader, max_epochs=epochs)
    return seen


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("done", [1, 2, 3, 4, 8])
def test_a_restored_run_sees_exactly_the_rest(done, workers):
    whole = seen_keys(workers=0)
    assert [keys[0][0] for keys in whole] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert seen_keys(workers, done=done) == whole[done:]
