"""Prepared once, kept in memory or on disk, augmented by (seed, epoch, case), failures explained."""

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
from monai.transforms import (
    Compose,
    EnsureTyped,
    LoadImaged,
    RandFlipd,
    RandGaussianNoised,
    RandomizableTransform,
    RandSpatialCropSamplesd,
)

from brats3d.cases.case import find_cases
from brats3d.cases.datalist import case_to_item
from brats3d.data import dataset as datasets
from brats3d.data.dataset import CaseDataset, FillCache
from brats3d.data.sampler import EpochCaseSampler
from brats3d.data.seeds import derive_seed
from brats3d.files import memory as memory_module
from brats3d.labels import MODALITIES

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
        monkeypatch.setattr(datasets, "ROOM_BYTES", 0)

    return set_


def images(samples: Sequence[dict]) -> list[torch.Tensor]:
    return [torch.as_tensor(sample["image"]) for sample in samples]


def same(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> bool:
    return all(map(torch.equal, a, b))


def in_memory(data: CaseDataset) -> int:
    """How many cases stay in memory when all are prepared."""
    data.fill(progress=False)
    return len(data._prepared)


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


@pytest.mark.parametrize(("fit", "filled"), [(3, 3), (1, 3), (0, 1)], ids=["all fit", "one fits", "none fits"])
def test_filling_reads_every_case_once_unless_none_can_be_kept(make, memory, fit, filled):
    memory(fit)
    prepared: list[str] = []
    data = make(prepared, cache=1.0)
    FillCache(data, workers=1)(Engine(lambda engine, batch: None))
    assert len(prepared) == filled
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


@pytest.mark.parametrize(("free", "kept"), [(2, 0), (3.5, 1), (4, 2), (6, 3)])
def test_room_is_left_for_the_network_whatever_the_share(make, memory, monkeypatch, free, kept):
    memory(free)
    monkeypatch.setattr(datasets, "ROOM_BYTES", 2 * CASE_BYTES)
    assert in_memory(make(cache=0.6)) == kept


@pytest.mark.parametrize(
    ("limit", "kept"),
    [("max", 3), (10**12, 3), (10**6 + CASE_BYTES, 2), (10**6 - 2 * CASE_BYTES, 0)],
    ids=["none", "high", "one case and what can be given up", "exceeded"],
)
def test_a_containers_limit_bounds_the_free_memory(make, memory, monkeypatch, tmp_path, limit, kept):
    memory(3)
    counts = {"memory.max": limit, "memory.current": 10**6, "memory.stat": f"anon 5\ninactive_file {CASE_BYTES}"}
    for name, content in counts.items():
        (tmp_path / name).write_text(f"{content}\n")
    monkeypatch.setattr(memory_module, "CGROUP", tmp_path)
    assert in_memory(make(cache=1.0)) == kept


@pytest.mark.parametrize("cache", [-0.1, 1.5])
def test_a_share_of_memory_is_from_0_to_1(make, cache):
    with pytest.raises(ValueError, match=f"cache: expected a share of the free memory from 0 to 1, got {cache}"):
        make(cache=cache)


# --- what is on disk

NOTED: list[str] = []
"""Whom :func:`noted` has seen. A transform of its own source can be kept on disk, a local function cannot."""


def noted(data: dict) -> dict:
    NOTED.append(data["case_id"])
    return data


@pytest.fixture
def make_stored(make_dataset, tmp_path) -> Callable[..., CaseDataset]:
    """Three tiny cases whose prepared form goes to ``tmp_path / "cache"``; NOTED says which were prepared."""
    items = items_of(make_dataset(3))

    def build(cache: float = 1.0, random: bool = True, **options) -> CaseDataset:
        NOTED.clear()
        load = LoadImaged(["image", "label"], image_only=True, ensure_channel_first=True)
        transform = Compose([load, noted, *(pipeline().transforms[2:] if random else [])])
        return CaseDataset(items, transform, cache=cache, **{"cache_dir": tmp_path / "cache", "seed": 1, **options})

    return build


def stored(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "cache").rglob("*") if path.is_file())


@pytest.mark.parametrize("fill", [True, False])
@pytest.mark.parametrize(("fit", "files"), [(3, 0), (2, 1), (0.5, 3)], ids=["all fit", "two fit", "none fits"])
def test_what_memory_has_no_room_for_goes_to_the_disk(make_stored, memory, tmp_path, fit, files, fill):
    memory(fit)
    data = make_stored()
    if fill:
        data.fill(progress=False)
        assert len(stored(tmp_path)) == files
    for key in KEYS:
        data[key]
    assert len(stored(tmp_path)) == files
    assert sorted(NOTED) == [item["case_id"] for item in data.data]


def test_a_case_from_the_disk_is_what_its_files_give_to_the_last_bit(make_stored, memory, tmp_path):
    memory(0)
    plain = make_stored(cache=0.0)
    expected, volumes = images(plain[key] for key in KEYS), [plain._prepare(i)[0] for i in range(3)]
    make_stored().fill(progress=False)
    again = make_stored()
    assert same(images(again[key] for key in KEYS), expected)
    for i, volume in enumerate(volumes):
        found = again._prepare(i)[0]
        assert found["image"].stride() == volume["image"].stride()
        assert torch.equal(found["label"], volume["label"])
        assert torch.equal(found["image"].affine, volume["image"].affine)
        assert found["image"].meta["filename_or_obj"] == volume["image"].meta["filename_or_obj"]
    assert NOTED == [], "nothing was prepared again"


def test_without_random_transforms_a_case_comes_from_the_disk_too(make_stored, memory):
    memory(0)
    expected = images(make_stored(random=False)[i] for i in range(3))
    assert same(images(make_stored(random=False)[i] for i in range(3)), expected)
    assert NOTED == []


def test_a_file_that_has_changed_is_prepared_again(make_stored, memory, tmp_path, write_nifti):
    memory(0)
    make_stored().fill(progress=False)
    data = make_stored(random=False)
    write_nifti(Path(data.data[1]["image"][0]), np.full((16, 16, 12), 7, np.int16))
    make_stored().fill(progress=False)
    assert [data.data[1]["case_id"]] == NOTED
    assert set(make_stored()._prepare(1)[0]["image"][0].unique().tolist()) == {7.0}
    assert len(stored(tmp_path)) == 3


def test_a_damaged_entry_is_prepared_again_and_written_whole(make_stored, memory, tmp_path):
    memory(0)
    make_stored().fill(progress=False)
    entry = stored(tmp_path)[0]
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    data = make_stored()
    assert same(images([data[1, 0]]), images([make_stored(cache=0.0)[1, 0]]))
    assert entry.read_bytes() == whole


@pytest.mark.parametrize("options", [{"cache": 0.0}, {"cache_dir": None}], ids=str)
def test_the_disk_is_left_alone_where_nothing_is_to_be_kept_there(make_stored, memory, tmp_path, options):
    memory(0)
    data = make_stored(**options)
    data.fill(progress=False)
    data[1, 0]
    assert stored(tmp_path) == []


def test_a_disk_that_cannot_be_written_stops_neither_filling_nor_training(make_stored, memory, tmp_path, log):
    memory(0)
    (tmp_path / "cache").write_text("a file where the folder would be")
    data = make_stored()
    data.fill(progress=False)
    assert same(images([data[1, 2]]), images([make_stored(cache=0.0)[1, 2]]))
    assert [record.levelname for record in log.records] == ["WARNING"]


@pytest.mark.parametrize("rank", [0, 1])
def test_each_process_prepares_its_share_of_what_goes_to_the_disk(make_stored, memory, monkeypatch, tmp_path, rank):
    memory(2)  # for both: one case each
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: rank)
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("ignite.distributed.get_nproc_per_node", lambda: 2)
    data = make_stored()
    data.fill(workers=1, progress=False)
    # The first stays in memory, the second no longer fits and is written by both, the third is the first one's share.
    expected = [item["case_id"] for item in data.data][: 3 - rank]
    assert expected == NOTED
    assert len(stored(tmp_path)) == (2 if rank == 0 else 1)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_shares_do_not_depend_on_what_a_processs_memory_holds(make_stored, memory, monkeypatch, rank):
    memory(2 - 2 * rank)  # the second process has room for none, the first one for one
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: rank)
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("ignite.distributed.get_nproc_per_node", lambda: 2)
    data = make_stored()
    data.fill(workers=1, progress=False)
    ids = [item["case_id"] for item in data.data]
    assert ([ids[0], ids[1], ids[2]] if rank == 0 else [ids[0], ids[1]]) == NOTED


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


@pytest.mark.parametrize(("cache", "fit"), [(0.0, 0), (1.0, 3), (1.0, 1)], ids=["no cache", "memory", "disk"])
def test_worker_processes_draw_what_the_training_process_draws(make_stored, memory, cache, fit):
    memory(fit)

    def batches(workers: int) -> list[dict]:
        data = make_stored(cache=cache)
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


@pytest.mark.parametrize("full", [False, True])
def test_filling_finds_a_damaged_case_that_nothing_has_room_for(make_stored, memory, monkeypatch, full):
    memory(0 if full else 1)
    if full:  # one case in, and the disk's share is full
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=3 * CASE_BYTES))
    data = make_stored(**({} if full else {"cache_dir": None}))
    bad = Path(data.data[2]["image"][1])
    bad.write_bytes(bad.read_bytes()[:-200])
    with pytest.raises(ValueError, match=f"{bad}"):
        data.fill(workers=1, progress=False)


def test_one_image_of_four_with_a_background_that_is_not_0_is_named(make_dataset, write_nifti, log):
    root = make_dataset(1)
    values = np.full((16, 16, 12), 300, np.int16)
    values[:4] = 0
    paths = [Path(path) for path in items_of(root)[0]["image"]]
    for path in paths:
        write_nifti(path, values)
    write_nifti(paths[3], np.where(values == 0, 7, values).astype(np.int16))
    CaseDataset(items_of(root), pipeline(random=False), warn=True)[0]
    assert f"the background is not 0 in {paths[3].name} (skull not removed?)" in log.text


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


# --- absent sequences


def plain(item: dict) -> dict:
    """Channel c is c + 1 everywhere but for a corner."""
    image = torch.ones(len(item["image"]), 2, 2, 2) * torch.arange(1, len(item["image"]) + 1)[:, None, None, None]
    image[:, 0, 0, 0] = 0
    return {**item, "image": image}


def sample(names: Sequence[str], **options) -> list[float]:
    """The values of the channels that are made of one-valued files of these names."""
    item = {"case_id": "a", "image": [f"a_{name}.nii.gz" for name in names]}
    return CaseDataset([item], [plain], **options)[0]["image"][:, 1, 1, 1].tolist()


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (("flair",), [0, 0, 0, 1]),
        (("t1ce", "t2"), [0, 1, 2, 0]),
        (("t1", "t1ce", "t2", "flair"), [1, 2, 3, 4]),
        (("flair", "t1"), [2, 0, 0, 1]),
        (("t2f", "t1n", "t2w", "t1c"), [2, 4, 3, 1]),
    ],
    ids=str,
)
def test_channels_are_bound_by_the_files_names_and_absent_ones_are_zeros(names, values):
    assert sample(names, modalities=MODALITIES, absent_sequences=True) == values


def test_without_modalities_an_items_channels_stay_as_they_are():
    assert sample(("flair", "t1")) == [1, 2]


def test_files_whose_names_say_nothing_stay_as_they_are():
    assert sample(("a", "b"), modalities=MODALITIES, absent_sequences=True) == [1, 2]


def test_an_absent_sequence_is_refused_unless_it_is_allowed():
    with pytest.raises(
        ValueError, match=r"^a: missing t1, t1ce, t2; found flair; expected t1, t1ce, t2, flair, unless"
    ):
        sample(("flair",), modalities=MODALITIES)


def test_a_cached_case_is_filled_at_every_access_and_only_once():
    item = {"case_id": "a", "image": ["a_t2.nii.gz"]}
    data = CaseDataset([item], [plain], cache=1.0, modalities=("t1", "t2"), absent_sequences=True)
    assert [data[i]["image"].shape[0] for i in (0, 0, (2, 0))] == [2, 2, 2]
    assert data._prepared[0]["image"].shape[0] == 1


@pytest.mark.parametrize("kept", ["in memory", "on disk", "nowhere"])
def test_a_sample_is_augmented_on_the_device_and_kept_in_main_memory(make_dataset, kept, tmp_path, memory):
    """``meta`` stands for a GPU: it has no values, but every machine has it."""
    memory(9 if kept == "in memory" else 0)
    keys, folder, seen = ["image", "label"], tmp_path / "cache", []
    load = LoadImaged(keys, image_only=True, ensure_channel_first=True)
    transforms = [load, EnsureTyped(keys, track_meta=False), SeeDevices(seen)]
    options = {} if kept == "nowhere" else {"cache": 1.0, "cache_dir": folder}
    data = CaseDataset(items_of(make_dataset(3)), transforms, device="meta", **options)
    data.fill(progress=False)
    for _ in range(2):
        sample = data[1]
        assert {sample[key].device.type for key in keys} == {"meta"}
    assert seen == [{"meta"}] * 2
    assert len(data._prepared) == (3 if kept == "in memory" else 0)
    assert all(case["image"].device.type == "cpu" for case in data._prepared.values())
    assert any(folder.rglob("*.*")) == (kept == "on disk")
    assert CaseDataset(data.data, transforms)[1]["image"].device.type == "cpu"


class SeeDevices(RandomizableTransform):
    """Notes where the tensors are that it is given."""

    def __init__(self, seen: list[set[str]]) -> None:
        super().__init__()
        self.seen = seen

    def __call__(self, data: dict) -> dict:
        self.seen.append({data[key].device.type for key in ("image", "label")})
        return data
