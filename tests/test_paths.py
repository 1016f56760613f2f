"""Files and folders are written whole or not at all."""

import errno

import pytest

from mglib.paths import new_folder


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), RuntimeError("Io: No space left on device (os error 28)")]
)
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, error):
    with pytest.raises(OSError, match=r"The disk is full: .*Free some"), new_folder(tmp_path / "out"):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_is_whole_or_not_there(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out") as built:
        (built / "half").write_text("h")
        raise RuntimeError("killed")
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "out") as built:
        (built / "whole").write_text("w")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(FileExistsError, match="exists already"), new_folder(tmp_path / "out"):
        pass
