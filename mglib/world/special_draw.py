"""Draws special pictures, with a function for each kind; plain scenes are drawn by `mglib.world.draw`."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

from PIL import Image, ImageChops, ImageDraw

from mglib.world import catalog
from mglib.world.catalog import Colour
from mglib.world.draw import draw, draw_objects, glyph, gradient, mix, paint_setting, paste, shadow
from mglib.world.lettering import (
    BOLD,
    INK,
    OBLIQUE,
    PLAIN,
    SERIF,
    centred,
    face,
    fitting,
    handwriting,
    outlined,
    wobbly,
    wobbly_box,
)
from mglib.world.scene import Item, Scene, Writing
from mglib.world.specials import glyphs

STUDIOS = (  # backdrop top, bottom, podium
    ((255, 214, 165), (255, 173, 135), (255, 240, 220)),
    ((178, 222, 236), (120, 180, 214), (240, 250, 252)),
    ((214, 236, 190), (150, 202, 140), (246, 252, 238)),
    ((226, 200, 240), (176, 144, 214), (250, 242, 254)),
    ((64, 70, 96), (34, 36, 54), (120, 126, 150)),
)
PAPERS = ((255, 244, 150), (255, 252, 244), (214, 238, 214), (255, 214, 220), (214, 232, 248))
TINTS = {  # of the weather: a colour laid over everything and its strength
    "sunset": ((255, 120, 50), 0.34),
    "storm": ((30, 36, 60), 0.6),
    "fog": ((214, 220, 226), 0.42),
    "snow": ((220, 230, 245), 0.34),
    "moonlight": ((14, 22, 66), 0.68),
    "dawn": ((255, 176, 196), 0.34),
    "rain": ((86, 98, 116), 0.46),
    "rainbow": ((255, 252, 220), 0.08),
    "leaves": ((226, 140, 50), 0.24),
}
RAINBOW = ((235, 90, 80), (245, 160, 70), (250, 226, 100), (120, 200, 110), (90, 150, 230), (150, 110, 210))
LIGHTS = {"sunset": (255, 232, 150), "moonlight": (244, 244, 222), "dawn": (255, 240, 220)}


def render(scene: Scene, font: Path) -> Image.Image:
    """Draw any scene, plain or special, as an RGB picture; raises OSError if the font cannot be read."""
    if scene.kind == "scene":
        return draw(scene, font)
    return DRAWERS[scene.kind](scene, font, Random(scene.paint))


def _meme(scene: Scene, font: Path, rng: Random) -> Image.Image:
    picture = draw(scene, font)
    for writing in scene.writing:
        outlined(picture, writing)
    return picture


def _dish(scene: Scene, font: Path, rng: Random) -> Image.Image:
    """Draw a plate on a wooden board from above, the ingredients around it."""
    size, fine = scene.size, 2
    wood = rng.choice(((196, 148, 100), (156, 112, 78), (120, 140, 150), (206, 184, 150)))
    canvas = Image.new("RGB", (fine * size, fine * size), wood)
    painter = ImageDraw.Draw(canvas)
    for y in range(0, fine * size, fine * size // 7):
        shade = mix(wood, (255, 240, 220), rng.uniform(0.0, 0.16))
        painter.rectangle((0, y, fine * size, y + fine * size // 7), fill=shade)
        painter.line((0, y, fine * size, y), fill=mix(wood, (50, 30, 20), 0.35), width=2)
    middle, rim = fine * size // 2, rng.choice(((70, 110, 170), (190, 90, 80), (90, 140, 100)))
    radius = round(0.29 * fine * size)
    painter.circle((middle + 6, middle + 12), radius + 6, fill=mix(wood, (20, 10, 10), 0.4))
    for inset, colour in ((0, (252, 252, 250)), (10, rim), (14, (250, 250, 248)), (44, (238, 238, 236))):
        painter.circle((middle, middle), radius - inset, fill=colour)
    painter.circle((middle, middle), radius - 48, fill=(250, 250, 250))
    picture = canvas.reduce(fine)
    for item in (*scene.props, *scene.objects):
        shadow(picture, item.box, 0.3)
        stamp = glyph(font, glyphs().get(item.name) or item.thing.glyph)
        paste(picture, stamp, _whole(item, stamp))
    return picture


def _whole(item: Item, stamp: Image.Image) -> Item:
    """Keep a glyph's proportions inside a square box."""
    x, y, width, height = item.box
    scale = min(width / stamp.width, height / stamp.height)
    wide, high = round(stamp.width * scale), round(stamp.height * scale)
    return replace(item, box=(x + (width - wide) // 2, y + (height - high) // 2, wide, high))


def _product(scene: Scene, font: Path, rng: Random) -> Image.Image:
    """Draw the product on a podium in a softly lit studio, its brand above it."""
    size, fine = scene.size, 2
    top, bottom, podium = rng.choice(STUDIOS)
    canvas = Image.new("RGB", (fine * size, fine * size))
    gradient(canvas, 0, fine * size, (top, bottom))
    painter = ImageDraw.Draw(canvas)
    middle, base = fine * size // 2, round(0.73 * fine * size)
    for number in range(6):
        radius = round((0.4 - 0.045 * number) * fine * size)
        glow = mix(mix(top, bottom, 0.5), (255, 255, 255), 0.06 + 0.06 * number)
        painter.circle((middle, round(0.5 * fine * size)), radius, fill=glow)
    wide, flat, high = round(0.37 * fine * size), 34, 40
    side = mix(podium, bottom, 0.5)
    painter.rectangle((middle - wide, base, middle + wide, base + high), fill=side)
    painter.ellipse((middle - wide, base + high - flat, middle + wide, base + high + flat), fill=side)
    painter.ellipse((middle - wide, base - flat, middle + wide, base + flat), fill=podium)
    picture = canvas.reduce(fine)
    draw_objects(picture, scene.objects, font)
    ink = (250, 246, 236) if sum(top) < 300 else (48, 40, 60)
    style = rng.choice((BOLD, SERIF))
    for writing, name in zip(scene.writing, (style, OBLIQUE), strict=True):
        centred(picture, writing, name, ink, share=0.8)
    return picture


def _landscape(scene: Scene, font: Path, rng: Random) -> Image.Image:
    effect = scene.truth["effect"]
    setting = catalog.SETTINGS[scene.setting]
    colour, strength = TINTS[effect]
    picture = paint_setting(rng, setting, scene.size)
    picture = Image.blend(picture, Image.new("RGB", picture.size, colour), strength)
    horizon = round(setting.horizon * scene.size)
    if effect in LIGHTS:
        _light(picture, rng, effect, horizon, round(setting.shore * scene.size))
    for item in scene.props:
        paste(picture, glyph(font, catalog.PROPS[item.name].glyph), item, colour, min(0.8, strength + 0.1))
    if effect in WEATHER:
        WEATHER[effect](picture, rng, horizon, font)
    return picture


def _light(picture: Image.Image, rng: Random, effect: str, horizon: int, shore: int) -> None:
    """Draw a low sun or a moon in the sky, with its glow and its reflection on the water."""
    size = picture.width
    colour = LIGHTS[effect]
    radius = round(0.07 * size)
    x = rng.randint(size // 4, 3 * size // 4)
    y = horizon - round(radius * (3.2 if effect == "moonlight" else 0.5))
    glow = ImageChops.invert(Image.radial_gradient("L")).resize((8 * radius, 8 * radius))
    sky = picture.crop((0, 0, size, horizon))
    sky.paste(colour, (x - 4 * radius, y - 4 * radius), glow.point(lambda v: max(0, v - 74) * 0.9))
    ImageDraw.Draw(sky).circle((x, y), radius, fill=colour)
    if effect == "moonlight":
        painter = ImageDraw.Draw(sky)
        for _ in range(40):
            at = (rng.randrange(size), rng.randrange(max(1, horizon - 20)))
            painter.circle(at, rng.choice((0, 0, 1)), fill=(230, 232, 240))
    picture.paste(sky, (0, 0))
    painter = ImageDraw.Draw(picture)
    for row in range(horizon + 3, shore, 4):
        half = radius * rng.uniform(0.3, 1.0)
        painter.line((x - half, row, x + half, row), fill=colour, width=2)


def _storm(picture: Image.Image, rng: Random, horizon: int, font: Path) -> None:
    """Draw dark clouds, a bolt of lightning and rain."""
    size = picture.width
    x, y = rng.randint(size // 4, 3 * size // 4), 30
    bolt = [(x, y)]
    while y < horizon:
        x, y = x + rng.randint(-14, 14), y + rng.randint(10, 18)
        bolt.append((x, y))
    painter = ImageDraw.Draw(picture)
    painter.line(bolt, fill=(150, 150, 190), width=6, joint="curve")
    painter.line(bolt, fill=(255, 252, 214), width=3, joint="curve")
    _clouds(picture, rng, (58, 62, 78))
    _drops(picture, rng, 110)


def _clouds(picture: Image.Image, rng: Random, colour: Colour) -> None:
    size = picture.width
    painter = ImageDraw.Draw(picture)
    for x in range(-20, size + 20, 22):
        for _ in range(2):
            at, radius = (x + rng.randint(-8, 8), rng.randint(-4, 26)), rng.randint(18, 30)
            painter.circle(at, radius, fill=mix(colour, (120, 124, 140), rng.uniform(0, 0.35)))


def _rain(picture: Image.Image, rng: Random, horizon: int, font: Path) -> None:
    _clouds(picture, rng, (118, 124, 138))
    _drops(picture, rng, 150)
    painter = ImageDraw.Draw(picture)
    for _ in range(10):  # puddles
        x, y = rng.randrange(picture.width), rng.randint(horizon + 60, picture.height - 6)
        wide = rng.randint(8, 24)
        painter.ellipse((x - wide, y - wide // 5, x + wide, y + wide // 5), outline=(190, 204, 220))


def _drops(picture: Image.Image, rng: Random, count: int) -> None:
    painter = ImageDraw.Draw(picture)
    for _ in range(count):
        x, y, long = rng.randrange(picture.width), rng.randrange(picture.height), rng.randint(8, 16)
        painter.line((x, y, x - long // 4, y + long), fill=(176, 196, 220), width=1)


def _fog(picture: Image.Image, rng: Random, horizon: int, font: Path) -> None:
    size = picture.width
    for number in range(7):
        y = horizon - 50 + 26 * number
        wide, high = rng.randint(size // 2, size), rng.randint(26, 44)
        bank = ImageChops.invert(Image.radial_gradient("L")).resize((2 * wide, 2 * high))
        at = (rng.randint(-wide, size - wide), y - high)
        picture.paste((236, 240, 243), at, bank.point(lambda v: round(v * 0.75)))


def _snowfall(picture: Image.Image, rng: Random, horizon: int, font: Path) -> None:
    ground = Image.new("RGB", (picture.width, picture.height - horizon), (246, 249, 253))
    ramp = Image.linear_gradient("L").resize(ground.size).point(lambda v: 150 + v // 5)
    picture.paste(ground, (0, horizon), ramp)
    painter = ImageDraw.Draw(picture)
    for _ in range(170):
        at = (rng.randrange(picture.width), rng.randrange(picture.height))
        painter.circle(at, rng.choice((1, 1, 2, 3)), fill=(255, 255, 255))


def _rainbow(picture: Image.Image, rng: Random, horizon: int, font: Path) -> None:
    size, fine = picture.width, 2
    arc = Image.new("RGBA", (fine * size, fine * horizon))
    painter = ImageDraw.Draw(arc)
    base = fine * horizon + 20
    radius, x = round(0.46 * fine * size), rng.randint(fine * size // 3, 2 * fine * size // 3)
    for colour in RAINBOW:
        box = (x - radius, base - radius, x + radius, base + radius)
        painter.arc(box, 180, 360, fill=(*colour, 150), width=12)
        radius -= 11
    arc = arc.reduce(fine)
    picture.paste(arc, (0, 0), arc)


def _leaves(picture: Image.Image, rng: Random, horizon: int, font: Path) -> None:
    for _ in range(16):
        side = rng.randint(12, 26)
        leaf = glyph(font, rng.choice("\U0001f341\U0001f342")).convert("RGBA")
        leaf = leaf.resize((side, side), Image.Resampling.LANCZOS).rotate(rng.randrange(360), expand=True)
        picture.paste(leaf, (rng.randrange(picture.width), rng.randrange(picture.height)), leaf)


def _sketch(scene: Scene, font: Path, rng: Random) -> Image.Image:
    """Draw a web page in pen on paper."""
    size = scene.size
    picture = Image.new("RGB", (size, size))
    gradient(picture, 0, size, ((252, 250, 243), (240, 236, 226)))
    painter = ImageDraw.Draw(picture)
    ink = rng.choice((INK, (40, 60, 130), (50, 50, 50)))
    wobbly_box(painter, rng, (8, 8, size - 17, size - 17), ink)
    for writing in scene.writing:
        SKETCHED[writing.role](picture, painter, rng, writing, ink)
    return picture


def _written(picture, painter, rng, writing, ink, share: float = 0.66) -> None:
    """Write a text by hand in the middle of its box."""
    x, y, width, height = writing.box
    letters = fitting(writing.text, OBLIQUE, width - 8, round(height * share))
    left = x + round((width - letters.getlength(writing.text) * 0.95) / 2)
    top = y + round((height - letters.size * 1.25) / 2)
    handwriting(picture, rng, writing.text, (left, top), letters.size, ink)


def _title(picture, painter, rng, writing, ink) -> None:
    _written(picture, painter, rng, writing, ink, 0.84)
    x, y, width, height = writing.box
    wobbly(painter, rng, (x, y + height + 3), (x + width, y + height + 3), ink)


def _nav(picture, painter, rng, writing, ink) -> None:
    x, y, width, height = writing.box
    labels = writing.text.split()
    wide = width // len(labels)
    for number, label in enumerate(labels):
        part = Writing(label, (x + number * wide, y, wide - 4, height), "nav")
        wobbly_box(painter, rng, part.box, ink)
        _written(picture, painter, rng, part, ink, 0.56)


def _search(picture, painter, rng, writing, ink) -> None:
    x, y, width, height = writing.box
    wobbly_box(painter, rng, writing.box, ink)
    grey = mix(ink, (255, 255, 255), 0.35)
    handwriting(picture, rng, "search...", (x + 8, y + 4), round(height * 0.5), grey)
    middle = (x + width - height, y + height // 2 - 2)
    painter.circle(middle, height // 4, outline=ink, width=2)
    painter.line((middle[0] + 4, middle[1] + 4, middle[0] + 10, middle[1] + 10), fill=ink, width=2)


def _picture(picture, painter, rng, writing, ink) -> None:
    x, y, width, height = writing.box
    wobbly_box(painter, rng, writing.box, ink)
    wobbly(painter, rng, (x, y), (x + width, y + height), ink)
    wobbly(painter, rng, (x + width, y), (x, y + height), ink)


def _button(picture, painter, rng, writing, ink) -> None:
    x, y, width, height = writing.box
    wide = min(width, round(0.44 * picture.width))
    box = (x + (width - wide) // 2, y, wide, height)
    painter.rectangle((box[0], y, box[0] + wide, y + height), fill=mix((252, 250, 243), ink, 0.14))
    wobbly_box(painter, rng, box, ink)
    _written(picture, painter, rng, replace(writing, box=box), ink, 0.52)


def _footer(picture, painter, rng, writing, ink) -> None:
    x, y, width, _ = writing.box
    wobbly(painter, rng, (x, y - 2), (x + width, y - 2), ink)
    _written(picture, painter, rng, writing, ink, 0.64)


def _field(picture, painter, rng, writing, ink) -> None:
    x, y, width, height = writing.box
    letters = fitting(writing.text, OBLIQUE, width * 2 // 5 - 6, round(height * 0.46))
    handwriting(picture, rng, writing.text, (x, y + height // 3), letters.size, ink)
    wobbly_box(painter, rng, (x + width * 2 // 5, y, width * 3 // 5, height), ink)


def _unusual(scene: Scene, font: Path, rng: Random) -> Image.Image:
    what = scene.truth["what"]
    if what in ("tiny", "underwater"):
        return draw(scene, font)
    if what == "giant":  # the houses stand in front of it
        picture = draw(replace(scene, props=()), font)
        for item in scene.props:
            shadow(picture, item.box, 0.3)
            paste(picture, glyph(font, catalog.PROPS[item.name].glyph), item)
        return picture
    picture, (item,) = draw(replace(scene, objects=()), font), scene.objects
    stamp = glyph(font, item.thing.glyph)
    if what == "upside down":
        shadow(picture, item.box, 0.34)
        stamp = stamp.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if what == "flying":  # its shadow falls far below it
        x, _, width, _ = item.box
        shadow(picture, (x + width // 8, scene.size * 3 // 4, width * 3 // 4, 30), 0.5)
    paste(picture, stamp, item)
    if what == "afloat":
        _wash(picture, rng, item.box)
    return picture


def _wash(picture: Image.Image, rng: Random, box: tuple[int, int, int, int]) -> None:
    """Draw waves over the bottom of something that floats."""
    x, y, width, height = box
    painter = ImageDraw.Draw(picture)
    for number in range(5):
        row = y + height - 12 + 4 * number
        for _ in range(3):
            at = x + rng.randint(-14, width)
            painter.arc((at, row - 4, at + 26, row + 6), 0, 180, fill=(206, 234, 244), width=2)


def _note(scene: Scene, font: Path, rng: Random) -> Image.Image:
    """Draw a sheet of paper on a wooden or cork board."""
    size = scene.size
    board = rng.choice(((190, 150, 104), (150, 160, 172), (206, 184, 150)))
    picture = Image.new("RGB", (size, size), board)
    painter = ImageDraw.Draw(picture)
    for _ in range(500):
        x, y = rng.randrange(size), rng.randrange(size)
        painter.point((x, y), fill=mix(board, rng.choice(((60, 40, 20), (255, 245, 225))), 0.35))
    paper = rng.choice(PAPERS)
    left, top, right, low = (round(share * size) for share in (0.11, 0.13, 0.89, 0.89))
    painter.rectangle((left + 5, top + 6, right + 5, low + 6), fill=mix(board, (20, 14, 10), 0.45))
    painter.rectangle((left, top, right, low), fill=paper)
    _, first, _, step = scene.writing[0].box
    for y in range(top + (first - top) % step, low, step):
        painter.line((left + 4, y, right - 4, y), fill=mix(paper, (110, 140, 200), 0.35))
    ink = rng.choice((INK, (30, 50, 140), (120, 30, 40), (40, 40, 44)))
    widest = max(face(PLAIN, 20).getlength(writing.text) for writing in scene.writing)
    letters = min(round(0.62 * step), int(20 * 0.66 * size / widest))
    for writing in scene.writing:
        x, y, _, height = writing.box
        handwriting(picture, rng, writing.text, (x, y + height - round(letters * 1.25)), letters, ink, 0.015)
    pin, high = glyph(font, "\U0001f4cc"), round(0.15 * size)
    box = (size // 2 - 10, top - high // 2, round(high * pin.width / pin.height), high)
    paste(picture, pin, Item("pin", box, 0.0))
    return picture


WEATHER = {
    "storm": _storm,
    "rain": _rain,
    "fog": _fog,
    "snow": _snowfall,
    "rainbow": _rainbow,
    "leaves": _leaves,
}
SKETCHED: dict[str, Callable[..., None]] = {
    "title": _title,
    "nav": _nav,
    "search": _search,
    "picture": _picture,
    "text": partial(_written, share=0.62),
    "button": _button,
    "footer": _footer,
    "field": _field,
}
DRAWERS = {
    "memes": _meme,
    "dishes": _dish,
    "products": _product,
    "landscapes": _landscape,
    "sketches": _sketch,
    "unusual": _unusual,
    "notes": _note,
}
