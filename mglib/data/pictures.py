"""The one way to open a picture: upright, in RGB, whole, or not at all."""

import io
import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import numpy
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from mglib.data.quarantine import Fault

T = TypeVar("T")

# Pillow also opens formats that run other programs (EPS); the data sets have only these.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
# Brands in the first box of AVIF and HEIC files.
AVIF = (b"avif", b"avis")
HEIF = (
    *(b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"),
    *(b"heif", b"mif1", b"mif2", b"msf1"),
)
OWN_SIDE = 1024  # pixels; enough for any encoder here
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".jfif")
RAW = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf")  # camera raw files
# `open_picture` explains how to convert the others.
KNOWN = (*ENDINGS, ".heic", ".heif", ".avif", ".jxl", *RAW)
JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL ")  # a bare codestream, or one in a container
ADDRESS = re.compile(r"(?i)(https?|ftp):/")
BITS, POLARITY = 258, 262  # TIFF tags: BitsPerSample; PhotometricInterpretation, 0 where white is 0


def open_picture(source: Path | bytes, *, own: bool = False) -> Image.Image:
    """Return a picture in RGB, oriented as its EXIF says, with transparency over white.

    16-bit grey is scaled to 8 bits; of several frames the first is taken. A user's `own` picture may have
    twice as many pixels as Pillow's limit, and a JPEG is shrunk while it is decoded. Raises FileNotFoundError
    for a missing file, and OSError with the reason for anything that is not a complete picture or is a
    decompression bomb.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError(
            "Some import has set PIL.ImageFile.LOAD_TRUNCATED_IMAGES (the official MiniGPT-4 code does), so "
            "that broken pictures would pass as good ones: set it to False."
        )
    if isinstance(source, Path) and source.suffix.lower() in RAW:  # Pillow would open the thumbnail of some
        raise OSError("it is a camera's raw picture, which is not read here: develop it into a JPEG first")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if own else "error", Image.DecompressionBombWarning)
            with Image.open(
                io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS
            ) as image:
                if own:  # does nothing if the format is not JPEG
                    image.draft("RGB", (OWN_SIDE, OWN_SIDE))
                return to_rgb(image)
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:  # Pillow's own message names an object in memory
        raise OSError(foreign(source)) from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        most = Image.MAX_IMAGE_PIXELS * (2 if own else 1)
        raise OSError(
            f"it has more than {most:,} pixels, the limit against decompression bombs: make it smaller"
        ) from error
    except Exception as error:  # decoders raise almost any error on broken files
        raise OSError(str(error) or type(error).__name__) from error


def foreign(source: Path | bytes) -> str:
    """Return what a file in none of the FORMATS is, as far as its first bytes tell."""
    head = source[:64] if isinstance(source, bytes) else source.open("rb").read(64)
    box = head[8 : max(12, int.from_bytes(head[:4]))] if head[4:8] == b"ftyp" else b""
    brands = {box[start : start + 4] for start in range(0, len(box), 4)}
    boxed = "AVIF" if brands & {*AVIF} else "HEIC" if brands & {*HEIF} else ""
    kind = "JXL" if head.startswith(JPEG_XL) else boxed
    if kind:
        return (
            f"it is {kind}, which is not read here: save it as JPEG first (`magick a.{kind.lower()} a.jpg`)"
        )
    return f"empty, or none of the formats {', '.join(FORMATS)}"


def files_below(folder: Path) -> list[Path]:
    """List the files in a folder and its subfolders, following links but visiting each folder once."""
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        found += [Path(place, name) for name in names]
    return sorted(found)


def hidden(file: Path, folder: Path) -> bool:
    """Return whether a file in a folder, or a folder on its path, is hidden, such as macOS's ._files."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def shown(folder: Path, *endings: str) -> list[Path]:
    """List the files below a folder that are not hidden; given endings, only those with one of them."""
    return [
        file
        for file in files_below(folder)
        if not hidden(file, folder)
        and (not endings or file.suffix.lower() in endings)
        and (file.is_file() or not file.exists())  # dead links are reported later, pipes ignored
    ]


def print_files_used(folder: Path, used: Iterable[Path]) -> None:
    """Print how many files of a folder, if it is one, were used, and how many of each kind were not."""
    if not folder.is_dir():
        return
    every = files_below(folder)
    real = cache(os.path.realpath)  # of folders only: a link to a file counts as a file
    known = {(real(file.parent), file.name) for file in used}
    others = [file for file in every if (real(file.parent), file.name) not in known]
    kinds = Counter(
        "hidden" if hidden(file, folder) else file.suffix.lower() or "without an ending" for file in others
    )
    rest = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    said = f"{len(every) - len(others):,} of the {len(every):,} files in {folder} are used"
    print(f"{said}; not used: {rest}." if rest else f"{said}.")


def pictures_below(folder: Path) -> list[Path]:
    """List the pictures in a folder and its subfolders."""
    return [file for file in shown(folder) if is_picture(file)]


def is_picture(file: Path) -> bool:
    """Return whether a file is a picture by its ending or else by its first bytes."""
    if file.suffix.lower() in KNOWN:
        return True
    try:
        with Image.open(file, formats=FORMATS):
            return True
    except (UnidentifiedImageError, FileNotFoundError):
        return False
    except Exception:  # a broken picture: `open_picture` reports what is wrong
        return True


def with_pictures(
    stream: Iterable[T | Fault], file: Callable[[T], Path | None], used: set[Path] | None = None
) -> Iterator[T | Fault]:
    """Open each record's picture, if it has one, and add it to `used`; if it cannot be opened, yield a fault
    instead of the record.
    """
    for item in stream:
        path = None if isinstance(item, Fault) else file(item)
        reason = path and picture_fault(path, os.path.isfile(path) and path.stat().st_mtime_ns)
        if path and used is not None and not reason:
            used.add(path)
        yield Fault(str(path), "", reason) if reason else item


@cache  # a picture is decoded once, until its file changes
def picture_fault(path: Path, changed: int) -> str | None:
    """Return why a picture cannot be used, or None; `changed` is its file's modification time."""
    try:
        open_picture(path)
    except FileNotFoundError:
        return "the picture is missing"
    except OSError as error:
        return f"broken picture: {error}"
    return None


def named_picture(folder: Path, name: str) -> Path:
    """Return the picture in a folder that is called `name`, with or without an ending, in capitals or not,
    accents composed or decomposed (as macOS unpacks them).

    If there is none, return the path that it would have as a JPEG.
    """
    stem, dot, ending = name.rpartition(".")
    bare = stem if dot + ending.lower() in ENDINGS else name
    endings = [form for ending in ENDINGS for form in (ending, ending.upper(), f".{ending[1:].title()}")]
    plain = [name, *(base + ending for base in dict.fromkeys((name, bare)) for ending in endings)]
    tried = [*plain, *(unicodedata.normalize(form, each) for form in ("NFC", "NFD") for each in plain)]
    found = (folder / each for each in tried if Path(each).suffix.lower() in ENDINGS)
    return next((path for path in found if os.path.isfile(path)), folder / f"{bare}.jpg")


def to_rgb(image: Image.Image) -> Image.Image:
    """Orient a picture as its EXIF says and convert it to RGB from any mode with a fixed range."""
    tags = getattr(image, "tag_v2", {})
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = in_eight_bits(image, bits=tags.get(BITS, (16,))[0], inverted=tags.get(POLARITY) == 0)
    if image.mode in ("I", "F"):
        raise OSError(f"mode {image.mode} has no fixed range from black to white")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def in_eight_bits(image: Image.Image, *, bits: int, inverted: bool) -> Image.Image:
    """Scale grey of 9 to 16 bits to 8; a grey that the file declares transparent stays transparent."""
    deep = numpy.asarray(image)
    flat = (deep >> (bits - 8)).astype(numpy.uint8)
    if inverted:  # Pillow itself inverts 8-bit grey only
        flat = 255 - flat
    clear = image.info.get("transparency")
    return Image.fromarray(
        flat if clear is None else numpy.dstack([flat, 255 * (deep != clear)]).astype("u1")
    )


# --- as users name them ---


def typed_path(text: str) -> Path:
    """Return the path that a user typed, quoted or dragged into the terminal; raises ValueError for a URL."""
    text = text.strip()
    if ADDRESS.match(text):
        raise ValueError(f"{text} is an address: download the picture and give the path of its file.")
    if text.lower().startswith("file://"):
        text = unquote(re.sub(r"(?i)^file://(localhost)?", "", text))
    if not os.path.exists(os.path.expanduser(text)):  # then quotes and backslashes are the shell's
        if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
            text = text[1:-1]
        else:
            text = re.sub(r"\\(.)", r"\1", text)
    return Path(os.path.expanduser(text))


def picture(source: Path | bytes, *, name: str = "") -> Image.Image:
    """Open a picture of any mode and orientation; raises ValueError with its name if it cannot be read or
    is too large, FileNotFoundError if it is missing.
    """
    place = str(source) if isinstance(source, Path) else "this"
    try:
        return open_picture(source, own=True)
    except FileNotFoundError:
        if ADDRESS.match(place):  # a Path keeps one of its slashes
            raise ValueError(f"{place} is an address: download the picture and name its file.") from None
        raise FileNotFoundError(f"There is no file {place}: give the path of a picture.") from None
    except OSError as error:
        raise ValueError(f"{name or place} is not a picture that can be read: {error}.") from error


def line_picture(name: str, folder: Path) -> Path:
    """Return the path of a picture that a line names, with or without its ending; a URL is left alone."""
    if ADDRESS.match(name):
        return Path(name)
    path = folder / os.path.expanduser(name)
    if "\\" in name and not os.path.exists(path):  # as Windows writes paths
        path = folder / name.replace("\\", "/")
    found = named_picture(path.parent, path.name)
    return found if os.path.isfile(found) and not os.path.exists(path) else path
