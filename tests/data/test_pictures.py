"""Pictures of every mode become right RGB, and broken ones become errors with a reason."""

import struct
import zlib

import numpy
import pytest
from data_files import encoded, jpeg
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo

from mglib.data.pictures import named_picture, open_picture, picture, typed_path


def pixel(content, at=(0, 0)):
    picture = open_picture(content)
    assert picture.mode == "RGB"
    return picture.getpixel(at)


def png_header(width, height):
    """Return a PNG with a size in its header but no pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    head = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + head + b"\0\0\0\0IEND\xaeB`\x82"


def palette(*colours):
    image = Image.new("P", (len(colours) // 3, 1))
    image.putpalette(colours)
    image.putdata(range(image.width))
    return image


@pytest.mark.parametrize(
    ("image", "kind", "colour"),
    [
        (Image.new("L", (2, 2), 100), "PNG", (100, 100, 100)),
        (Image.new("1", (2, 2), 1), "PNG", (255, 255, 255)),
        (palette(10, 20, 30), "PNG", (10, 20, 30)),
        (Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "TIFF", (255, 0, 0)),  # all but cyan: red
        (Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
        *(
            (Image.fromarray(numpy.full((2, 3), deep, numpy.uint16)), kind, (flat, flat, flat))
            for deep, flat in ((0xFFFF, 255), (0x8000, 128), (0x0100, 1), (0x00FF, 0))  # not clipped
            for kind in ("PNG", "TIFF")
        ),
        # Transparent pixels are composited over white.
        (Image.new("RGBA", (1, 1), (255, 0, 0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (1, 1), (255, 0, 0, 128)), "PNG", (255, 127, 127)),
        (Image.new("LA", (1, 1), (0, 0)), "PNG", (255, 255, 255)),
        (Image.new("LA", (1, 1), (7, 255)), "PNG", (7, 7, 7)),
    ],
)
def test_any_mode_becomes_rgb(image, kind, colour):
    options = {"quality": 95} if kind == "JPEG" else {}
    assert numpy.allclose(pixel(encoded(image, kind, **options)), colour, atol=4 if options else 0)


def test_transparency_of_a_palette_or_of_one_colour_lies_over_white():
    content = encoded(palette(0, 0, 0, 9, 9, 9), "PNG", transparency=0)
    assert [pixel(content, (x, 0)) for x in (0, 1)] == [(255, 255, 255), (9, 9, 9)]
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (4, 5, 6))
    content = encoded(image, "PNG", transparency=(1, 2, 3))
    assert [pixel(content, (x, 0)) for x in (0, 1)] == [(255, 255, 255), (4, 5, 6)]


def test_the_first_of_several_frames_is_taken():
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    assert pixel(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (255, 0, 0)
    phone = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])  # a JPEG with a second view
    assert numpy.allclose(pixel(phone), (255, 0, 0), atol=4)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "none of the formats"),
        (b"<html>404</html>", "none of the formats"),
        (jpeg("red", (256, 256))[:-300], "truncated"),
        (encoded(Image.new("RGB", (64, 64), "red"), "PNG")[:-40], "(?i)truncated|broken"),
        (png_header(20_000, 20_000), "decompression bomb"),
        (png_header(10_000, 10_000), "decompression bomb"),  # Pillow alone would warn and go on
        (encoded(Image.new("RGB", (4, 4)), "EPS"), "none of the formats"),
        (encoded(Image.new("F", (2, 2), 0.5), "TIFF"), "mode F has no fixed range"),
        (encoded(Image.new("I", (2, 2), 70_000), "TIFF"), "mode I has no fixed range"),
    ],
    ids=["empty", "foreign", "cut jpeg", "cut png", "bomb", "small bomb", "eps", "floats", "integers"],
)
def test_a_broken_picture_is_an_error_with_its_reason(content, reason):
    with pytest.raises(OSError, match=reason):
        open_picture(content)


@pytest.mark.parametrize(
    ("brand", "kind"),
    [(b"heic", "HEIC"), (b"mif1", "HEIC"), (b"heif", "HEIC"), (b"hevm", "HEIC"), (b"avif", "AVIF")],
)
def test_a_phones_format_is_named_with_what_to_do(tmp_path, brand, kind):
    content = b"\x00\x00\x00\x20ftyp" + brand + bytes(40)
    (tmp_path / "a.jpg").write_bytes(content)
    for source in (content, tmp_path / "a.jpg"):
        with pytest.raises(OSError, match=f"it is {kind}.*save it as JPEG"):
            open_picture(source)


def test_ones_own_huge_picture_is_shrunk_while_it_is_decoded(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4_400 * 2_200 - 1)
    content = jpeg("red", (4_400, 2_200))
    with pytest.raises(OSError, match=r"more than 9,679,999 pixels.*make it smaller"):
        open_picture(content)
    assert open_picture(content, own=True).size == (2_200, 1_100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000_000)
    with pytest.raises(OSError, match=r"more than 4,000,000 pixels.*make it smaller"):
        open_picture(content, own=True)


def test_a_png_with_a_huge_text_is_refused():
    text = PngInfo()
    text.add_text("comment", "a" * 5_000_000, zip=True)
    with pytest.raises(OSError, match="too large"):
        open_picture(encoded(Image.new("RGB", (2, 2)), "PNG", pnginfo=text))


def test_nobody_may_let_truncated_pictures_pass(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RuntimeError, match="LOAD_TRUNCATED_IMAGES"):
        open_picture(jpeg("red"))


def test_every_turn_and_mirror_of_exif_is_undone():
    upright = numpy.zeros((6, 4, 3), numpy.uint8)
    upright[:3, :2], upright[3:, 2:] = (255, 0, 0), (0, 0, 255)
    turns = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: numpy.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: numpy.rot90(upright, -1),
    }
    for orientation, pixels in turns.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
            picture = open_picture(encoded(Image.fromarray(pixels.copy()), kind, exif=exif, **options))
            assert numpy.array_equal(numpy.asarray(picture), upright), (kind, orientation)


@pytest.mark.parametrize("junk", [b"", b"no TIFF at all", b"II*\0", b"II*\0\xff\xff\xff\xff"])
def test_a_good_picture_with_broken_exif_is_read(junk):
    whole, block = jpeg("red"), b"Exif\0\0" + junk
    content = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + whole[2:]
    assert open_picture(content).tobytes() == open_picture(whole).tobytes()


def tiff(*values, bits, polarity):
    """Return a grey TIFF of one row, its values packed into `bits` bits each."""
    packed = int("".join(f"{value:0{bits}b}" for value in values), 2).to_bytes(len(values) * bits // 8)
    if bits == 16:
        packed = struct.pack(f"<{len(values)}H", *values)
    entries = [
        *((256, 4, len(values)), (257, 4, 1), (258, 3, bits), (259, 3, 1), (262, 3, polarity)),
        *((273, 4, 8), (277, 3, 1), (278, 4, 1), (279, 4, len(packed))),
    ]
    forms = {3: "<HHIHxx", 4: "<HHII"}
    lines = [struct.pack(forms[kind], tag, kind, 1, value) for tag, kind, value in entries]
    head = b"II*\0" + struct.pack("<I", 8 + len(packed))
    return head + packed + struct.pack("<H", len(lines)) + b"".join(lines) + bytes(4)


@pytest.mark.parametrize(
    ("bits", "polarity", "greys"),
    [
        (8, 1, [0, 128, 255]),
        (12, 1, [0, 128, 255]),
        (16, 1, [0, 128, 255]),
        (8, 0, [255, 127, 0]),  # 0: white is zero
        (16, 0, [255, 127, 0]),
    ],
)
def test_a_scanners_grey_is_as_bright_as_it_was(bits, polarity, greys):
    most = 2**bits - 1
    content = tiff(0, most // 2 + 1, most, most, bits=bits, polarity=polarity)
    assert [pixel(content, (x, 0))[0] for x in range(3)] == greys


def test_a_transparent_grey_of_sixteen_bits_lies_over_white():
    image = Image.fromarray(numpy.array([[0x1234, 0x8000]], numpy.uint16))
    content = encoded(image, "PNG", transparency=0x1234)
    assert [pixel(content, (x, 0))[0] for x in (0, 1)] == [255, 128]


def test_an_avif_that_begins_as_a_heic_is_called_avif():
    box = b"ftypmif1\0\0\0\0mif1avifmiaf"
    with pytest.raises(OSError, match="it is AVIF"):
        open_picture(struct.pack(">I", len(box) + 4) + box + bytes(40))


@pytest.mark.parametrize("name", ["7", "7.jpg", "7.JPG", "7.png"])
@pytest.mark.parametrize("ending", [".jpg", ".JPEG", ".Png", ".jfif", ".TIF", ".webp"])
def test_a_picture_is_found_by_its_name_whatever_the_ending(tmp_path, name, ending):
    (tmp_path / f"7{ending}").touch()
    assert named_picture(tmp_path, name).name == f"7{ending}"


def test_names_with_dots_and_accents_are_found(tmp_path):
    apart, composed = "cafe\u0301.jpg", "caf\u00e9"
    for name in (apart, "clip.0001.jpg", "a.png.jpg"):
        (tmp_path / name).touch()
    found = [named_picture(tmp_path, name).name for name in (composed, "clip.0001", "a.png")]
    assert found == [apart, "clip.0001.jpg", "a.png.jpg"]
    assert named_picture(tmp_path, "b.png") == tmp_path / "b.jpg"  # where it would be


# --- as people name them ---


def test_what_is_no_picture_is_told(tmp_path):
    for name, content in (("a.jpg", b"no picture"), ("cut.jpg", jpeg("red")[:-200])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is not a picture"):
            picture(tmp_path / name)


@pytest.mark.parametrize(
    "typed",
    ["{}/a b.jpg", "'{}/a b.jpg'", '"{}/a b.jpg"', "{}/a\\ b.jpg ", "file://{}/a%20b.jpg", "~/a b.jpg"],
)
def test_a_path_may_be_typed_quoted_or_dragged(tmp_path, monkeypatch, typed):
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("RGB", (40, 30)).save(tmp_path / "a b.jpg")
    assert typed_path(typed.format(tmp_path)) == tmp_path / "a b.jpg"


def test_an_address_is_no_path():
    with pytest.raises(ValueError, match="download the picture"):
        typed_path("https://example.org/cat.jpg")
