"""Letters in the pictures: signboards, meme captions, brand names and handwriting.

The letters are DejaVu Sans as matplotlib ships it. They are laid out one by one with Pillow's basic engine,
so that the pixels do not depend on the text libraries of the machine.
"""

from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from mglib.world.catalog import Colour
from mglib.world.scene import Writing

PLAIN, BOLD, OBLIQUE = "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf"
SERIF, MONO = "DejaVuSerif-Bold.ttf", "DejaVuSansMono.ttf"
LINE = 20  # characters per line of a meme's text
INK = (38, 42, 70)
FINE = 3  # letters are drawn this many times finer, for smooth edges


@cache
def face(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Load one of matplotlib's fonts at a size in pixels."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def fitting(text: str, name: str, width: int, height: int) -> ImageFont.FreeTypeFont:
    """Return a font at the largest size at which `text` fits into a box, in pixels."""
    size = max(4, height)
    while size > 4 and face(name, size).getlength(text) > width:
        size -= 1
    return face(name, size)


def signboard(picture: Image.Image, writing: Writing) -> None:
    """Draw a board with its text, on two posts if it stands outdoors."""
    x, y, width, height = writing.box
    painter = ImageDraw.Draw(picture)
    if writing.role == "signpost":
        for at in (x + width // 5, x + width * 4 // 5):
            painter.rectangle((at - 2, y + height, at + 1, y + 2 * height), fill=(112, 84, 60))
    painter.rounded_rectangle(
        (x, y, x + width - 1, y + height - 1), 4, fill=(250, 244, 222), outline=(70, 52, 40), width=2
    )
    centred(picture, writing, BOLD, (60, 44, 36), share=0.66, free=10)


def centred(
    picture: Image.Image, writing: Writing, name: str, ink: Colour, *, share: float, free: int = 0
) -> None:
    """Write a text centred in its box, at most `share` of its height and `free` pixels narrower."""
    x, y, width, height = writing.box
    font = fitting(writing.text, name, width - free, round(height * share))
    at = (x + width / 2, y + height / 2)
    ImageDraw.Draw(picture).text(at, writing.text, font=font, fill=ink, anchor="mm")


def outlined(picture: Image.Image, writing: Writing) -> None:
    """Write white text with a black outline into a box, as memes do; long text takes two lines."""
    x, y, width, height = writing.box
    lines = _two_lines(writing.text) if len(writing.text) > LINE else [writing.text]
    font = min((fitting(line, BOLD, width, height // len(lines)) for line in lines), key=lambda f: f.size)
    step = round(font.size * 1.16)
    top = y if writing.role == "top" else y + height - step * len(lines)
    painter = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        at = (x + width / 2, top + step * (number + 0.5))
        painter.text(at, line, font=font, fill="white", stroke_width=2, stroke_fill="black", anchor="mm")


def _two_lines(text: str) -> list[str]:
    """Split a text into two lines of about equal length."""
    words = text.split()
    cut = min(range(1, len(words)), key=lambda n: abs(len(" ".join(words[:n])) - len(" ".join(words[n:]))))
    return [" ".join(words[:cut]), " ".join(words[cut:])]


def handwriting(
    picture: Image.Image, rng: Random, text: str, at: tuple[int, int], size: int, ink=INK, slant: float = 0.0
) -> int:
    """Write one line by hand from its upper left corner: letters lean, jump and differ in size.

    Returns the x at which it ends. `slant` is how many pixels the line climbs for each pixel across.
    """
    x, y = float(at[0]), float(at[1])
    for letter in text:
        font = face(OBLIQUE, FINE * max(5, size + rng.choice((-1, 0, 0, 0, 1))))
        cell = round(font.size * 1.9)
        mask = Image.new("L", (cell, cell))
        painter = ImageDraw.Draw(mask)
        painter.text((cell // 4, cell // 4), letter, font=font, fill=255)
        mask = mask.rotate(rng.uniform(-6, 6), Image.Resampling.BILINEAR).reduce(FINE)
        jump = rng.uniform(-0.05, 0.05) * size
        corner = (round(x) - mask.width // 4, round(y + jump) - mask.height // 4)
        picture.paste(ink, corner, mask)
        advance = font.getlength(letter) / FINE * rng.uniform(0.9, 1.0)
        x, y = x + advance, y - slant * advance
    return round(x)


def wobbly(
    painter: ImageDraw.ImageDraw, rng: Random, start: tuple[int, int], end: tuple[int, int], ink=INK
) -> None:
    """Draw a line by hand: nearly straight, and a little too long."""
    (x0, y0), (x1, y1) = start, end
    points = []
    for step in range(9):
        share = -0.015 + step * 1.03 / 8
        points.append(
            (x0 + (x1 - x0) * share + rng.uniform(-1.2, 1.2), y0 + (y1 - y0) * share + rng.uniform(-1.2, 1.2))
        )
    painter.line(points, fill=ink, width=2, joint="curve")


def wobbly_box(painter: ImageDraw.ImageDraw, rng: Random, box: tuple[int, int, int, int], ink=INK) -> None:
    """Draw a box [x, y, w, h] by hand."""
    x, y, width, height = box
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y))
    for start, end in pairwise(corners):
        wobbly(painter, rng, start, end, ink)
