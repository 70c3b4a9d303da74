"""Prefetched batches equal the plain loader's, errors are raised, and no thread is left running."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, ThreadDataLoader
from monai.transforms import Compose, RandFlipd, RandGaussianNoised

from brats3d.data.dataset import CaseDataset
from brats3d.data.loader import PrefetchLoader
from brats3d.data.sampler import EpochCaseSampler, PlaceSampler
from brats3d.errors import UsageError


class Volume:
    """Make an image filled with the case's number."""

    def __call__(self, item: dict) -> dict:
        return {**item, "image": torch.full((1, 2, 3, 4), float(item["case_id"]))}


def cases(size: int = 5) -> CaseDataset:
    items = [{"image": str(i), "case_id": str(i + 1)} for i in range(size)]
    noise = [RandFlipd("image", spatial_axis=0, prob=0.5), RandGaussianNoised("image", prob=0.8)]
    return CaseDataset(items, Compose([Volume(), *noise]), seed=7)


def plain(data, **options) -> tuple[DataLoader, EpochCaseSampler]:
    sampler = EpochCaseSampler(data, seed=2)
    return DataLoader(data, batch_size=2, sampler=sampler, **options), sampler


def prefetching(data, **options) -> tuple[PrefetchLoader, EpochCaseSampler]:
    sampler = EpochCaseSampler(data, seed=2)
    return PrefetchLoader(data, sampler, batch_size=2, **options), sampler


def train(loader, sampler, epochs: int = 3, done: int = 0, after: Callable | None = None) -> list[torch.Tensor]:
    """Return the images that an engine sees when it is restored after ``done`` iterations."""
    seen: list[torch.Tensor] = []
    engine = Engine(lambda engine, batch: seen.append(torch.as_tensor(batch["image"])))
    PlaceSampler(sampler, loader.batch_size).attach(engine)
    engine.state.max_epochs, engine.state.epoch_length = epochs, len(loader)
    engine.state.epoch, engine.state.iteration = done // len(loader), done
    if after:
        engine.add_event_handler(Events.EPOCH_COMPLETED, after)
    engine.run(loader, max_epochs=epochs)
    return seen


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(map(torch.equal, a, b))


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.fixture(autouse=True)
def no_thread_is_left_running() -> Iterator[None]:
    gc.collect()  # what earlier tests left, such as a training with its thread
    gc.freeze()  # keeps garbage collection fast
    yield
    deadline = time.monotonic() + 10
    while threads() and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    gc.unfreeze()
    assert threads() == []


# --- batches


@pytest.mark.parametrize(
    ("options", "done"),
    [*(({}, done) for done in (0, 1, 3, 4, 8)), ({"ahead": 1}, 4), ({"ahead": 9}, 4), ({"num_workers": 1}, 4)],
    ids=str,
)
def test_a_run_resumed_anywhere_sees_the_plain_loaders_batches(options, done):
    expected = train(*plain(cases()))
    assert same(train(*prefetching(cases(), **options), done=done), expected[done:])


def test_every_epoch_has_all_cases_in_a_different_order():
    loader, sampler = prefetching(cases())
    epochs = []
    for epoch in (1, 2, 3):
        sampler.place(epoch)
        epochs.append([name for batch in loader for name in batch["case_id"]])
    assert len(loader) == 3 and {len(names) for names in epochs} == {5}
    assert [sorted(names) for names in epochs] == [list("12345")] * 3
    assert len(set(map(tuple, epochs))) == 3


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_an_abandoned_epoch_starts_again_from_its_beginning(taken):
    expected = [batch["image"] for batch in plain(cases())[0]]
    loader, _ = prefetching(cases())
    begun = iter(loader)
    for _ in range(taken):
        next(begun)
    begun.close()
    assert same([batch["image"] for batch in loader], expected)


def test_batches_prefetched_for_another_epoch_are_dropped():
    loader, sampler = prefetching(cases())
    list(loader)  # the first batch of epoch 2 is being made
    sampler.place(5, start=2)
    other, place = plain(cases())
    place.place(5, start=2)
    assert same([b["image"] for b in loader], [b["image"] for b in other])


def test_drop_last_drops_the_incomplete_batch():
    assert len(list(prefetching(cases(), drop_last=True)[0])) == 2 == len(prefetching(cases(), drop_last=True)[0])


def test_torchs_random_state_is_unchanged():
    loader, _ = prefetching(cases())
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)


# --- prefetching


class Slow:
    """Samples of the keys, each made in ``seconds`` by a recorded thread."""

    def __init__(self, size: int = 6, seconds: float = 0.0, bad: int | None = None) -> None:
        self.size, self.seconds, self.bad = size, seconds, bad
        self.made: list[tuple[int, int]] = []
        self.makers: set[int] = set()
        self.at_work = threading.Lock()

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: tuple[int, int]) -> dict:
        assert self.at_work.acquire(blocking=False), "two samples are made at the same time"
        with suppress(RuntimeError):
            time.sleep(self.seconds)
        self.makers.add(threading.get_ident())
        self.made.append(key)
        self.at_work.release()
        if key[1] == self.bad:
            raise ValueError(f"case {key[1]} is bad")
        return {"image": torch.tensor(key)}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()


@pytest.mark.parametrize("ahead", [1, 2])
def test_no_more_batches_are_prefetched_than_requested(ahead):
    data = Slow()
    batches = iter(prefetching(data, ahead=ahead)[0])
    next(batches)
    until(lambda: len(data.made) == 2 * (1 + ahead))
    time.sleep(0.05)
    assert len(data.made) == 2 * (1 + ahead)
    batches.close()


def test_the_first_batch_of_the_next_epoch_is_made_during_validation():
    data = Slow(size=4)
    seen: list[int] = []

    def validate() -> None:
        until(lambda: len(data.made) >= 4 * len(seen) + 6)
        seen.append(sum(epoch == len(seen) + 2 for epoch, _ in data.made))

    train(*prefetching(data), epochs=3, after=validate)
    assert seen == [2, 2, 2]


def test_one_thread_other_than_the_trainings_makes_all_samples():
    data = Slow(seconds=0.001)
    train(*prefetching(data), epochs=3)
    assert len(data.makers) == 1 and threading.get_ident() not in data.makers


# --- errors


@pytest.mark.parametrize("bad", range(6))
def test_an_error_is_raised_when_its_batch_is_requested(bad):
    order = [index for _, index in EpochCaseSampler(range(6), seed=2)]
    loader, _ = prefetching(Slow(bad=bad))
    seen = []
    with pytest.raises(ValueError, match=f"^case {bad} is bad$"):
        for batch in loader:
            seen += batch["image"][:, 1].tolist()
    assert seen == order[: order.index(bad) // 2 * 2]


def test_an_error_ends_the_training_with_its_message():
    with pytest.raises(ValueError, match="case 3 is bad"):
        train(*prefetching(Slow(bad=3)))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_monais_thread_loader_silently_ends_after_an_error():
    data = Slow(bad=3)
    loader = ThreadDataLoader(data, batch_size=2, sampler=EpochCaseSampler(data, seed=2))
    assert len(list(loader)) < len(loader)


def test_the_next_pass_after_an_error_works():
    data = Slow(bad=3)
    loader, _ = prefetching(data)
    with pytest.raises(ValueError, match="case 3 is bad"):
        list(loader)
    data.bad = None
    assert len(list(loader)) == 3


# --- the end of the thread


def test_a_loader_deleted_within_an_epoch_leaves_no_thread():
    batches = iter(prefetching(Slow(seconds=0.01))[0])
    next(batches)
    assert threads()
    del batches  # the fixture waits for the thread


@pytest.mark.parametrize("ahead", [0, -1])
def test_prefetching_less_than_one_batch_is_refused(ahead):
    with pytest.raises(UsageError) as error:
        prefetching(cases(), ahead=ahead)
    assert (error.value.subject, error.value.found) == ("ahead", ahead)


class Printing(Slow):
    """Samples that print when they are made."""

    def __getitem__(self, key: tuple[int, int]) -> dict:
        print("made", flush=True)
        return super().__getitem__(key)


BATCHES: list[Iterator] = []
"""Keeps a loader alive until the interpreter shuts down."""


def interrupted_run() -> None:
    BATCHES.append(iter(prefetching(Printing(size=30, seconds=0.2), ahead=20)[0]))
    next(BATCHES[0])
    print("interrupted", flush=True)
    raise KeyboardInterrupt


def test_an_interrupted_program_waits_for_the_current_batch_only(capfd):
    process = multiprocessing.get_context("fork").Process(target=interrupted_run)
    process.start()
    process.join(timeout=30)
    out, err = capfd.readouterr()
    assert "KeyboardInterrupt" in err and "exception calling callback" not in err
    assert process.exitcode == 1
    assert out.partition("interrupted")[2].split().count("made") <= 2  # one batch of two samples


def out_of_shared_memory(samples: list) -> None:
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


def broken(samples: list) -> None:
    raise RuntimeError("stack expects each tensor to be equal size")


def test_worker_processes_without_shared_memory_are_explained():
    loader, _ = prefetching(cases(), num_workers=1, collate_fn=out_of_shared_memory)
    with pytest.raises(UsageError) as caught:
        list(loader)
    assert caught.value.subject == "num_workers" and "--shm-size" in caught.value.advice


def test_worker_processes_that_cannot_be_started_are_explained(monkeypatch):
    def fail(self: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("torch.utils.data.DataLoader.__iter__", fail)
    loader, _ = prefetching(cases(), num_workers=1)
    with pytest.raises(UsageError) as caught:
        list(loader)
    assert caught.value.subject == "num_workers" and "--num_workers 0" in caught.value.advice


def test_another_error_of_a_worker_process_is_raised_unchanged():
    loader, _ = prefetching(cases(), num_workers=1, collate_fn=broken)
    with pytest.raises(RuntimeError, match="equal size"):
        list(loader)
