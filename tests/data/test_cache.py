"""Prepared cases on disk: never stale, never damaged, and never a reason for a run to fail."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import PersistentDataset
from monai.transforms import LoadImaged, ScaleIntensityRanged

from brats3d.data import cache
from brats3d.data.cache import DiskCache

LOAD = LoadImaged("image", image_only=True, ensure_channel_first=True)


@pytest.fixture
def item(tmp_path: Path) -> dict[str, Any]:
    """An item whose files are not images: only their names, sizes and times matter."""
    for name in ("a_t1.nii.gz", "a_t2.nii.gz", "a_seg.nii.gz"):
        (tmp_path / name).write_bytes(b"content")
    return {
        "image": [str(tmp_path / "a_t1.nii.gz"), str(tmp_path / "a_t2.nii.gz")],
        "label": str(tmp_path / "a_seg.nii.gz"),
        "case_id": "a",
    }


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., DiskCache]:
    """``make(recipe="load", transforms=[LOAD], fraction=0.5)``: a cache in one folder."""
    return lambda recipe="load", transforms=(LOAD,), fraction=0.5: DiskCache(
        tmp_path / "cache", recipe, transforms, fraction
    )


def put(store: DiskCache, item: dict[str, Any], content: dict[str, Any] | None = None) -> Path:
    entry = store.entry(item)
    assert entry is not None
    store.write(entry, item, {"image": torch.arange(24.0).reshape(2, 3, 4)} if content is None else content)
    return entry


def entries(tmp_path: Path) -> list[Path]:
    return sorted(p for p in (tmp_path / "cache").rglob("*") if p.is_file())


def test_a_case_is_read_as_it_was_written(make, item):
    entry = put(make(), item)
    result = make().read(entry)
    assert result is not None and torch.equal(result["image"], torch.arange(24.0).reshape(2, 3, 4))


def test_nothing_is_created_before_the_first_case(make, item, tmp_path):
    store = make()
    assert store.read(store.entry(item)) is None and not store.contains(item)
    assert not (tmp_path / "cache").exists()


# --- never stale


def test_a_changed_file_has_another_entry_which_replaces_the_old_one(make, item, tmp_path):
    old, times = put(make(), item), Path(item["image"][1]).stat()
    Path(item["image"][1]).write_bytes(b"CONTENT")  # same size, and the same mtime
    os.utime(item["image"][1], ns=(times.st_atime_ns, times.st_mtime_ns))
    store = make()
    assert not store.contains(item)
    new = put(store, item)
    assert entries(tmp_path) == [new] != [old]


def test_different_items_have_different_entries(make, item, tmp_path):
    other = {**item, "image": item["image"][::-1]}
    paths = {put(make(), item), put(make(), other), put(make(), {**item, "label_convention": "brats2023"})}
    assert set(entries(tmp_path)) == paths and len(paths) == 3


def test_a_relative_and_an_absolute_path_have_one_entry(make, item, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = {**item, "image": [Path(path).name for path in item["image"]], "label": Path("a_seg.nii.gz")}
    assert make().entry(relative) == make().entry(item)


def test_a_file_that_changes_while_it_is_read_leaves_no_entry(make, item, tmp_path):
    store = make()
    entry = store.entry(item)
    Path(item["label"]).write_bytes(b"longer content")
    store.write(entry, item, {})
    assert entries(tmp_path) == []


def test_an_item_with_a_missing_file_or_an_unknown_object_has_no_entry(make, item):
    assert make().entry({**item, "other": object()}) is None
    Path(item["label"]).unlink()
    assert make().entry(item) is None and not make().contains(item)


def test_another_recipe_has_another_folder(make):
    assert make("load, scale").folder != make().folder == make().folder


@pytest.mark.parametrize("library", ["monai", "torch", "numpy", "nibabel"])
def test_another_version_has_another_folder(make, monkeypatch, library):
    before = make().folder
    monkeypatch.setattr(f"{library}.__version__", "0.0.1")
    cache._versions.cache_clear()
    try:
        assert make().folder != before
    finally:
        cache._versions.cache_clear()


def test_a_change_in_any_module_of_brats3d_has_another_folder(monkeypatch, tmp_path):
    package = tmp_path / "package"
    shutil.copytree(Path(cache.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    before = cache._versions()
    monkeypatch.setattr(cache, "__file__", str(package / "data" / "cache.py"))
    assert cache._versions.__wrapped__() == before
    for changed in ("labels.py", "data/label_transforms.py", "networks/loss.py"):
        earlier = cache._versions.__wrapped__()
        with (package / changed).open("a") as file:
            file.write("\n")
        assert cache._versions.__wrapped__() != earlier


def test_a_change_in_the_module_of_a_users_transform_has_another_folder(make, monkeypatch, tmp_path):
    source, module = tmp_path / "steps_.py", ModuleType("steps_")
    source.write_text("def double(data):\n    return data\n")
    module.__file__ = str(source)
    exec(source.read_text(), vars(module))
    monkeypatch.setitem(sys.modules, "steps_", module)
    before = make(transforms=[LOAD, module.double]).folder
    assert make(transforms=[LOAD, module.double]).folder == before != make().folder
    source.write_text("def double(data):\n    return 2 * data\n")
    assert make(transforms=[LOAD, module.double]).folder != before


# --- never damaged


def test_a_damaged_entry_is_not_used_and_can_be_written_again(make, item):
    store = make()
    entry = put(store, item)
    entry.write_bytes(entry.read_bytes()[:-1])
    assert store.read(entry) is None and store.contains(item)
    put(store, item)
    assert store.read(entry) is not None


def test_a_folder_or_a_pipe_in_the_place_of_an_entry_is_not_opened(make, item):
    store = make()
    entry = store.entry(item)
    entry.mkdir(parents=True)
    assert store.read(entry) is None
    entry.rmdir()
    os.mkfifo(entry)
    assert store.read(entry) is None


def test_runs_that_write_one_entry_at_the_same_time_leave_one_whole_entry(make, item, tmp_path):
    result: list[bool] = []

    def run(store: DiskCache) -> None:
        result.extend(store.read(put(store, item)) is not None for _ in range(10))

    threads = [threading.Thread(target=run, args=(make(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(result) and len(result) == 40
    assert len(entries(tmp_path)) == 1


# --- never a reason to fail


def test_a_value_that_cannot_be_stored_stops_writing_with_one_message(make, item, log, tmp_path):
    store = make()
    for _ in range(2):
        put(store, item, {"image": object()})
    assert entries(tmp_path) == [] and not store.writes
    assert [r.levelname for r in log.records] == ["INFO"] and "a object cannot be stored" in log.text


def test_a_folder_that_cannot_be_written_logs_one_warning(make, item, log, tmp_path):
    (tmp_path / "cache").write_text("a file in the place of the folder")
    store = make()
    for _ in range(3):
        put(store, item)
    assert not store.writes
    assert [r.levelname for r in log.records] == ["WARNING"]


def test_a_full_disk_leaves_nothing_behind_and_existing_entries_are_still_read(make, item, log, monkeypatch, tmp_path):
    store = make()
    entry = put(store, item)

    def full(path: Path, write: Callable) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "write_whole", full)
    put(store, item)
    assert "No space left on device" in log.text and not store.writes
    assert entries(tmp_path) == [entry] and store.read(entry) is not None


def test_no_more_than_the_fraction_of_the_free_disk_is_filled(make, item, log, monkeypatch, tmp_path):
    size = put(make(), item).stat().st_size
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5 * size))
    store = make()
    for name in "bcd":
        put(store, {**item, "case_id": name})
    assert len(entries(tmp_path)) == 1 + 2
    assert f"delete {tmp_path / 'cache'}" in log.text


def test_existing_entries_of_any_recipe_count_towards_the_fraction(make, item, monkeypatch, tmp_path):
    size = put(make(), item).stat().st_size
    for name in "bcdefgh":  # each is a run of its own; half of (5 free + 1 used) is three entries
        free = 6 * size - sum(path.stat().st_size for path in entries(tmp_path))
        monkeypatch.setattr("shutil.disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        put(make(name), {**item, "case_id": name})
    assert len(entries(tmp_path)) == 3


def test_an_inaccessible_entry_is_not_used(make, item, monkeypatch):
    store = make()
    entry = put(store, item)
    real = os.stat

    def refuse(path: object, *args: object, **kwargs: object) -> os.stat_result:
        if Path(str(path)) == entry:
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", refuse)
    assert not store.contains(item) and store.read(entry) is None


def test_old_temporary_files_of_killed_processes_are_removed(make, item):
    entry = put(make(), item)
    old, young = (entry.with_name(f".{name}.tmp") for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    put(make(), item)
    assert young.exists() and not old.exists()


# --- plain MONAI, for comparison


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
