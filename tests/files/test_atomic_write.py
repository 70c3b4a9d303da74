"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from brats3d.errors import UsageError
from brats3d.files.atomic_write import (
    LEFTOVER_SECONDS,
    DiskFullError,
    explain_full_disk,
    remove_leftovers,
    scratch_folder,
    whole_folder,
    writable_folder,
    write_whole,
)


def test_missing_parent_folders_are_created(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    assert write_whole(str(path), lambda file: file.write(b"new")) == path
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["disk full", "interrupt"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path, error, old):
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
        assert os.umask(mask) == mask  # unchanged
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_writable_folder_is_created_and_left_empty(tmp_path):
    folder = writable_folder(tmp_path / "a" / "b")
    assert folder.is_dir() and not list(folder.iterdir())


@pytest.mark.parametrize("below", ["", "runs"])
def test_a_folder_that_cannot_be_created_is_refused(tmp_path, below):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UsageError) as caught:
        writable_folder(file / below, "out")
    assert caught.value.subject == "out" and str(file / below) in caught.value.problem


def test_concurrent_writes_keep_the_umask(tmp_path):
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


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with whole_folder(tmp_path / "case") as hidden:
        (hidden / "file").write_bytes(b"content")
        assert not (tmp_path / "case").exists()
        assert hidden.name.startswith(".case.")
    assert [p.name for p in tmp_path.rglob("*")] == ["case", "file"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["disk full", "interrupt"])
def test_a_failed_folder_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)), whole_folder(tmp_path / "case") as hidden:
        (hidden / "file").write_bytes(b"half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_folders_with_the_same_name_is_kept(tmp_path):
    case = tmp_path / "case"
    with pytest.raises(FileExistsError, match=f"{case}: exists already"), whole_folder(case) as slow:
        (slow / "slow").touch()
        with whole_folder(case) as fast:
            (fast / "fast").touch()
    assert [p.name for p in tmp_path.rglob("*")] == ["case", "fast"]


def test_leftovers_are_removed_unless_their_process_may_be_running(tmp_path):
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


# --- a full disk


@pytest.fixture
def free(monkeypatch):
    """``free(count)``: pretend that every disk has this many bytes left."""

    def pretend(count):
        monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=count))

    return pretend


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=["disk", "quota"])
@pytest.mark.parametrize("hidden", [False, True], ids=["plain", "behind another error"])
def test_a_disk_that_fills_up_while_writing_keeps_the_old_file_and_explains_itself(tmp_path, free, number, hidden):
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
    text = f"{path}: {os.strerror(number)}, 0.0 MB are free; free some space and run the same command again"
    assert str(caught.value) == text
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("text", ["full", "full; it is late"])
def test_additional_text_appears_once_in_the_message(tmp_path, text):
    with pytest.raises(DiskFullError) as caught, explain_full_disk(tmp_path, "it is late"):
        raise DiskFullError(text)
    assert str(caught.value) == "full; it is late; free some space and run the same command again"


def test_other_errors_are_not_changed(tmp_path):
    with pytest.raises(PermissionError, match="not yours"), explain_full_disk(tmp_path):
        raise PermissionError(errno.EACCES, "not yours")
