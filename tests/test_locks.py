"""Who holds a folder, who waits for it, and what happens if a file system has no locks."""

import errno
import importlib
import os
import subprocess
import sys
import threading

import pytest

from mglib import locks
from mglib.locks import locked
from mglib.paths import ROOT

HOLD = (
    "import sys, time; from pathlib import Path; from mglib.locks import locked\n"
    "with locked(Path(sys.argv[1])):\n print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path):
    """Return a process that holds the folder `shared`."""
    line = [sys.executable, "-c", HOLD, str(tmp_path / "shared")]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_waits_until_the_first_is_gone_even_if_it_was_killed(tmp_path, holder, capsys):
    entered = threading.Event()

    def enter():
        with locked(tmp_path / "shared") as alone:
            assert alone
            entered.set()

    waiting = threading.Thread(target=enter)
    waiting.start()
    assert not entered.wait(0.5)
    assert "shared: another process is at work on it" in capsys.readouterr().out
    holder.kill()
    waiting.join(timeout=10)
    assert entered.is_set()


def test_who_does_not_wait_is_refused(tmp_path, holder):
    with pytest.raises(BlockingIOError), locked(tmp_path / "shared", wait=False):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_the_work_goes_on_with_a_warning(tmp_path, monkeypatch, number):
    def refuse(*given):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    told = pytest.warns(RuntimeWarning, match="shared has no locks: run one process")
    with told, locked(tmp_path / "shared") as alone:
        assert not alone


def test_windows_is_told_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.delitem(sys.modules, "mglib.locks")
    with pytest.raises(ImportError, match="Linux and macOS, and on Windows inside WSL"):
        importlib.import_module("mglib.locks")
