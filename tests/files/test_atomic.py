"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from brats3d.files.atomic import (
    LEFTOVER_SECONDS,
    DiskFullError,
    explain_full_disk,
    remove_leftovers,
    require_space,
    scratch_folder,
    whole_folder,
    writable_folder,
    write_whole,
)
from brats3d.files.nifti_writing import write_nifti


def test_a_file_appears_with_its_folders_and_its_path_comes_back(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    assert write_whole(str(path), lambda file: file.write(b"new")) == path
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["disk full", "interrupt"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_write_that_fails_half_way_leaves_what_was_there_and_nothing_else(tmp_path, error, old):
    path = tmp_path / "file.bin"
    if old:
        path.write_bytes(old)

    def fail(file):
        file.write(b"half")
        file.flush()
        raise error

    with pytest.raises(type(error)):
        write_whole(path, fail)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([old] if old else [])


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    write_whole(path, write)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)], ids=oct)
def test_permissions_follow_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        path = write_whole(tmp_path / "file.bin", lambda file: file.write(b"x"))
        assert os.umask(mask) == mask  # looking at it did not change it
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    folder = writable_folder(tmp_path / "a" / "b")
    assert folder.is_dir() and not list(folder.iterdir())


@pytest.mark.parametrize("below", ["", "runs"])
def test_a_folder_that_cannot_be_is_refused_with_the_systems_reason(tmp_path, below):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(
        ValueError, match=rf"^out: cannot write to {file / below} \(.+\); expected a folder that you may"
    ):
        writable_folder(file / below, "out")


def test_threads_that_write_at_once_leave_the_umask_alone(tmp_path):
    before = os.umask(0o027)
    os.umask(0o027)
    try:
        with ThreadPoolExecutor(8) as pool:
            paths = list(pool.map(lambda n: write_whole(tmp_path / str(n), lambda f: f.write(b"x")), range(200)))
        assert {path.stat().st_mode & 0o777 for path in paths} == {0o640}
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


# --- folders


def test_a_folder_appears_when_it_is_whole(tmp_path):
    with whole_folder(tmp_path / "case") as hidden:
        (hidden / "file").write_bytes(b"content")
        assert not (tmp_path / "case").exists()
        assert hidden.name.startswith(".case.")
    assert [p.name for p in tmp_path.rglob("*")] == ["case", "file"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["disk full", "interrupt"])
def test_a_folder_that_fails_half_way_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)), whole_folder(tmp_path / "case") as hidden:
        (hidden / "file").write_bytes(b"half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_make_one_folder_the_first_one_stays(tmp_path):
    case = tmp_path / "case"
    with pytest.raises(FileExistsError, match=f"{case}: is there already"), whole_folder(case) as slow:
        (slow / "slow").touch()
        with whole_folder(case) as fast:
            (fast / "fast").touch()
    assert [p.name for p in tmp_path.rglob("*")] == ["case", "fast"]


def test_leftovers_are_removed_where_nobody_can_be_at_work_in_them(tmp_path):
    with scratch_folder(tmp_path / "case") as hidden:
        own = hidden.name
    host = own.split(".")[2].split("-")[0]
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = {
        "own": own,
        "ended": f".case.{host}-{ended.pid}-0123456789ab.part",
        "live": f".case.{host}-{os.getppid()}-0123456789ab.part",
        "elsewhere": f".case.another-{ended.pid}-0123456789ab.part",
        "long ago": f".other.another-{ended.pid}-0123456789ab.part",
        "somebody's": ".case.part",
    }
    for name in names.values():
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    old = time.time() - LEFTOVER_SECONDS - 60
    for path in (tmp_path / names["long ago"] / "file", tmp_path / names["long ago"]):
        os.utime(path, (old, old))
    remove_leftovers(tmp_path)
    assert {name for name, path in names.items() if (tmp_path / path).exists()} == {"live", "elsewhere", "somebody's"}


def test_a_nifti_file_says_where_its_voxels_are_in_both_ways(tmp_path):
    affine = np.array([[-1.0, 0, 0, 3], [0, -1, 0, 4], [0, 0, 2, 0], [0, 0, 0, 1]])
    write_nifti(tmp_path / "a.nii.gz", np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine)
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == np.int16 and image.header.get_xyzt_units()[0] == "mm"
    assert (image.header["sform_code"], image.header["qform_code"]) == (1, 1)
    np.testing.assert_array_equal(image.header.get_sform(), affine)
    np.testing.assert_allclose(image.header.get_qform(), affine)


# --- a full disk


@pytest.fixture
def free(monkeypatch):
    """``free(count)``: so many bytes are free on every disk."""

    def say(count):
        monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=count))

    return say


def test_a_file_that_the_disk_has_no_room_for_is_refused_before_it_is_written(tmp_path, free):
    free(12_000_000)
    require_space(tmp_path / "last.pt", 12_000_000)
    with pytest.raises(DiskFullError) as caught:
        require_space(tmp_path / "run" / "last.pt", 60_000_000, "the last good checkpoint is of epoch 7")
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value) == (
        f"{tmp_path}/run: 60 MB are needed for last.pt, 12 MB are free; the last good checkpoint is of epoch 7; "
        "make room, and give the same command again"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=["disk", "quota"])
@pytest.mark.parametrize("hidden", [False, True], ids=["plain", "behind another error"])
def test_a_disk_that_fills_up_half_way_leaves_the_old_file_and_says_so_in_one_line(tmp_path, free, number, hidden):
    free(4096)
    path = write_whole(tmp_path / "file.bin", lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half")
        try:
            raise OSError(number, os.strerror(number))
        except OSError:
            if hidden:  # as torch.save does
                raise RuntimeError("unexpected pos 704 vs 598") from None
            raise

    with pytest.raises(DiskFullError) as caught:
        write_whole(path, fail)
    said = f"{path}: {os.strerror(number)}, 0.0 MB are free; make room, and give the same command again"
    assert str(caught.value) == said
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_what_else_is_to_be_said_is_said_once(tmp_path, free):
    free(0)
    with pytest.raises(DiskFullError) as caught, explain_full_disk(tmp_path, "it is late"):
        require_space(tmp_path / "a", 1, "it is late")
    assert str(caught.value).count("it is late") == 1
    with pytest.raises(DiskFullError, match="free; it is late; make room"), explain_full_disk(tmp_path, "it is late"):
        require_space(tmp_path / "a", 1)


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError, match="not yours"), explain_full_disk(tmp_path):
        raise PermissionError(errno.EACCES, "not yours")
