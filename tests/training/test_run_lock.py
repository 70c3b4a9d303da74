"""The lock of a run's folder: held by one process, released when that process dies, and not required."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest

from brats3d.errors import UsageError
from brats3d.training.run_lock import LOCK_NAME, lock_run

HOLD = """
import os, sys, time
from pathlib import Path
from brats3d.training.run_lock import lock_run
with lock_run(Path(sys.argv[1])):
    if os.fork() == 0:  # as the loader's worker processes; running once it has printed
        print("locked", flush=True)
        time.sleep(30)
        os._exit(0)
    time.sleep(30)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_folder_is_locked_until_its_process_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
        begin = time.monotonic()
        with pytest.raises(UsageError) as caught, lock_run(tmp_path):
            pass
        assert time.monotonic() - begin < 1
        assert caught.value.subject == "output_dir" and str(holder.pid) in caught.value.problem
        holder.kill()
        holder.wait()
        with lock_run(tmp_path):  # at once, although a worker process is still there
            assert str(os.getpid()) in (tmp_path / LOCK_NAME).read_text()
    finally:
        os.killpg(holder.pid, signal.SIGKILL)


def test_a_folder_is_free_after_the_block(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock_run(tmp_path):
        raise ZeroDivisionError
    with lock_run(tmp_path):
        pass


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_a_warning_is_logged_and_the_run_goes_on(code: int, tmp_path: Path, monkeypatch, log) -> None:
    def flock(fd: int) -> bool:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("filelock._unix.lock_fd_nonblocking", flock)
    ran = False
    with lock_run(tmp_path):
        ran = True
    assert ran and [r.levelname for r in log.records] == ["WARNING"]
    assert not isinstance(filelock.FileLock(tmp_path / LOCK_NAME), filelock.SoftFileLock)
