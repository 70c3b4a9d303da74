"""Prepared cases on disk: never stale, never damaged, never pickled, never in the way."""

from __future__ import annotations

import collections
import functools
import importlib
import inspect
import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from monai.data import MetaTensor, PersistentDataset
from monai.transforms import CropForegroundd, LoadImaged, NormalizeIntensityd, ScaleIntensityRanged

from brats3d.data import cache as cache, fingerprints as fingerprint_module
from brats3d.data.cache import DiskCache
from brats3d.data.fingerprints import fingerprint

LOAD = LoadImaged("image", image_only=True, ensure_channel_first=True)


class Times:
    """A transform that is not MONAI's."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, data: dict) -> dict:
        return data


class Words(list):
    """A list that is more than one."""


class Table(dict):
    """A dict with an attribute."""


class Number(float):
    """A float of another kind."""


class Late(random.Random):
    """Its state is C's."""


class Hidden:
    """A slot that nobody finds under its name."""

    __slots__ = ("factor",)


Hidden.factor = None


class Private:
    __slots__ = ("__factor",)

    def __init__(self, factor: float) -> None:
        self.__factor = factor


def logged(function: Callable) -> Callable:
    @functools.wraps(function)
    def wrapper(data: dict) -> dict:
        return function(data)

    return wrapper


@logged
def decorated(data: dict) -> dict:
    return data


class Slotted:
    __slots__ = ("factor",)

    def __init__(self, factor: float) -> None:
        self.factor = factor


@pytest.fixture
def item(tmp_path: Path) -> dict[str, Any]:
    """An item whose files hold anything at all: only their names, sizes and times count."""
    for name in ("a_t1.nii.gz", "a_t2.nii.gz", "a_seg.nii.gz"):
        (tmp_path / name).write_bytes(b"content")
    return {
        "image": [str(tmp_path / "a_t1.nii.gz"), str(tmp_path / "a_t2.nii.gz")],
        "label": str(tmp_path / "a_seg.nii.gz"),
        "case_id": "a",
    }


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., DiskCache]:
    """``make(transforms=[LOAD], share=0.5)``: a cache in one folder."""
    return lambda transforms=(LOAD,), share=0.5: DiskCache(tmp_path / "cache", transforms, share)


def prepared() -> dict[str, Any]:
    """Everything that a deterministic pipeline may leave."""
    image = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(5, 4, 3, 2).permute(3, 2, 1, 0)
    meta = {
        "affine": torch.diag(torch.tensor([-1.0, 1, 2, 1], dtype=torch.float64)),
        "filename_or_obj": "a_t1.nii.gz",
        "pixdim": np.array([1, 2], np.float32),
        "db_name": np.array(b"", "S10"),
        "scl_slope": np.array(np.nan, np.float32),
        "original_channel_dim": float("nan"),
    }
    return {
        "image": MetaTensor(image, meta=meta),
        "label": torch.tensor([[0, 1], [2, 4]], dtype=torch.uint8),
        "half": torch.tensor(1.5, dtype=torch.bfloat16),
        "empty": torch.empty(0, 3),
        "start": np.array([1, 2, 3]),
        "scale": np.float64(0.1),
        "case_id": "a",
        "more": {"pair": (1, None), "list": [True, 2.5]},
    }


def put(store: DiskCache, item: dict[str, Any], content: dict[str, Any] | None = None) -> Path:
    entry = store.entry(item)
    assert entry is not None
    store.write(entry, item, prepared() if content is None else content)
    return entry


def entries(tmp_path: Path) -> list[Path]:
    return sorted(p for p in (tmp_path / "cache").rglob("*") if p.is_file())


# --- what is kept


def test_what_is_read_is_what_was_written_to_the_last_bit(make, item):
    entry, expected = put(make(), item), prepared()
    found = make().read(entry)
    assert found is not None and list(found) == list(expected)
    for key in ("image", "label", "half", "empty"):
        assert type(found[key]) is type(expected[key]) and found[key].dtype == expected[key].dtype
        assert torch.equal(found[key], expected[key]) and found[key].stride() == expected[key].stride()
    assert found["start"].dtype == np.int64 and found["start"].tolist() == [1, 2, 3]
    assert type(found["scale"]) is np.float64 and found["scale"] == 0.1
    assert found["more"] == expected["more"]
    assert found["image"].applied_operations == []
    meta = found["image"].meta
    assert list(meta) == list(expected["image"].meta)
    for key, value in expected["image"].meta.items():
        np.testing.assert_array_equal(meta[key], value)
        assert type(meta[key]) is type(value) or key == "space"


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, np.array([None]), torch.ones(1, requires_grad=True), {1: 2}, torch.eye(2).to_sparse()],
    ids=type,
)
def test_what_cannot_be_written_exactly_is_not_written(make, item, log, value, tmp_path):
    store = make()
    put(store, item, {"image": value})
    put(store, item, {"image": value})
    assert entries(tmp_path) == [] and not store.writes
    assert log.text.count("no more prepared cases are kept on disk: a: ") == 1


def test_nothing_is_made_before_the_first_case(make, item, tmp_path):
    store = make()
    assert store.read(store.entry(item)) is None and not store.holds(item)
    assert not (tmp_path / "cache").exists()


# --- fresh by construction


def test_a_changed_file_is_another_entry_and_the_old_one_goes(make, item, tmp_path):
    old, times = put(make(), item), Path(item["image"][1]).stat()
    Path(item["image"][1]).write_bytes(b"CONTENT")  # of the same size, and as old as before
    os.utime(item["image"][1], ns=(times.st_atime_ns, times.st_mtime_ns))
    store = make()
    assert not store.holds(item)
    new = put(store, item)
    assert entries(tmp_path) == [new] != [old]


def test_an_entry_of_another_data_set_stays_where_a_case_has_the_same_name(make, item, tmp_path):
    other = {**item, "image": item["image"][::-1]}
    paths = {put(make(), item), put(make(), other), put(make(), {**item, "label_convention": "brats2023"})}
    assert set(entries(tmp_path)) == paths and len(paths) == 3


def test_a_file_that_changes_while_it_is_read_leaves_no_entry(make, item, tmp_path):
    store = make()
    entry = store.entry(item)
    Path(item["label"]).write_bytes(b"longer content")
    store.write(entry, item, prepared())
    assert entries(tmp_path) == []


def test_a_missing_file_has_no_entry(make, item):
    Path(item["label"]).unlink()
    assert make().entry(item) is None and not make().holds(item)


@pytest.mark.parametrize(
    "transforms",
    [
        [LOAD, NormalizeIntensityd("image", nonzero=True)],
        [LOAD, NormalizeIntensityd("image", nonzero=False)],
        [NormalizeIntensityd("image", nonzero=False), LOAD],
        [LOAD, ScaleIntensityRanged("image", a_min=0, a_max=1)],
        [LOAD, CropForegroundd("image", "image", margin=2)],
        [LOAD, Times(2)],
        [LOAD, Times(2.0)],
        [LOAD, Slotted(3)],
        [LOAD, Slotted(4)],
        [LOAD, Private(3)],
        [LOAD, Private(4)],
        [LOAD, inspect.isclass],
        [LOAD, functools.partial(inspect.isclass, 1)],
        [LOAD, Times(2).__call__],
    ],
)
def test_other_transforms_have_another_folder(make, transforms):
    assert make(transforms).folder not in (None, make().folder)


def test_no_two_of_many_values_share_a_fingerprint():
    values = [0, 0.0, False, None, "0", b"0", (0,), [0], {0}, {0: 0}, {"0": 0}, np.zeros(1), np.zeros(1, np.float32)]
    values += [np.zeros((1, 1)), torch.zeros(1), torch.float32, torch.float16, Path("0"), np.float32(0), Times(0)]
    assert len({fingerprint(value) for value in values}) == len(values)


def test_private_slots_count():
    assert fingerprint(Private(3)) != fingerprint(Private(4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.complex64, torch.uint8], ids=str)
def test_tensors_of_every_kind_are_told_apart_by_their_values(dtype):
    one, other = torch.tensor([[0, 1], [1, 1]]).to(dtype), torch.tensor([[0, 1], [0, 1]]).to(dtype)
    assert fingerprint(one) == fingerprint(one.clone()) != fingerprint(other) != fingerprint(other.T)


def test_tensors_that_require_a_gradient_and_their_meta_count():
    assert fingerprint(torch.ones(2, requires_grad=True)) != fingerprint(torch.zeros(2, requires_grad=True))
    assert fingerprint(torch.nn.Parameter(torch.ones(2))) == fingerprint(torch.nn.Parameter(torch.ones(2)))
    a, b = (MetaTensor(torch.ones(2), meta={"x": x}) for x in (1, 2))
    assert fingerprint(a) == fingerprint(a.clone()) != fingerprint(b)


def package_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: dict[str, str]) -> Callable[[], str]:
    """Writes modules that can be imported; a function that gives the fingerprint of ``steps_.double`` as it is now."""
    for name, source in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    tops = {name.split("/")[0].removesuffix(".py") for name in sources}

    def of_now() -> str:
        for name in [name for name in sys.modules if name.split(".")[0] in tops]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        fingerprint_module._code_digest.cache_clear()
        return fingerprint(importlib.import_module("steps_").double)

    return of_now


@pytest.mark.parametrize("changed", ["steps_.py", "helper_.py", "more_/deep.py"])
def test_a_change_in_what_a_transforms_module_imports_is_noticed(tmp_path, monkeypatch, changed):
    sources = {
        "steps_.py": "import numpy\nfrom helper_ import twice\ndef double(data):\n    return twice(data)\n",
        "helper_.py": "import more_\ndef twice(data):\n    return 2 * data\n",
        "more_/__init__.py": "from . import deep\n",
        "more_/deep.py": "FACTOR = 2\n",
    }
    find = package_folder(tmp_path, monkeypatch, sources)
    before = find()
    assert find() == before
    with (tmp_path / changed).open("a", encoding="utf-8") as file:
        file.write("# another: ä\n")
    assert find() != before


def test_an_installed_package_is_known_by_its_version(monkeypatch):
    before = fingerprint(psutil.virtual_memory)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")
    fingerprint_module._code_digest.cache_clear()
    assert fingerprint(psutil.virtual_memory) != before
    fingerprint_module._code_digest.cache_clear()


@pytest.mark.parametrize("part", ["monai", "torch", "numpy", "nibabel"])
def test_another_version_has_another_folder(make, monkeypatch, part):
    before = make().folder
    monkeypatch.setattr(f"{part}.__version__", "0.0.1")
    fingerprint_module.versions.cache_clear()
    try:
        assert make().folder != before
    finally:
        fingerprint_module.versions.cache_clear()


def test_a_change_in_brats3ds_own_code_has_another_folder(make, monkeypatch, tmp_path):
    before = fingerprint_module.versions()
    package = tmp_path / "package"
    shutil.copytree(Path(fingerprint_module.__file__).parents[1], package)
    monkeypatch.setattr(fingerprint_module, "__file__", str(package / "data" / "fingerprints.py"))
    assert fingerprint_module.versions.__wrapped__() == before
    for changed in ("labels.py", "data/transforms.py", "networks/loss.py"):
        earlier = fingerprint_module.versions.__wrapped__()
        with (package / changed).open("a") as file:
            file.write("\n")
        assert fingerprint_module.versions.__wrapped__() != earlier


def test_every_process_finds_the_same_folder():
    program = (
        "from monai.transforms import *; from brats3d.data.cache import DiskCache\n"
        "t = [LoadImaged(['image', 'label']), CropForegroundd(['image'], 'image', k_divisible=2)]\n"
        "print(DiskCache('/x', [*t, {'a', 'b', 'c', 'd'}]).folder)"
    )
    folders = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(folders) == 1 and "/x/" in folders.pop()


def circle() -> list:
    round_: list = []
    round_.append(round_)
    return round_


@pytest.mark.parametrize(
    ("transform", "reason"),
    [
        (lambda data: data, "<lambda> is not at the top of its module"),
        (np.random.RandomState(0), "RandomState"),  # what MONAI's random transforms hold
        (Times(circle()), "refers to itself"),
        (Times(threading.Lock()), "not made of Python"),
        (Times(Words([1])), "Words|list is not made of Python"),
        (Times(Table(a=1)), "Table is not made of Python"),
        (Times(Number(1)), "Number is not made of Python"),
        (Times(Late(1)), "Late is not made of Python"),
        (Times(collections.defaultdict(list)), "defaultdict is not made of Python"),
        (Times(object()), "object is not made of Python"),
        ({"a": "b"}.get, "dict.get is bound to a dict"),
        (re.compile("a").sub, "Pattern.sub is bound to a Pattern"),
        (decorated, "decorated is a function with a closure"),
        (Times(np.array([1, None])), "an array of objects"),
        (Times(Hidden()), "has slots that are hidden: factor"),
        (Times(torch.eye(2).to_sparse()), ""),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_transforms_that_cannot_be_told_apart_are_not_kept_and_that_is_said(
    make, item, log, tmp_path, transform, reason
):
    store = make([LOAD, transform])
    assert store.entry(item) is None and not store.holds(item) and not store.writes
    store.write(store.entry(item), item, prepared())
    assert entries(tmp_path) == []
    assert re.search(reason, log.text) and "prepared cases are not kept on disk" in log.text


# --- never damaged


def flip_bit(place: float) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        at = int(place * (len(content) - 1))
        return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]

    return damage


@pytest.mark.parametrize("place", np.linspace(0, 1, 41))
def test_one_flipped_bit_anywhere_is_noticed(make, item, place):
    store = make()
    entry = put(store, item)
    entry.write_bytes(flip_bit(place)(entry.read_bytes()))
    assert store.read(entry) is None
    put(store, item)
    assert store.read(entry) is not None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:10],
        lambda content: content[:40],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:16] + (2**62).to_bytes(8, "little") + content[24:],
        lambda content: pickle.dumps({"image": 1}),
        lambda content: b"\0" * len(content),
    ],
    ids=["empty", "magic cut", "header cut", "cut off", "too long", "huge header", "pickle", "zeros"],
)
def test_what_is_not_a_whole_entry_is_not_used_and_raises_nothing(make, item, damage):
    store = make()
    entry = put(store, item)
    entry.write_bytes(damage(entry.read_bytes()))
    assert store.read(entry) is None


def test_an_entry_under_another_ones_name_is_not_used(make, item):
    store = make()
    entry = put(store, item)
    os.utime(item["label"], ns=(1, 1))
    moved = store.entry(item)
    entry.rename(moved)
    assert store.read(moved) is None


def test_a_folder_or_a_pipe_in_an_entrys_place_is_not_opened(make, item, tmp_path):
    store = make()
    entry = store.entry(item)
    entry.mkdir(parents=True)
    assert store.read(entry) is None
    entry.rmdir()
    os.mkfifo(entry)
    assert store.read(entry) is None


# --- never in the way


def test_a_disk_that_cannot_be_written_is_one_warning(make, item, log, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder would be")
    store = make()
    for _ in range(3):
        put(store, item)
    assert not store.writes
    assert [r.levelname for r in log.records] == ["WARNING"]
    assert "no more prepared cases are kept on disk" in log.text


def test_a_full_disk_leaves_nothing_behind_and_what_is_there_is_still_read(make, item, log, monkeypatch, tmp_path):
    store = make()
    entry = put(store, item)

    def full(path: Path, write: Callable) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "write_whole", full)
    put(store, item)
    assert "No space left on device" in log.text and not store.writes
    assert entries(tmp_path) == [entry] and store.read(entry) is not None


def test_no_more_than_the_share_of_the_free_disk_is_filled(make, item, monkeypatch, tmp_path):
    size = put(make(), item).stat().st_size
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5 * size))
    store = make()
    for name in "bcd":
        put(store, {**item, "case_id": name})
    assert len(entries(tmp_path)) == 1 + 2


def test_what_lies_there_already_counts_as_its_share(make, item, monkeypatch, tmp_path):
    size = put(make(), item).stat().st_size
    for name in "bcdefgh":  # each a run of its own; 0.5 of (5 + 1) cases are three in all, with what the disk has free
        free = 6 * size - sum(path.stat().st_size for path in entries(tmp_path))
        monkeypatch.setattr("shutil.disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        put(make([LOAD, Times(ord(name))]), {**item, "case_id": name})
    assert len(entries(tmp_path)) == 3


def test_what_nobody_has_opened_for_14_days_goes_and_nothing_else(make, item, tmp_path):
    root = tmp_path / "cache"
    young, opened, own = (put(make([LOAD, Times(n)]), item).parent for n in (1, 2, 3))
    names = ("0" * 20, "1" * 20, "2" * 20, "A" * 20, "3" * 19, "notes")
    old, strange, linked, upper, short, other = folders = [root / name for name in names]
    for folder in (old, strange, upper, short, other):
        folder.mkdir()
        (folder / "a.0.0.case").write_bytes(b"x")
    (old / ".a.case.0123.tmp").write_bytes(b"x")
    (strange / "thesis.txt").write_bytes(b"x")
    linked.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    long_ago = time.time() - cache.UNUSED_SECONDS - 60
    for folder in (old, strange, tmp_path / "elsewhere", upper, short, other, opened, own):
        os.utime(folder, (long_ago, long_ago))
    make([LOAD, Times(2)])  # opening alone keeps it
    assert {p for p in (young, opened, *folders) if p.exists()} == {young, opened, *folders} - {old}
    assert not own.exists() and (linked.is_symlink() and (tmp_path / "elsewhere").exists())


@pytest.mark.parametrize("error", [RuntimeError("no such bytes"), TypeError("no"), MemoryError()], ids=repr)
def test_what_fails_while_it_is_encoded_is_not_kept(make, item, monkeypatch, log, tmp_path, error):
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(cache, "_encode", fail)
    store = make()
    put(store, item)
    assert entries(tmp_path) == [] and not store.writes
    assert "no more prepared cases are kept on disk: a: " in log.text


def test_a_folder_that_cannot_be_searched_holds_nothing(make, item, monkeypatch):
    store = make()
    entry = put(store, item)
    real = os.stat

    def refuse(path: object, *args: object, **kwargs: object) -> os.stat_result:
        if Path(str(path)) == entry:
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", refuse)
    assert not store.holds(item) and store.read(entry) is None


def test_runs_that_write_one_entry_at_once_leave_one_whole_entry(make, item, tmp_path):
    stores = [make() for _ in range(4)]
    found: list[bool] = []

    def run(store: DiskCache) -> None:
        for _ in range(10):
            entry = put(store, item)
            found.append(store.read(entry) is not None)

    threads = [threading.Thread(target=run, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found) and len(found) == 40
    assert len(entries(tmp_path)) == 1


def test_what_a_killed_process_left_is_removed_after_a_while(make, item):
    entry = put(make(), item)
    old, young = (entry.with_name(f".{name}.tmp") for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    put(make(), item)
    assert young.exists() and not old.exists()


def test_the_header_is_plain_json(make, item):
    content = put(make(), item).read_bytes()
    size = int.from_bytes(content[16:24], "little")
    assert json.loads(content[28 : 28 + size])["values"]["dict"]["case_id"] == "a"


# --- what plain MONAI does


def test_monais_persistent_dataset_is_stale_after_a_changed_file_and_a_changed_transform(
    make_dataset, write_nifti, tmp_path
):
    path = make_dataset(1) / "BraTS20_Training_001" / "BraTS20_Training_001_t1.nii.gz"

    def first_value(*more: Callable) -> float:
        data = PersistentDataset([{"image": str(path)}], [LOAD, *more], cache_dir=tmp_path / "monai")
        return float(data[0]["image"].max())

    before = first_value()
    write_nifti(path, np.full((16, 16, 12), 7, np.int16))
    assert first_value() == before != 7
    assert first_value(ScaleIntensityRanged("image", a_min=0, a_max=7, b_min=0, b_max=1)) == before
