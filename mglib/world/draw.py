"""Pictures of scenes: OpenMoji glyphs with soft shadows on painted settings, drawn with Pillow."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFont

from mglib.world import catalog
from mglib.world.catalog import Colour, Setting
from mglib.world.lettering import signboard
from mglib.world.scene import Item, Scene

GLYPH = 240  # pixels at which a glyph is rendered once, to be scaled down at each use
FINE = 2  # the setting is painted this many times finer than the picture, for smooth edges
HAZE = 0.16  # share of the sky's colour in scenery, which keeps it behind the objects
AFLOAT = 0.86  # share of a boat's glyph that is kept; the rest is water
POLE = (84, 88, 96)


def draw(scene: Scene, font: Path) -> Image.Image:
    """Draw `scene` as an RGB picture; raises OSError with advice if the font cannot be read."""
    setting = catalog.SETTINGS[scene.setting]
    picture = paint_setting(Random(scene.paint), setting, scene.size)
    haze = setting.sky[1]
    for item in scene.props:
        prop = catalog.PROPS[item.name]
        if prop.stands == "ground":
            shadow(picture, item.box, 0.16)
        paste(picture, glyph(font, prop.glyph), item, haze)
    for writing in scene.writing:
        if writing.role in ("sign", "signpost"):
            signboard(picture, writing)
    draw_objects(picture, scene.objects, font)
    return picture


def draw_objects(picture: Image.Image, objects: tuple[Item, ...], font: Path) -> None:
    """Draw objects into a picture, in their order, with the shadows of those that stand on something."""
    for item in objects:
        thing = item.thing
        if thing.stands in ("ground", "pole"):
            shadow(picture, item.box, 0.34)
        if thing.stands == "pole":
            item = _hang_on_pole(picture, glyph(font, thing.glyph), item)
        afloat = thing.stands == "water"
        paste(picture, (_dipped if afloat else glyph)(font, thing.glyph), item)


@cache
def glyph(font: Path, text: str) -> Image.Image:
    """Render a glyph of the colour font large, cropped to what is visible (RGBa: premultiplied alpha)."""
    try:
        face = ImageFont.truetype(str(font), GLYPH)
    except OSError as error:
        raise OSError(f"The font {font} cannot be read ({error}); fetch it again.") from error
    canvas = Image.new("RGBA", (2 * GLYPH, 2 * GLYPH))
    ImageDraw.Draw(canvas).text((GLYPH // 2, GLYPH // 2), text, font=face, embedded_color=True)
    box = canvas.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox()
    if box is None:
        raise ValueError(f"The font {font.name} has no glyph for {text!r}; correct its row in data/world.")
    return canvas.crop(box).convert("RGBa")  # the mode that resizing uses: saves a conversion at each use


@cache
def _dipped(font: Path, text: str) -> Image.Image:
    """Render a glyph that comes with water, cutting most of it off and fading the rest into the picture's."""
    stamp = glyph(font, text)
    width, height = stamp.width, round(stamp.height * AFLOAT)
    fade = Image.linear_gradient("L").transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize((width, height // 5))
    mask = Image.new("L", (width, height), 255)
    mask.paste(fade, (0, height - fade.height))
    bands = stamp.crop((0, 0, width, height)).split()
    return Image.merge("RGBa", [ImageChops.multiply(band, mask) for band in bands])


def paste(
    picture: Image.Image, stamp: Image.Image, item: Item, haze: Colour | None = None, share: float = HAZE
) -> None:
    """Put a glyph into its box; a `share` of `haze` blends its colours towards a far sky."""
    x, y, width, height = item.box
    small = stamp.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0).convert("RGBA")
    if item.mirrored:
        small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if haze:
        hazy = Image.blend(small.convert("RGB"), Image.new("RGB", small.size, haze), share)
        hazy.putalpha(small.getchannel("A"))
        small = hazy
    picture.paste(small, (x, y), small)


def _hang_on_pole(picture: Image.Image, stamp: Image.Image, item: Item) -> Item:
    """Draw the pole of a sign over the height of its box; return the item for the sign itself."""
    x, y, width, height = item.box
    middle, thick = x + width // 2, max(2, width // 14)
    pole = (middle - thick // 2 - 1, y + height // 4, middle + thick // 2 + 1, y + height - 1)
    ImageDraw.Draw(picture).rectangle(pole, fill=POLE, outline=(30, 30, 34))
    return replace(item, box=(x, y, width, round(width * stamp.height / stamp.width)))


@cache
def _blot() -> Image.Image:
    """Return a soft round spot: white in the middle, black at the rim."""
    return ImageChops.invert(Image.radial_gradient("L")).point(lambda v: max(0, min(255, 2 * v - 150)))


def shadow(picture: Image.Image, box: tuple[int, int, int, int], strength: float) -> None:
    """Darken the ground under a standing thing."""
    x, y, width, height = box
    wide, flat = round(width * 1.3), max(8, round(min(width, height) * 0.34))
    mask = _blot().resize((wide, flat), Image.Resampling.BILINEAR).point(lambda v: round(v * strength))
    picture.paste((20, 18, 40), (x - (wide - width) // 2, y + height - round(flat * 0.55)), mask)


def paint_setting(rng: Random, setting: Setting, size: int) -> Image.Image:
    """Paint a setting without its props; `rng` varies the details."""
    side = FINE * size
    horizon, shore = round(setting.horizon * side), round(setting.shore * side)
    shift = tuple(rng.randint(-9, 9) for _ in range(3))  # slightly different light in every picture
    sky, ground = _tinted(setting.sky, shift), _tinted(setting.ground, shift)
    canvas = Image.new("RGB", (side, side))
    gradient(canvas, 0, horizon, sky)
    painter = ImageDraw.Draw(canvas)
    BACKDROPS[setting.backdrop](painter, rng, side, horizon, sky, ground)
    if setting.water:
        water = _tinted(setting.water, shift)
        gradient(canvas, horizon, shore, water)
        _waves(painter, rng, side, horizon, shore, water)
    gradient(canvas, shore, side, ground)
    PATTERNS[setting.pattern](painter, rng, side, shore, ground)
    return canvas.reduce(FINE)


def _tinted(pair: tuple[Colour, Colour], shift: tuple[int, ...]) -> tuple[Colour, Colour]:
    def tinted(colour: Colour) -> Colour:
        red, green, blue = (max(0, min(255, value + more)) for value, more in zip(colour, shift, strict=True))
        return red, green, blue

    return tinted(pair[0]), tinted(pair[1])


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Return the colour that is `share` of the way from `a` to `b`."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def gradient(canvas: Image.Image, top: int, bottom: int, pair: tuple[Colour, Colour]) -> None:
    """Fill a canvas from row `top` to row `bottom` with a vertical gradient."""
    ramp = Image.linear_gradient("L").resize((1, bottom - top), Image.Resampling.BILINEAR)
    top_colour, bottom_colour = pair
    bands = [
        ramp.point([round(a + (b - a) * v / 255) for v in range(256)])
        for a, b in zip(top_colour, bottom_colour, strict=True)
    ]
    canvas.paste(Image.merge("RGB", bands).resize((canvas.width, bottom - top)), (0, top))


# Backdrops are painted between the sky and what stands in front of it; `line` is the horizon.


def _plain(painter, rng, side, line, sky, ground) -> None:
    """Paint nothing but sky."""


def _hills(painter, rng, side, line, sky, ground) -> None:
    for share, tall in ((0.55, 0.16), (0.28, 0.1)):
        colour = mix(ground[0], sky[1], share)
        for _ in range(2):
            wide, high = rng.randint(side // 2, side), round(side * tall * rng.uniform(0.6, 1.1))
            x = rng.randint(-side // 4, side)
            painter.ellipse((x - wide // 2, line - high, x + wide // 2, line + high), fill=colour)


def _trees(painter, rng, side, line, sky, ground) -> None:
    for share, tall, step in ((0.5, 0.3, 13), (0.2, 0.2, 17)):
        colour = mix(ground[1], sky[1], share)
        for x in range(0, side, side // step):
            high, half = round(side * tall * rng.uniform(0.7, 1.2)), side // 16
            middle = x + rng.randint(-8, 8)
            corners = ((middle - half, line), (middle, line - high), (middle + half, line))
            painter.polygon(corners, fill=colour)


def _houses(painter, rng, side, line, dark, lit, bright) -> None:
    x = -rng.randint(0, 20)
    while x < side:
        wide, high = rng.randint(side // 14, side // 7), rng.randint(side // 9, side // 3)
        painter.rectangle((x, line - high, x + wide, line), fill=dark)
        for wx in range(x + 8, x + wide - 10, 16):
            for wy in range(line - high + 10, line - 14, 20):
                if rng.random() < bright:
                    painter.rectangle((wx, wy, wx + 6, wy + 9), fill=lit)
        x += wide + rng.randint(2, 14)


def _skyline(painter, rng, side, line, sky, ground) -> None:
    dark, lit = mix(sky[0], (120, 130, 160), 0.45), mix(sky[1], (255, 255, 255), 0.5)
    _houses(painter, rng, side, line, dark, lit, 0.75)


def _night(painter, rng, side, line, sky, ground) -> None:
    for _ in range(46):
        x, y, r = rng.randrange(side), rng.randrange(round(line * 0.8)), rng.choice((1, 1, 2))
        painter.circle((x, y), r, fill=(240, 240, 215))
    _houses(painter, rng, side, line, mix(sky[0], (8, 10, 30), 0.35), (250, 214, 120), 0.4)


def _room(painter, rng, side, line, sky, ground) -> None:
    for x in range(rng.randint(0, 40), side, 44):  # faint stripes of wallpaper
        painter.rectangle((x, 0, x + 18, line), fill=mix(sky[0], sky[1], 0.75))
    painter.rectangle((0, line - 12, side, line), fill=mix(sky[1], (255, 255, 255), 0.6))


def _tiles_wall(painter, rng, side, line, sky, ground) -> None:
    joint, step = mix(sky[1], (255, 255, 255), 0.7), side // 11
    for y in range(line % step - step, line, step):
        painter.line((0, y, side, y), fill=joint, width=3)
    for x in range(rng.randint(0, step), side, step):
        painter.line((x, 0, x, line), fill=joint, width=3)


def _dunes(painter, rng, side, line, sky, ground) -> None:
    for share, tall in ((0.5, 0.12), (0.22, 0.07)):
        colour = mix(ground[0], sky[1], share)
        for _ in range(3):
            wide, high = rng.randint(side // 2, side), round(side * tall * rng.uniform(0.5, 1.1))
            x = rng.randint(-side // 4, side)
            corners = ((x - wide // 2, line), (x + wide // 6, line - high), (x + wide // 2, line))
            painter.polygon(corners, fill=colour)


def _acacias(painter, rng, side, line, sky, ground) -> None:
    colour = mix(ground[1], sky[1], 0.35)
    painter.rectangle((0, line - 8, side, line), fill=mix(ground[0], sky[1], 0.4))
    for _ in range(3):
        x, high = rng.randint(0, side), round(side * rng.uniform(0.12, 0.2))
        painter.line((x, line, x, line - high), fill=colour, width=8)
        for shift in (-30, 24):
            painter.line((x, line - high // 2, x + shift, line - high), fill=colour, width=5)
        painter.ellipse((x - 70, line - high - 22, x + 70, line - high + 8), fill=colour)


def _deep(painter, rng, side, line, sky, ground) -> None:
    for _ in range(4):  # light from above
        x, wide = rng.randint(0, side), rng.randint(20, 60)
        shade = mix(sky[0], (255, 255, 255), 0.12)
        painter.polygon(((x, 0), (x + wide, 0), (x - wide, line // 2), (x - 3 * wide, line // 2)), fill=shade)
    for _ in range(22):
        x, y, r = rng.randrange(side), rng.randrange(line), rng.choice((3, 4, 7))
        painter.circle((x, y), r, outline=mix(sky[0], (255, 255, 255), 0.5), width=2)


def _blinds(painter, rng, side, line, sky, ground) -> None:
    for y in range(rng.randint(0, 12), line - 16, 26):
        painter.line((0, y, side, y), fill=mix(sky[0], sky[1], 0.55), width=3)
    x = rng.randint(side // 8, side // 2)
    pane = (x, 0, x + side // 3, line - 60)
    painter.rectangle(pane, fill=(190, 225, 245), outline=(250, 250, 252), width=9)
    for y in range(14, line - 66, 18):
        painter.line((x + 8, y, x + side // 3 - 8, y), fill=(232, 240, 246), width=5)
    painter.rectangle((0, line - 10, side, line), fill=mix(ground[1], (60, 40, 20), 0.2))


def _lamps(painter, rng, side, line, sky, ground) -> None:
    painter.rectangle((0, line - 46, side, line), fill=mix(sky[0], (60, 20, 20), 0.35))
    shift = rng.randint(0, 90)
    for x in range(-side // 8 + shift, side + side // 4, side * 3 // 10):
        painter.line((x, 0, x, 44), fill=(50, 30, 30), width=4)
        for r, share in ((58, 0.12), (36, 0.25)):
            glow = mix(sky[0], (255, 220, 140), share)
            painter.circle((x, 62), r, fill=glow)
        painter.pieslice((x - 30, 40, x + 30, 100), 180, 360, fill=(226, 170, 80))
        painter.ellipse((x - 9, 64, x + 9, 82), fill=(255, 246, 200))


# Patterns are painted on the ground; `line` is where it begins.


def _waves(painter, rng, side, line, end, water) -> None:
    for _ in range(26):
        x, y, long = rng.randrange(side), rng.randint(line + 4, max(line + 5, end - 6)), rng.randint(14, 60)
        painter.line((x, y, x + long, y), fill=mix(water[1], (255, 255, 255), rng.uniform(0.2, 0.6)), width=2)


def _sand(painter, rng, side, line, ground) -> None:
    painter.ellipse((-side // 3, line - 7, side + side // 3, line + 15), fill=ground[0])
    for _ in range(150):
        x, y, r = rng.randrange(side), rng.randint(line + 6, side), rng.choice((1, 1, 2))
        colour = mix(ground[1], (120, 80, 30), rng.uniform(0, 0.35))
        painter.circle((x, y), r, fill=colour)


def _grass(painter, rng, side, line, ground) -> None:
    for _ in range(85):
        x, y = rng.randrange(side), rng.randint(line + 8, side)
        high = 4 + 10 * (y - line) // (side - line)
        colour = mix(ground[1], rng.choice(((255, 255, 160), (10, 60, 10))), rng.uniform(0.05, 0.3))
        for lean in (-high // 2, 0, high // 2):
            painter.line((x, y, x + lean, y - high), fill=colour, width=2)


def _snow(painter, rng, side, line, ground) -> None:
    for _ in range(5):
        x, y, wide = rng.randrange(side), rng.randint(line + 20, side), rng.randint(side // 4, side // 2)
        painter.ellipse((x - wide, y, x + wide, y + 34), fill=mix(ground[1], (255, 255, 255), 0.55))
    for _ in range(60):
        x, y, r = rng.randrange(side), rng.randrange(side), rng.choice((2, 3))
        painter.circle((x, y), r, fill=(255, 255, 255))


def _road(painter, rng, side, line, ground) -> None:
    kerb = line + (side - line) // 4
    painter.rectangle((0, line, side, kerb), fill=mix(ground[0], (225, 220, 225), 0.45))
    for x in range(rng.randint(0, 40), side, 62):
        painter.line((x, line, x - 18, kerb), fill=mix(ground[0], ground[1], 0.4), width=2)
    painter.rectangle((0, kerb, side, kerb + 7), fill=mix(ground[1], (255, 255, 255), 0.35))
    y = kerb + (side - kerb) * 9 // 20
    for x in range(-rng.randint(0, 90), side, 118):
        painter.polygon(((x + 8, y), (x + 72, y), (x + 64, y + 11), (x, y + 11)), fill=(240, 236, 214))


def _stones(painter, rng, side, line, ground) -> None:
    painter.rectangle((0, line, side, line + 10), fill=mix(ground[1], (40, 40, 50), 0.4))
    y, high = line + 10, 24
    while y < side:
        painter.line((0, y, side, y), fill=mix(ground[1], (60, 60, 60), 0.25), width=2)
        for x in range(-rng.randint(0, 60), side, 3 * high):
            painter.line((x, y, x, y + high), fill=mix(ground[1], (60, 60, 60), 0.25), width=2)
        y, high = y + high, high + 8


def _boards(painter, rng, side, line, ground) -> None:
    seam, vanishing = mix(ground[1], (40, 20, 10), 0.3), line - side // 2
    for x in range(-side, 2 * side, side // 9):
        top = side // 2 + (x - side // 2) * (line - vanishing) // (side - vanishing)
        painter.line((top, line, x, side), fill=seam, width=2)
    if rng.random() < 0.6:  # a rug
        x, y, wide = side // 2 + rng.randint(-60, 60), line + (side - line) * 3 // 5, rng.randint(150, 210)
        colour = rng.choice(((196, 92, 84), (92, 120, 176), (112, 150, 120), (214, 170, 90)))
        for inset, share in ((0, 0.0), (12, 0.45), (20, 0.12)):
            half, tall = wide - inset, 56 - inset * 2 // 3
            shade = mix(colour, (255, 250, 235), share)
            painter.ellipse((x - half, y - tall, x + half, y + tall), fill=shade)


def _tiles(painter, rng, side, line, ground) -> None:
    dark, vanishing = mix(ground[1], (120, 110, 100), 0.28), line - side // 2
    y, high = line, 16
    while y < side:
        painter.line((0, y, side, y), fill=dark, width=2)
        y, high = y + high, high + 9
    for x in range(-side, 2 * side, side // 6):
        top = side // 2 + (x - side // 2) * (line - vanishing) // (side - vanishing)
        painter.line((top, line, x, side), fill=dark, width=2)


def _top(painter, side, line, ground) -> None:
    """Paint the far edge of a table that fills the lower part of the picture."""
    painter.rectangle((0, line, side, line + 9), fill=mix(ground[0], (255, 255, 255), 0.45))
    painter.line((0, line + 10, side, line + 10), fill=mix(ground[1], (40, 20, 0), 0.35), width=2)


def _counter(painter, rng, side, line, ground) -> None:
    for _ in range(16):  # grain
        x, y, long = rng.randrange(side), rng.randint(line + 14, side), rng.randint(60, 200)
        painter.line((x, y, x + long, y), fill=mix(ground[1], ground[0], rng.uniform(0.2, 0.6)), width=2)
    _top(painter, side, line, ground)


def _desk(painter, rng, side, line, ground) -> None:
    _counter(painter, rng, side, line, ground)
    x, y = rng.randint(0, side // 2), rng.randint(line + 60, side - 120)
    sheet = ((x, y), (x + 170, y - 14), (x + 210, y + 90), (x + 20, y + 108))
    painter.polygon(sheet, fill=(250, 249, 242), outline=mix(ground[1], (90, 60, 30), 0.5))
    for row in range(4):
        painter.line((x + 32, y + 22 + 18 * row, x + 150, y + 12 + 18 * row), fill=(190, 196, 210), width=3)


def _cloth(painter, rng, side, line, ground) -> None:
    """Paint a checked tablecloth, seen from a seat at the table."""
    colour, shift = rng.choice(((214, 86, 80), (92, 136, 190), (110, 160, 110))), rng.randint(0, 40)
    rows, y, high = [], line, 16
    while y < side:
        rows.append((y, min(side, y + high)))
        y, high = y + high, high + 8
    vanishing, step = line - side // 2, side // 9
    for number, (top, low) in enumerate(rows):
        for place, x in enumerate(range(-side + shift, 2 * side, step)):
            share = {0: 0.0, 1: 0.3, 2: 0.55}[(number % 2) + (place % 2)]
            if share:
                corners = [
                    (side // 2 + (edge - side // 2) * (at - vanishing) // (side - vanishing), at)
                    for edge, at in ((x, top), (x + step, top), (x + step, low), (x, low))
                ]
                painter.polygon(corners, fill=mix(ground[0], colour, share))
    _top(painter, side, line, ground)


BACKDROPS = {
    "plain": _plain,
    "hills": _hills,
    "trees": _trees,
    "skyline": _skyline,
    "night": _night,
    "room": _room,
    "tiles": _tiles_wall,
    "dunes": _dunes,
    "acacias": _acacias,
    "deep": _deep,
    "blinds": _blinds,
    "lamps": _lamps,
}
PATTERNS = {
    "sand": _sand,
    "grass": _grass,
    "snow": _snow,
    "road": _road,
    "stones": _stones,
    "boards": _boards,
    "tiles": _tiles,
    "counter": _counter,
    "desk": _desk,
    "cloth": _cloth,
}
