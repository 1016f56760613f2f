"""Web pairs in webdataset shards, as img2dataset writes them (LAION, CC, SBU, and the small world's)."""

import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

from PIL import Image
from webdataset.gopen import gopen
from webdataset.shardlists import expand_urls
from webdataset.tariterators import group_by_keys

from mglib.data.pictures import ENDINGS, open_picture
from mglib.data.quarantine import Fault
from mglib.data.records import Caption, fit
from mglib.data.text import clean_caption
from mglib.errors import needed

PICTURES = tuple(ending[1:] for ending in ENDINGS)
APART = "the files of a sample stand together in a tar (`tar --sort=name`)"
Row = tuple[Image.Image, str]  # a picture in RGB and its cleaned caption
METADATA = re.compile(r"__[^/]*__($|/)")  # webdataset's names for what is not a sample


@dataclass(frozen=True)
class WebPair:
    """A picture, still encoded, and its raw caption."""

    shard: str
    key: str
    picture: bytes = field(repr=False)
    caption: str
    costs: ClassVar[int] = 1  # samples that it counts as, like `Fault.costs`

    def open(self) -> Image.Image:
        """Decode the picture; raises OSError naming the sample when it is broken."""
        try:
            return open_picture(self.picture)
        except OSError as error:
            raise OSError(
                f"Picture {self.key} of {self.shard} is broken: {error}. Build the data again, or remove the "
                "sample from its shard."
            ) from error


@dataclass(frozen=True)
class About:
    """The part of img2dataset's `.json` that is used."""

    caption: Caption


class StrictTarInfo(tarfile.TarInfo):
    """tarfile takes a broken or missing header for the end of the archive; here it is an error."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "StrictTarInfo":
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # its stubs lack it
            raise  # the block of zeros that ends a whole archive
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"the archive is broken or cut off: {error}") from error


def shards(folder: Path) -> list[Path]:
    """Return the tar files of a folder in order; raises FileNotFoundError when there are none."""
    files = sorted(file for file in folder.glob("*.tar") if not file.name.startswith("."))
    if not files:
        raise FileNotFoundError(
            f"There are no .tar shards in {folder}. Build the small world with `make reproduce "
            "NOTEBOOKS=01`, or put shards written by img2dataset there."
        )
    return files


def present(pattern: str) -> tuple[list[str], list[str]]:
    """Return the shards of a pattern such as "laion/{00000..10488}.tar", and the gaps before the last one.

    On disk these are the files that exist, whether fewer or more than the pattern names; URLs are all assumed
    to exist.
    """
    expected = list(expand_urls(pattern))
    form = re.fullmatch(r"(.*)\{(\d+)\.\.\d+\}(\.tar)", pattern)
    if not form or re.match(r"\w+:", pattern):
        return expected, []
    start, ending, digits = Path(form[1] + "x"), form[3], len(form[2])
    known = re.compile(rf"{re.escape(start.name[:-1])}(\d{{{digits},}}){re.escape(ending)}")
    names = (known.fullmatch(file.name) for file in start.parent.glob(f"*{ending}"))
    numbers = sorted(int(name[1]) for name in names if name and int(name[1]) >= int(form[2]))
    if not numbers:
        return expected, []
    gaps = sorted(set(range(int(form[2]), numbers[-1])) - set(numbers))
    there, absent = ([f"{form[1]}{one:0{digits}d}{ending}" for one in some] for some in (numbers, gaps))
    return there, absent


@contextmanager
def opened(url: str) -> Iterator[IO[bytes]]:
    """Open whatever webdataset opens; errors are raised on reading, and closing early is not one."""
    stream = gopen(url, "rb")
    try:
        yield stream
    finally:
        with suppress(OSError):
            stream.close()


def members(url: str, faults: list[Fault]) -> Iterator[dict[str, Any]]:
    """Yield the files in a shard as webdataset does; links, odd names and a broken end, which its own reader
    silently skips, go to `faults`.
    """
    names: set[tuple[str, str]] = set()
    try:
        with (
            opened(url) as stream,
            tarfile.open(fileobj=stream, mode="r|*", tarinfo=StrictTarInfo) as tar,
        ):
            for entry in tar:
                if entry.isdir() or METADATA.match(entry.name):
                    continue
                reason = oddity(entry, names)
                if reason:
                    faults.append(Fault(url, entry.name, reason, costs=0))
                    continue
                content = needed(tar.extractfile(entry), "a file").read()
                yield {"fname": entry.name, "data": content, "__url__": url}
                tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
    except Exception as error:  # tarfile raises almost any error on a broken archive
        faults.append(Fault(url, "", f"broken shard: {error or type(error).__name__}", costs=0))
    yield {}  # webdataset's end-of-shard marker


def key_and_ending(name: str) -> tuple[str, str] | tuple[None, None]:
    """Split a name at its last dot, since keys may contain dots (clip.0001.jpg); None for other names."""
    folder, _, base = name.rpartition("/")
    key, _, ending = base.rpartition(".")
    if not key or not ending or base.startswith("."):
        return None, None
    return f"{folder}/{key}" if folder else key, ending


def oddity(entry: tarfile.TarInfo, names: set[tuple[str, str]]) -> str | None:
    """Return what is wrong with a member of a shard, or None; `names` holds the names before it."""
    if not entry.isreg():
        return "a link or device, which no sample can be"
    key, extension = key_and_ending(entry.name)
    if key is None or extension is None or entry.name.startswith("/") or ".." in entry.name.split("/"):
        return "a name that no sample has (key.extension is expected)"
    if (key, extension.lower()) in names:
        return "this name came before in the shard"
    names.add((key, extension.lower()))
    return None


def read_shard(url: str) -> Iterator[WebPair | Fault]:
    """Yield a shard's pairs, pictures not decoded; `url` is a path or whatever webdataset opens."""
    faults: list[Fault] = []
    empty = True
    for sample in group_by_keys(members(url, faults), keys=key_and_ending):
        empty = False
        yield from faults
        faults.clear()
        yield to_pair(sample)
    if empty and not faults:
        faults.append(Fault(url, "", "the shard is empty", costs=0))
    yield from faults


def to_pair(sample: dict[str, Any]) -> WebPair | Fault:
    """Return a webdataset sample as a pair, or a fault with what it lacks."""
    url, key = sample["__url__"], sample["__key__"]
    picture = next((sample[ending] for ending in PICTURES if ending in sample), None)
    if picture is None:
        return Fault(url, key, f"no picture (.{', .'.join(PICTURES)}); {APART}")
    if "json" not in sample:
        return Fault(url, key, f"no caption: its .json is missing; {APART}")
    about = fit(About, sample["json"], url, key)
    return about if isinstance(about, Fault) else WebPair(url, key, picture, about.caption)


def read_shards(files: Iterable[Path]) -> Iterator[WebPair | Fault]:
    """Yield the pairs of several shards in order."""
    for file in files:
        yield from read_shard(str(file))


def decode(pair: WebPair | Fault) -> Row | Fault:
    """Return a pair's picture in RGB and its cleaned caption, or a fault with the reason."""
    if isinstance(pair, Fault):
        return pair
    caption = clean_caption(pair.caption)
    if not caption:
        return Fault(pair.shard, pair.key, "nothing is left of its caption after cleaning")
    try:
        return open_picture(pair.picture), caption
    except OSError as error:
        return Fault(pair.shard, pair.key, f"broken picture: {error}")


def decodable(files: Iterable[Path]) -> Iterator[WebPair | Fault]:
    """Yield the pairs of several shards that `decode` accepts, and a fault for each of the others."""
    for pair in read_shards(files):
        row = decode(pair)
        yield row if isinstance(row, Fault) else pair
