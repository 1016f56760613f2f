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

# Pillow knows formats that run other programs (EPS); the data sets have these.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
# What HEIC and AVIF files say in their first box, somewhere.
AVIF = (b"avif", b"avis")
HEIF = (
    *(b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"),
    *(b"heif", b"mif1", b"mif2", b"msf1"),
)
OWN_SIDE = 1024  # pixels that are enough for any encoder here
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".jfif")
RAW = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf")  # of cameras
KNOWN = (*ENDINGS, ".heic", ".heif", ".avif", ".jxl", *RAW)  # `foreign` says how to convert the others
JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL ")  # the bare codestream, and the same in a box
ADDRESS = re.compile(r"(?i)(https?|ftp):/")
BITS, POLARITY = 258, 262  # TIFF tags: BitsPerSample; PhotometricInterpretation, 0 where white is 0


def open_picture(source: Path | bytes, *, own: bool = False) -> Image.Image:
    """Return a picture in RGB, turned as its EXIF says, with what is transparent over white.

    16-bit grey is scaled to 8 bits; of several frames the first is taken. One's `own` may have twice as many
    pixels as Pillow's limit, and a JPEG is shrunk while it is decoded. Raises FileNotFoundError for a missing
    file, and OSError with the reason for whatever else is no whole picture or is a decompression bomb.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError(
            "Some import has set PIL.ImageFile.LOAD_TRUNCATED_IMAGES (the official MiniGPT-4 code does), so "
            "that broken pictures would pass as good ones: set it to False."
        )
    if isinstance(source, Path) and source.suffix.lower() in RAW:  # Pillow would find the thumbnail in some
        raise OSError("it is a camera's raw picture, which is not read here: develop it into a JPEG first")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if own else "error", Image.DecompressionBombWarning)
            with Image.open(
                io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS
            ) as image:
                if own:  # does nothing where the format is not JPEG
                    image.draft("RGB", (OWN_SIDE, OWN_SIDE))
                return to_rgb(image)
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:  # Pillow's own words name an object in memory
        raise OSError(foreign(source)) from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        most = Image.MAX_IMAGE_PIXELS * (2 if own else 1)
        raise OSError(
            f"it has more than {most:,} pixels, the limit against decompression bombs: make it smaller"
        ) from error
    except Exception as error:  # broken files make the decoders raise errors of nearly every kind
        raise OSError(str(error) or type(error).__name__) from error


def foreign(source: Path | bytes) -> str:
    """Say what a file is that is none of the FORMATS, as far as its first bytes tell."""
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
    """List the files of a folder and of those below it, also behind links, each folder once."""
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        found += [Path(place, name) for name in names]
    return sorted(found)


def hidden(file: Path, folder: Path) -> bool:
    """Return whether a file of a folder is one that programs keep for themselves, such as a Mac's ._files."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def shown(folder: Path, *endings: str) -> list[Path]:
    """List the files below a folder that are not hidden; given endings, those that have one of them."""
    return [
        file
        for file in files_below(folder)
        if not hidden(file, folder)
        and (not endings or file.suffix.lower() in endings)
        and (file.is_file() or not file.exists())  # a dead link is told of, a pipe is none of ours
    ]


def print_files_used(folder: Path, used: Iterable[Path]) -> None:
    """Print how many files of a folder, if it is one, were used, and how many of each kind were not."""
    if not folder.is_dir():
        return
    every = files_below(folder)
    real = cache(os.path.realpath)  # of the folders: links to files are themselves what is used
    known = {(real(file.parent), file.name) for file in used}
    others = [file for file in every if (real(file.parent), file.name) not in known]
    kinds = Counter(
        "hidden" if hidden(file, folder) else file.suffix.lower() or "without an ending" for file in others
    )
    rest = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    said = f"{len(every) - len(others):,} of the {len(every):,} files in {folder} are used"
    print(f"{said}; not used: {rest}." if rest else f"{said}.")


def pictures_below(folder: Path) -> list[Path]:
    """List the pictures of a folder and of those below it, by their endings or else by their first bytes."""
    return [file for file in shown(folder) if file.suffix.lower() in KNOWN or is_picture(file)]


def is_picture(file: Path) -> bool:
    """Return whether a file begins as a picture does."""
    try:
        with Image.open(file, formats=FORMATS):
            return True
    except (UnidentifiedImageError, FileNotFoundError):
        return False
    except Exception:  # a picture, of which `open_picture` says what is wrong with it
        return True


def with_pictures(
    stream: Iterable[T | Fault], file: Callable[[T], Path | None], used: set[Path] | None = None
) -> Iterator[T | Fault]:
    """Open each record's picture, where it has one, and add it to those that are `used`; a picture that
    cannot be opened is a fault instead.
    """
    for item in stream:
        path = None if isinstance(item, Fault) else file(item)
        reason = path and picture_fault(path, os.path.isfile(path) and path.stat().st_mtime_ns)
        if path and used is not None and not reason:
            used.add(path)
        yield Fault(str(path), "", reason) if reason else item


@cache  # a picture is decoded once, until its file changes
def picture_fault(path: Path, changed: int) -> str | None:
    """Say why a picture cannot be used, if so; `changed` is when its file was written."""
    try:
        open_picture(path)
    except FileNotFoundError:
        return "the picture is missing"
    except OSError as error:
        return f"broken picture: {error}"
    return None


def named_picture(folder: Path, name: str) -> Path:
    """Return the picture of a folder that goes by `name`, with or without an ending, in capitals or not,
    accents composed or apart (as a Mac unpacks them).

    Where there is none, the path that it would have as a JPEG.
    """
    stem, dot, ending = name.rpartition(".")
    bare = stem if dot + ending.lower() in ENDINGS else name
    endings = [form for ending in ENDINGS for form in (ending, ending.upper(), f".{ending[1:].title()}")]
    plain = [name, *(base + ending for base in dict.fromkeys((name, bare)) for ending in endings)]
    tried = [*plain, *(unicodedata.normalize(form, each) for form in ("NFC", "NFD") for each in plain)]
    found = (folder / each for each in tried if Path(each).suffix.lower() in ENDINGS)
    return next((path for path in found if os.path.isfile(path)), folder / f"{bare}.jpg")


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF says and convert it, from any mode that has a fixed range, to RGB."""
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
    """Scale grey of 9 to 16 bits to 8; a grey that the file names as transparent stays so."""
    deep = numpy.asarray(image)
    flat = (deep >> (bits - 8)).astype(numpy.uint8)
    if inverted:  # Pillow turns 8 bits over itself, and deeper ones not
        flat = 255 - flat
    clear = image.info.get("transparency")
    return Image.fromarray(
        flat if clear is None else numpy.dstack([flat, 255 * (deep != clear)]).astype("u1")
    )


# --- as people name them ---


def typed_path(text: str) -> Path:
    """Return the path that a person typed, quoted or dragged into the terminal; raises ValueError for an
    address of the web.
    """
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
    """Open a picture of any size, mode and orientation; raises ValueError with its name when it is none."""
    place = str(source) if isinstance(source, Path) else "this"
    try:
        return open_picture(source, own=True)
    except FileNotFoundError:
        if ADDRESS.match(place):  # a Path has one of its slashes
            raise ValueError(f"{place} is an address: download the picture and name its file.") from None
        raise FileNotFoundError(f"There is no file {place}: give the path of a picture.") from None
    except OSError as error:
        raise ValueError(f"{name or place} is not a picture that can be read: {error}.") from error


def line_picture(name: str, folder: Path) -> Path:
    """Return where a picture lies that a line names, with or without its ending; an address stays one."""
    if ADDRESS.match(name):
        return Path(name)
    path = folder / os.path.expanduser(name)
    if "\\" in name and not os.path.exists(path):  # as Windows writes paths
        path = folder / name.replace("\\", "/")
    found = named_picture(path.parent, path.name)
    return found if os.path.isfile(found) and not os.path.exists(path) else path
