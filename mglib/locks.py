"""Locks on folders, so that concurrent processes never corrupt what they share."""

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError as error:
    raise ImportError("mglib runs on Linux and macOS, and on Windows inside WSL.") from error

# The errors of a file system without locks (some network and container mounts).
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Lock a folder, which need not exist yet; the system releases it when the process ends, however it ends.

    If another process holds it, this one waits, or with `wait=False` raises BlockingIOError. Yields whether
    the lock is real: if the file system has none, this only warns. Not to be nested for one folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            real = True
        except BlockingIOError:
            if not wait:
                raise
            print(f"{folder.name}: another process is at work on it, waiting for it to end ...", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
            real = True
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            warnings.warn(
                f"The file system of {folder.name} has no locks: run one process at a time there.",
                RuntimeWarning,
                stacklevel=3,
            )
            real = False
        yield real
