"""Prepared once, augmented by (seed, epoch, case), failures explained."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, NibabelReader
from monai.transforms import Compose, LoadImaged, RandFlipd, RandGaussianNoised, RandSpatialCropSamplesd

from brats3d.cases import find_cases
from brats3d.datalist import case_to_item
from brats3d.datasets import CaseDataset, FillCache, derive_seed
from brats3d.engines import EpochCaseSampler

CASE_BYTES = 16 * 16 * 12 * 4 * (4 + 1)
"""Of one prepared case of conftest's: four images and a label in float32."""


def items_of(root: Path) -> list[dict]:
    return [case_to_item(case) for case in find_cases(root)]


def pipeline(prepared: list[str] | None = None, random: bool = True) -> Compose:
    """Loads, notes whom it loaded, then flips and adds noise."""

    def note(data: dict) -> dict:
        if prepared is not None:
            prepared.append(data["case_id"])
        return data

    deterministic = [LoadImaged(["image", "label"], image_only=True, ensure_channel_first=True), note]
    noise = [RandFlipd(["image", "label"], spatial_axis=0, prob=0.5), RandGaussianNoised("image", std=5.0, prob=0.9)]
    return Compose(deterministic + (noise if random else []))


@pytest.fixture
def make(make_dataset) -> Callable[..., CaseDataset]:
    """Three tiny cases through :func:`pipeline`."""
    items: list[dict] = []

    def build(prepared: list[str] | None = None, random: bool = True, **options) -> CaseDataset:
        items[:] = items or items_of(make_dataset(3))
        return CaseDataset(items, pipeline(prepared, random), **options)

    return build


@pytest.fixture
def memory(monkeypatch) -> Callable[[float], None]:
    """Sets how many prepared cases fit into the free memory."""

    def set_(cases: float) -> None:
        available = int(cases * CASE_BYTES)
        monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=available))

    return set_


def images(samples: Sequence[dict]) -> list[torch.Tensor]:
    return [torch.as_tensor(sample["image"]) for sample in samples]


def same(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> bool:
    return all(map(torch.equal, a, b))


KEYS = [(epoch, index) for epoch in (1, 2) for index in range(3)]

# --- what is kept


@pytest.mark.parametrize(
    ("cache", "fit", "times"),
    [(1.0, 3, 3), (1.0, 2, 3 + 1), (1.0, 0.5, 6), (0.0, 9, 6), (0.5, 6, 3)],
    ids=["all fit", "two fit", "none fits", "cache off", "half of the memory"],
)
def test_the_deterministic_part_runs_once_while_the_budget_lasts(make, memory, cache, fit, times):
    memory(fit)
    prepared: list[str] = []
    data = make(prepared, cache=cache)
    for key in KEYS:
        data[key]
    assert len(prepared) == times


@pytest.mark.parametrize(("fit", "filled"), [(3, 3), (1, 2)], ids=["all fit", "one fits"])
def test_filling_prepares_what_fits_and_stops(make, memory, fit, filled):
    memory(fit)
    prepared: list[str] = []
    data = make(prepared, cache=1.0)
    FillCache(data, workers=1)(Engine(lambda engine, batch: None))
    assert len(prepared) == filled  # the one that no longer fits is the last that is tried
    for key in KEYS[:3]:
        data[key]
    assert len(prepared) == filled + 3 - fit


class Forgetful:
    """A transform that keeps what it works on in itself, as MONAI's reader does."""

    both_here = threading.Barrier(2)

    def __call__(self, data: dict) -> dict:
        self.case_id = data["case_id"]
        self.both_here.wait(timeout=10)
        return {"image": torch.ones(1, 2, 2, 2), "case_id": data["case_id"], "seen": self.case_id}


def test_threads_that_fill_do_not_share_transforms():
    data = CaseDataset([{"image": "a", "case_id": "a"}, {"image": "b", "case_id": "b"}], [Forgetful()], cache=1.0)
    data.fill(workers=2, progress=False)
    assert [data[i]["seen"] for i in range(2)] == ["a", "b"]


def test_monais_reader_loses_channels_where_two_threads_share_it(make_dataset):
    item = items_of(make_dataset(1))[0]
    reader = NibabelReader()
    images = reader.read(item["image"])
    reader.read(item["label"])  # what another thread does meanwhile
    assert reader.get_data(images)[0].shape == (16, 16, 12)  # one of four


def test_filling_keeps_nothing_where_the_cache_is_off(make):
    prepared: list[str] = []
    make(prepared, cache=0.0).fill()
    assert not prepared


@pytest.mark.parametrize("cache", [-0.1, 1.5])
def test_a_share_of_memory_is_from_0_to_1(make, cache):
    with pytest.raises(ValueError, match=f"cache: expected a share of the free memory from 0 to 1, got {cache}"):
        make(cache=cache)


# --- what a sample depends on


def test_a_sample_depends_on_seed_epoch_and_case_and_on_nothing_else(make):
    expected = images(make(seed=1)[key] for key in KEYS)
    backwards = make(seed=1, cache=1.0)
    assert same(images([backwards[key] for key in reversed(KEYS)])[::-1], expected)
    filled = make(seed=1, cache=1.0)
    filled.fill(progress=False)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - the legacy state is what MONAI's transforms could look at
    assert same(images(filled[key] for key in KEYS), expected)
    assert same(images(filled[key] for key in KEYS), expected)  # what is kept was not changed by what was drawn
    assert not any(map(torch.equal, expected[:3], expected[3:]))  # the epochs differ
    assert not any(map(torch.equal, images(make(seed=2)[key] for key in KEYS), expected))


def test_a_sample_is_that_of_the_case_not_of_its_place_in_the_list(make):
    data = make(seed=1)
    turned = CaseDataset(data.data[::-1], data.transform, seed=1)
    assert torch.equal(turned[5, 0]["image"], data[5, 2]["image"])


@pytest.mark.parametrize("cache", [0.0, 1.0])
def test_worker_processes_draw_what_the_training_process_draws(make, cache):
    def batches(workers: int) -> list[dict]:
        data = make(seed=1, cache=cache)
        data.fill(progress=False)
        fork = {"multiprocessing_context": "fork"} if workers else {}
        return list(DataLoader(data, sampler=EpochCaseSampler(data, seed=1), batch_size=2, num_workers=workers, **fork))

    alone, helped = batches(0), batches(2)
    assert [b["case_id"] for b in helped] == [b["case_id"] for b in alone]
    assert same(images(helped), images(alone))


def test_without_random_transforms_every_epoch_gives_the_same(make):
    data = make(random=False, cache=1.0)
    assert torch.equal(data[1, 0]["image"], data[2, 0]["image"])
    assert torch.equal(data[0]["image"], data[0, 0]["image"])


def test_several_crops_a_case_come_as_a_list(make_dataset):
    crop = RandSpatialCropSamplesd(["image", "label"], roi_size=(4, 4, 4), num_samples=2, random_size=False)
    transform = [LoadImaged(["image", "label"], image_only=True, ensure_channel_first=True), crop]
    samples = CaseDataset(items_of(make_dataset(1)), transform)[1, 0]
    assert [tuple(s["image"].shape) for s in samples] == [(4, 4, 4, 4)] * 2


def test_seeds_fit_32_bits_and_differ_in_every_part():
    seeds = {derive_seed(seed, epoch, case) for seed in (0, 1) for epoch in (1, 11) for case in ("1", "11", "a")}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert derive_seed(0, 1, "BraTS20_Training_001") == 3813824741  # of sha256sum; must never change


# --- what is wrong with a case


def test_nan_voxels_are_an_error_that_names_the_file(make_dataset, write_nifti):
    root = make_dataset(1)
    bad = root / "BraTS20_Training_001" / "BraTS20_Training_001_flair.nii.gz"
    values = np.ones((16, 16, 12), np.float32)
    values[3, 3, 3] = np.nan
    write_nifti(bad, values)
    with pytest.raises(ValueError, match=f"{bad}.*NaN"):
        CaseDataset(items_of(root), pipeline())[1, 0]


@pytest.mark.parametrize("fill", [False, True])
def test_a_truncated_file_is_an_error_that_names_it_and_not_monais(make_dataset, fill):
    root = make_dataset(1)
    bad = root / "BraTS20_Training_001" / "BraTS20_Training_001_t2.nii.gz"
    bad.write_bytes(bad.read_bytes()[:-200])
    items = items_of(root)
    with pytest.raises(RuntimeError, match="applying transform"):
        pipeline()(items[0])
    data = CaseDataset(items, pipeline(), cache=1.0)
    with pytest.raises(ValueError, match=f"{bad}") as error:
        data.fill(progress=False) if fill else data[1, 0]
    assert "\n" not in str(error.value)


def test_an_image_that_becomes_nan_on_the_way_is_refused_by_case(make_dataset):
    def spoil(data: dict) -> dict:
        data["image"][0, 0] = torch.inf
        return data

    transform = Compose([LoadImaged("image", image_only=True, ensure_channel_first=True), spoil])
    with pytest.raises(ValueError, match="BraTS20_Training_001: the prepared image has NaN or infinite voxels"):
        CaseDataset(items_of(make_dataset(1)), transform)[0]


def test_an_error_that_the_files_are_not_at_fault_for_is_left_alone(make_dataset):
    def broken(data: dict) -> dict:
        raise ZeroDivisionError

    with pytest.raises(RuntimeError, match="applying transform") as error:
        CaseDataset(items_of(make_dataset(1)), Compose([broken]))[0]
    assert isinstance(error.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(("warn", "background", "warned"), [(True, 7, 1), (False, 7, 0), (True, 0, 0)])
def test_a_background_that_is_not_0_is_warned_of(make_dataset, write_nifti, log, warn, background, warned):
    root = make_dataset(1)
    values = np.full((16, 16, 12), 300, np.int16)
    values[:4] = background
    for path in items_of(root)[0]["image"]:
        write_nifti(Path(path), values)
    CaseDataset(items_of(root), pipeline(random=False), warn=warn)[0]
    warnings = [r.getMessage() for r in log.records if r.levelname == "WARNING"]
    assert len(warnings) == warned
    assert all("BraTS20_Training_001: the background is not 0" in w for w in warnings)


def one_case(case_id: str) -> dict[str, str]:
    return {"image": case_id, "case_id": case_id}


def test_looking_ahead_prepares_the_next_case_and_each_one_once():
    prepared: list[str] = []

    def prepare(item: dict) -> dict:
        prepared.append(item["case_id"])
        return {"image": torch.ones(1, 2, 2, 2), "case_id": item["case_id"]}

    data = CaseDataset([one_case(name) for name in "abcd"], [prepare], ahead=True)
    assert [data[i]["case_id"] for i in range(4)] == list("abcd")
    assert prepared == list("abcd")
    assert data[1]["case_id"] == "b", "out of order works too"


def test_an_error_while_looking_ahead_comes_with_its_own_case():
    def prepare(item: dict) -> dict:
        if item["case_id"] == "b":
            raise ValueError("b is bad")
        return {"image": torch.ones(1, 2, 2, 2), "case_id": item["case_id"]}

    data = CaseDataset([one_case(name) for name in "abc"], [prepare], ahead=True)
    assert data[0]["case_id"] == "a"
    with pytest.raises(ValueError, match=r"^case b: "):
        data[1]
    assert data[2]["case_id"] == "c"
