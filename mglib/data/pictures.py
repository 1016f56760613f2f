"""The one way to open a picture: upright, in RGB, whole, or not at all."""

import io
import warnings
from pathlib import Path

import numpy
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

# Pillow knows formats that run other programs (EPS); the data sets have these.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")  # what such files begin with
OWN_SIDE = 1024  # pixels that are enough for any encoder here
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


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
    head = source[:32] if isinstance(source, bytes) else source.open("rb").read(32)
    if head[4:8] == b"ftyp" and head[8:12] in (*HEIF, b"avif", b"avis"):
        kind = "HEIC" if head[8:12] in HEIF else "AVIF"
        return (
            f"it is {kind}, which is not read here: save it as JPEG first (`magick a.{kind.lower()} a.jpg`)"
        )
    return f"empty, or none of the formats {', '.join(FORMATS)}"


def named_picture(folder: Path, name: str) -> Path:
    """Return the picture of a folder that goes by `name`, with or without an ending, in capitals or not.

    Where there is none, the path that it would have as a JPEG.
    """
    stem, dot, ending = name.rpartition(".")
    bare = stem if dot + ending.lower() in ENDINGS else name
    tried = [name, *(bare + each for ending in ENDINGS for each in (ending, ending.upper()))]
    found = (folder / each for each in tried if Path(each).suffix.lower() in ENDINGS)
    return next((path for path in found if path.is_file()), folder / f"{bare}.jpg")


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF says and convert it, from any mode that has a fixed range, to RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((numpy.asarray(image) >> 8).astype(numpy.uint8))
    if image.mode in ("I", "F"):
        raise OSError(f"mode {image.mode} has no fixed range from black to white")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
