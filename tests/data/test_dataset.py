"""Cases prepared once, cached in memory or on disk, augmented by (seed, epoch, case), errors explained."""

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

from brats3d.cases.case import case_to_item
from brats3d.cases.search import find_cases
from brats3d.data import dataset as datasets
from brats3d.data.dataset import CaseDataset, FillCache
from brats3d.data.sampler import EpochCaseSampler
from brats3d.errors import DataError, UsageError
from brats3d.files import memory as memory_module
from brats3d.labels import MODALITIES

CASE_BYTES = 16 * 16 * 12 * 4 * (4 + 1)
"""Size of one prepared case of conftest's: four images and a label in float32."""


def items_of(root: Path) -> list[dict]:
    return [case_to_item(case) for case in find_cases(root)]


def pipeline(prepared: list[str] | None = None, random: bool = True) -> Compose:
    """Load, record the case, then flip and add noise."""

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
    """Set how many prepared cases fit into the free memory."""

    def set_(cases: float) -> None:
        available = int(cases * CASE_BYTES)
        monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=available))
        monkeypatch.setattr(datasets, "RESERVED_BYTES", 0)

    return set_


def images(samples: Sequence[dict]) -> list[torch.Tensor]:
    return [torch.as_tensor(sample["image"]) for sample in samples]


def same(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> bool:
    return all(map(torch.equal, a, b))


def in_memory(data: CaseDataset) -> int:
    """Prepare all cases and return how many stay in memory."""
    data.fill(progress=False)
    return len(data._prepared)


def test_labels_of_the_whole_brain_are_refused_with_their_file(make_dataset, write_nifti):
    items = items_of(make_dataset(1))
    label = np.zeros((16, 16, 12), np.uint8)
    label[2:14, 2:14, 1:11] = 1
    write_nifti(Path(items[0]["label"]), label)
    with pytest.raises(DataError) as error:
        CaseDataset(items, pipeline())[0]
    assert error.value.subject == items[0]["label"]


KEYS = [(epoch, index) for epoch in (1, 2) for index in range(3)]

# --- the cache in memory


@pytest.mark.parametrize(
    ("cache", "fit", "times"),
    [(1.0, 3, 3), (1.0, 2, 3 + 1), (1.0, 0.5, 6), (0.0, 9, 6), (0.5, 6, 3)],
    ids=["all fit", "two fit", "none fits", "cache off", "half of the memory"],
)
def test_the_deterministic_part_runs_once_for_each_case_that_fits_in_memory(make, memory, cache, fit, times):
    memory(fit)
    prepared: list[str] = []
    data = make(prepared, cache=cache)
    for key in KEYS:
        data[key]
    assert len(prepared) == times


@pytest.mark.parametrize(("fit", "filled"), [(3, 3), (1, 3), (0, 1)], ids=["all fit", "one fits", "none fits"])
def test_filling_reads_every_case_once_unless_none_fits(make, memory, fit, filled):
    memory(fit)
    prepared: list[str] = []
    data = make(prepared, cache=1.0)
    FillCache(data, workers=1)(Engine(lambda engine, batch: None))
    assert len(prepared) == filled
    for key in KEYS[:3]:
        data[key]
    assert len(prepared) == filled + 3 - fit


class Forgetful:
    """A transform that stores the current case in itself, as MONAI's reader does."""

    both_here = threading.Barrier(2)

    def __call__(self, data: dict) -> dict:
        self.case_id = data["case_id"]
        self.both_here.wait(timeout=10)
        return {"image": torch.ones(1, 2, 2, 2), "case_id": data["case_id"], "seen": self.case_id}


def test_threads_that_fill_do_not_share_transforms():
    data = CaseDataset([{"image": "a", "case_id": "a"}, {"image": "b", "case_id": "b"}], [Forgetful()], cache=1.0)
    data.fill(workers=2, progress=False)
    assert [data[i]["seen"] for i in range(2)] == ["a", "b"]


def test_monais_reader_loses_channels_if_two_threads_share_it(make_dataset):
    item = items_of(make_dataset(1))[0]
    reader = NibabelReader()
    images = reader.read(item["image"])
    reader.read(item["label"])  # as another thread does meanwhile
    assert reader.get_data(images)[0].shape == (16, 16, 12)  # one of four


def test_filling_does_nothing_with_the_cache_off(make):
    prepared: list[str] = []
    make(prepared, cache=0.0).fill()
    assert not prepared


@pytest.mark.parametrize(("free", "kept"), [(2, 0), (3.5, 1), (4, 2), (6, 3)])
def test_memory_is_reserved_for_the_network(make, memory, monkeypatch, free, kept):
    memory(free)
    monkeypatch.setattr(datasets, "RESERVED_BYTES", 2 * CASE_BYTES)
    assert in_memory(make(cache=0.6)) == kept


@pytest.mark.parametrize(
    ("limit", "kept"),
    [("max", 3), (10**12, 3), (10**6 + CASE_BYTES, 2), (10**6 - 2 * CASE_BYTES, 0)],
    ids=["none", "high", "one case and what can be given up", "exceeded"],
)
def test_a_containers_memory_limit_is_respected(make, memory, monkeypatch, tmp_path, limit, kept):
    memory(3)
    counts = {"memory.max": limit, "memory.current": 10**6, "memory.stat": f"anon 5\ninactive_file {CASE_BYTES}"}
    for name, content in counts.items():
        (tmp_path / name).write_text(f"{content}\n")
    monkeypatch.setattr(memory_module, "CGROUP", tmp_path)
    assert in_memory(make(cache=1.0)) == kept


@pytest.mark.parametrize("cache", [-0.1, 1.5])
def test_the_fraction_of_memory_is_from_0_to_1(make, cache):
    with pytest.raises(UsageError) as error:
        make(cache=cache)
    assert (error.value.subject, error.value.found) == ("cache", cache)


def test_a_cache_on_disk_requires_a_recipe(make, tmp_path):
    with pytest.raises(UsageError) as error:
        make(cache=1.0, cache_dir=tmp_path / "cache")
    assert error.value.subject == "recipe"


# --- the cache on disk

NOTED: list[str] = []
"""The cases that :func:`noted` has prepared."""


def noted(data: dict) -> dict:
    NOTED.append(data["case_id"])
    return data


@pytest.fixture
def make_stored(make_dataset, tmp_path) -> Callable[..., CaseDataset]:
    """Three tiny cases cached in ``tmp_path / "cache"``; NOTED lists the ones that were prepared."""
    items = items_of(make_dataset(3))

    def build(cache: float = 1.0, random: bool = True, **options) -> CaseDataset:
        NOTED.clear()
        load = LoadImaged(["image", "label"], image_only=True, ensure_channel_first=True)
        transform = Compose([load, noted, *(pipeline().transforms[2:] if random else [])])
        options = {"cache_dir": tmp_path / "cache", "recipe": f"random={random}", "seed": 1, **options}
        return CaseDataset(items, transform, cache=cache, **options)

    return build


def stored(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "cache").rglob("*") if path.is_file())


@pytest.mark.parametrize("fill", [True, False])
@pytest.mark.parametrize(("fit", "files"), [(3, 0), (2, 1), (0.5, 3)], ids=["all fit", "two fit", "none fits"])
def test_cases_that_do_not_fit_in_memory_are_stored_on_disk(make_stored, memory, tmp_path, fit, files, fill):
    memory(fit)
    data = make_stored()
    if fill:
        data.fill(progress=False)
        assert len(stored(tmp_path)) == files
    for key in KEYS:
        data[key]
    assert len(stored(tmp_path)) == files
    assert sorted(NOTED) == [item["case_id"] for item in data.data]


def test_a_case_from_the_disk_is_bit_identical(make_stored, memory, tmp_path):
    memory(0)
    plain = make_stored(cache=0.0)
    expected, volumes = images(plain[key] for key in KEYS), [plain._prepare(i)[0] for i in range(3)]
    make_stored().fill(progress=False)
    again = make_stored()
    assert same(images(again[key] for key in KEYS), expected)
    for i, volume in enumerate(volumes):
        result = again._prepare(i)[0]
        assert result["image"].stride() == volume["image"].stride()
        assert torch.equal(result["label"], volume["label"])
        assert torch.equal(result["image"].affine, volume["image"].affine)
        assert result["image"].meta["filename_or_obj"] == volume["image"].meta["filename_or_obj"]
    assert NOTED == [], "nothing was prepared again"


def test_a_case_is_read_from_disk_without_random_transforms_too(make_stored, memory):
    memory(0)
    expected = images(make_stored(random=False)[i] for i in range(3))
    assert same(images(make_stored(random=False)[i] for i in range(3)), expected)
    assert NOTED == []


def test_a_changed_file_is_prepared_again(make_stored, memory, tmp_path, write_nifti):
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
def test_nothing_is_written_without_a_cache_or_a_cache_dir(make_stored, memory, tmp_path, options):
    memory(0)
    data = make_stored(**options)
    data.fill(progress=False)
    data[1, 0]
    assert stored(tmp_path) == []


def test_a_disk_that_cannot_be_written_is_no_error(make_stored, memory, tmp_path, log):
    memory(0)
    (tmp_path / "cache").write_text("a file where the folder would be")
    data = make_stored()
    data.fill(progress=False)
    assert same(images([data[1, 2]]), images([make_stored(cache=0.0)[1, 2]]))
    assert [record.levelname for record in log.records if record.name == "brats3d"] == ["WARNING"]


@pytest.mark.parametrize("rank", [0, 1])
def test_each_process_prepares_its_part_of_the_cases_for_the_disk(make_stored, memory, monkeypatch, tmp_path, rank):
    memory(2)  # for both: one case each
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: rank)
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("ignite.distributed.get_nproc_per_node", lambda: 2)
    data = make_stored()
    data.fill(workers=1, progress=False)
    # The first stays in memory, both processes write the second, which no longer fits, and the first writes the third.
    expected = [item["case_id"] for item in data.data][: 3 - rank]
    assert expected == NOTED
    assert len(stored(tmp_path)) == (2 if rank == 0 else 1)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_parts_of_the_processes_do_not_depend_on_their_memory(make_stored, memory, monkeypatch, rank):
    memory(2 - 2 * rank)  # the second process has room for none, the first one for one
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: rank)
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("ignite.distributed.get_nproc_per_node", lambda: 2)
    data = make_stored()
    data.fill(workers=1, progress=False)
    ids = [item["case_id"] for item in data.data]
    assert ([ids[0], ids[1], ids[2]] if rank == 0 else [ids[0], ids[1]]) == NOTED


# --- random seeds


def test_a_sample_depends_on_seed_epoch_and_case_only(make):
    expected = images(make(seed=1)[key] for key in KEYS)
    backwards = make(seed=1, cache=1.0)
    assert same(images([backwards[key] for key in reversed(KEYS)])[::-1], expected)
    filled = make(seed=1, cache=1.0)
    filled.fill(progress=False)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - MONAI's transforms could use the legacy state
    assert same(images(filled[key] for key in KEYS), expected)
    assert same(images(filled[key] for key in KEYS), expected)  # the augmentation has not changed the cached cases
    assert not any(map(torch.equal, expected[:3], expected[3:]))  # the epochs differ
    assert not any(map(torch.equal, images(make(seed=2)[key] for key in KEYS), expected))


def test_a_sample_does_not_depend_on_the_place_of_its_case_in_the_list(make):
    data = make(seed=1)
    turned = CaseDataset(data.data[::-1], data.transform, seed=1)
    assert torch.equal(turned[5, 0]["image"], data[5, 2]["image"])


@pytest.mark.parametrize(("cache", "fit"), [(0.0, 0), (1.0, 3), (1.0, 1)], ids=["no cache", "memory", "disk"])
def test_worker_processes_make_the_samples_of_the_training_process(make_stored, memory, cache, fit):
    memory(fit)

    def batches(workers: int) -> list[dict]:
        data = make_stored(cache=cache)
        data.fill(progress=False)
        fork = {"multiprocessing_context": "fork"} if workers else {}
        return list(DataLoader(data, sampler=EpochCaseSampler(data, seed=1), batch_size=2, num_workers=workers, **fork))

    alone, helped = batches(0), batches(2)
    assert [b["case_id"] for b in helped] == [b["case_id"] for b in alone]
    assert same(images(helped), images(alone))


def test_without_random_transforms_every_epoch_is_the_same(make):
    data = make(random=False, cache=1.0)
    assert torch.equal(data[1, 0]["image"], data[2, 0]["image"])
    assert torch.equal(data[0]["image"], data[0, 0]["image"])


def test_several_crops_of_a_case_are_a_list(make_dataset):
    crop = RandSpatialCropSamplesd(["image", "label"], roi_size=(4, 4, 4), num_samples=2, random_size=False)
    transform = [LoadImaged(["image", "label"], image_only=True, ensure_channel_first=True), crop]
    samples = CaseDataset(items_of(make_dataset(1)), transform)[1, 0]
    assert [tuple(s["image"].shape) for s in samples] == [(4, 4, 4, 4)] * 2


# --- damaged and unusable cases


def test_nan_voxels_are_an_error_with_the_files_name(make_dataset, write_nifti):
    root = make_dataset(1)
    bad = root / "BraTS20_Training_001" / "BraTS20_Training_001_flair.nii.gz"
    values = np.ones((16, 16, 12), np.float32)
    values[3, 3, 3] = np.nan
    write_nifti(bad, values)
    with pytest.raises(ValueError, match=f"{bad}.*NaN"):  # raised by brats3d.cases
        CaseDataset(items_of(root), pipeline())[1, 0]


@pytest.mark.parametrize("fill", [False, True])
def test_a_truncated_file_is_explained_instead_of_monais_error(make_dataset, fill):
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


def test_an_image_that_a_transform_makes_infinite_is_refused(make_dataset):
    def spoil(data: dict) -> dict:
        data["image"][0, 0] = torch.inf
        return data

    transform = Compose([LoadImaged("image", image_only=True, ensure_channel_first=True), spoil])
    with pytest.raises(DataError) as error:
        CaseDataset(items_of(make_dataset(1)), transform)[0]
    assert error.value.subject == "BraTS20_Training_001" and "infinite" in error.value.problem


def test_an_error_that_the_files_did_not_cause_is_unchanged(make_dataset):
    def broken(data: dict) -> dict:
        raise ZeroDivisionError

    with pytest.raises(RuntimeError, match="applying transform") as error:
        CaseDataset(items_of(make_dataset(1)), Compose([broken]))[0]
    assert isinstance(error.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("full", [False, True])
def test_filling_finds_a_damaged_case_even_if_there_is_no_room_for_it(make_stored, memory, monkeypatch, full):
    memory(0 if full else 1)
    if full:  # the disk has room for one case only
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=3 * CASE_BYTES))
    data = make_stored(**({} if full else {"cache_dir": None}))
    bad = Path(data.data[2]["image"][1])
    bad.write_bytes(bad.read_bytes()[:-200])
    with pytest.raises(ValueError, match=f"{bad}"):
        data.fill(workers=1, progress=False)


def one_case(case_id: str) -> dict[str, str]:
    return {"image": case_id, "case_id": case_id}


def test_looking_ahead_prepares_each_case_once():
    prepared: list[str] = []

    def prepare(item: dict) -> dict:
        prepared.append(item["case_id"])
        return {"image": torch.ones(1, 2, 2, 2), "case_id": item["case_id"]}

    data = CaseDataset([one_case(name) for name in "abcd"], [prepare], ahead=True)
    assert [data[i]["case_id"] for i in range(4)] == list("abcd")
    assert prepared == list("abcd")
    assert data[1]["case_id"] == "b", "cases can be taken out of order too"


def test_an_error_while_looking_ahead_is_raised_for_its_own_case():
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
    """Make an image whose channel c is c + 1 everywhere but in a corner."""
    image = torch.ones(len(item["image"]), 2, 2, 2) * torch.arange(1, len(item["image"]) + 1)[:, None, None, None]
    image[:, 0, 0, 0] = 0
    return {**item, "image": image}


def sample(names: Sequence[str], **options) -> list[float]:
    """Return the value of each channel of a case with these sequences."""
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
def test_channels_are_bound_by_file_name_and_absent_ones_are_zeros(names, values):
    assert sample(names, modalities=MODALITIES, absent_sequences=True) == values


def test_without_modalities_the_channels_are_unchanged():
    assert sample(("flair", "t1")) == [1, 2]


def test_files_with_unknown_names_are_unchanged():
    assert sample(("a", "b"), modalities=MODALITIES, absent_sequences=True) == [1, 2]


def test_an_absent_sequence_is_refused_by_default():
    with pytest.raises(DataError) as error:
        sample(("flair",), modalities=MODALITIES)
    assert (error.value.subject, error.value.problem, error.value.found) == ("a", "missing t1, t1ce, t2", "flair")


def test_a_sequence_of_zeros_counts_as_absent_where_that_is_allowed(make_dataset, write_nifti):
    item = items_of(make_dataset(1))[0]
    write_nifti(Path(item["image"][2]), np.zeros((16, 16, 12), np.int16))
    with pytest.raises(DataError) as error:
        CaseDataset([item], pipeline(random=False), modalities=MODALITIES)[0]
    assert "--modalities" in error.value.advice
    without = {**item, "image": [path for i, path in enumerate(item["image"]) if i != 2]}
    options = {"modalities": MODALITIES, "absent_sequences": True}
    images = [CaseDataset([each], pipeline(random=False), **options)[0]["image"] for each in (item, without)]
    assert torch.equal(*images)


def test_absent_channels_are_not_cached():
    item = {"case_id": "a", "image": ["a_t2.nii.gz"]}
    data = CaseDataset([item], [plain], cache=1.0, modalities=("t1", "t2"), absent_sequences=True)
    assert [data[i]["image"].shape[0] for i in (0, 0, (2, 0))] == [2, 2, 2]
    assert data._prepared[0]["image"].shape[0] == 1


@pytest.mark.parametrize("kept", ["in memory", "on disk", "nowhere"])
def test_a_sample_is_augmented_on_the_device_and_cached_in_main_memory(make_dataset, kept, tmp_path, memory):
    """``meta`` stands for a GPU: it has no values, but is available on every machine."""
    memory(9 if kept == "in memory" else 0)
    keys, folder, seen = ["image", "label"], tmp_path / "cache", []
    load = LoadImaged(keys, image_only=True, ensure_channel_first=True)
    transforms = [load, EnsureTyped(keys, track_meta=False), SeeDevices(seen)]
    options = {} if kept == "nowhere" else {"cache": 1.0, "cache_dir": folder, "recipe": "load"}
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
    """Record the devices of the tensors."""

    def __init__(self, seen: list[set[str]]) -> None:
        super().__init__()
        self.seen = seen

    def __call__(self, data: dict) -> dict:
        self.seen.append({data[key].device.type for key in ("image", "label")})
        return data


# --- the size of the data set


def test_excluded_cases_are_no_longer_part_of_the_data_set(make):
    data = make(cache=1.0)
    first, second, third = (data[1, index]["case_id"] for index in range(3))
    data.exclude({second})
    assert [data[1, index]["case_id"] for index in range(len(data))] == [first, third]


def test_the_expected_size_is_that_of_the_brains_bounding_boxes(make, monkeypatch):
    monkeypatch.setattr(datasets, "RESERVED_BYTES", 0)
    data = make(cache=0.5)
    assert data.expected_shape() == (12, 12, 9)  # 16 x 16 x 12 voxels, each side times the cube root of 0.4
    assert data.expected_bytes(free=10**9) == 3 * (12 * 12 * 9) * 4 * (4 + 1)
    assert data.expected_bytes(free=1000) == 500, "no more than the cache may take"
    assert CaseDataset([], data.transform).expected_bytes(free=10**9) == 0
    assert CaseDataset([], data.transform).expected_shape() == datasets.brain_box(datasets.BRATS_SHAPE)
