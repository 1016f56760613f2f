"""What the small world is made of: the rows of data/world/*.csv as frozen dataclasses."""

import csv
import re
import string
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from mglib.paths import ROOT

FOLDER = ROOT / "data" / "world"
STANDS = ("ground", "pole", "water", "sky", "swim")
BACKDROPS = (
    "plain",
    "hills",
    "trees",
    "skyline",
    "night",
    "room",
    "tiles",
    "dunes",
    "acacias",
    "deep",
    "blinds",
    "lamps",
)
PATTERNS = ("sand", "grass", "snow", "road", "stones", "boards", "tiles", "counter", "desk", "cloth")
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
KINDS = (  # of phrases, each of which is asked for somewhere
    "laion",
    "laion place",
    "laion empty",
    "cc_sbu",
    "cc_sbu place",
    "cc_sbu empty",
    "web relation",
    "again",
    "again empty",
    "filler",
    "reference",
    "reference plain",
    "reference relation",
    "reference relation plain",
    "extra",
    "sign",
    "place sky",
    "place water",
    "place swim",
    "left of",
    "right of",
    "above",
    "below",
    "in front of",
    "behind",
    "meme",
    "dish",
    "product",
    "landscape",
    "sketch",
    "unusual",
    "note",
)
SLOTS = (  # what a phrase may have filled in
    "objects",
    "bare",
    "tags",
    "plural",
    "posed",
    "first",
    "rest",
    "with_rest",
    "place",
    "noun",
    "a",
    "b",
    "posed_a",
    "relation",
    "be",
    "be_a",
    "text",
    "top",
    "bottom",
    "dish",
    "ingredients",
    "product",
    "brand",
    "slogan",
    "mood",
    "weather",
    "title",
    "parts",
    "impossible",
)
Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Thing:
    """An object that captions name; `size` is its height at the front as a share of the picture's height."""

    name: str
    plural: str
    article: str  # "a", "an", or a measure such as "a pair of"
    coco: str  # the category as COCO spells it; empty if COCO has none
    coco_id: int  # 1..90 where COCO has the category, from 101 on where it has not
    supercategory: str
    glyph: str  # the character(s) of the font
    aspect: float  # width / height of its box
    size: float
    stands: str  # ground | pole | water | sky
    places: tuple[str, ...]  # kinds of setting where it may be
    verbs: tuple[str, ...]
    split: str  # train | new
    synonyms: tuple[str, ...]  # words of people's captions that mean it; our own texts do not use them
    mirror: bool  # may be drawn flipped
    most: int = 1  # how many of it one picture may have

    @property
    def phrase(self) -> str:
        """The object with its article: "an umbrella", "a pair of scissors"."""
        return f"{self.article} {self.name}"

    @property
    def category(self) -> str:
        """Its name among the categories of instances.json: COCO's where it has one, else our own."""
        return self.coco or self.name

    @property
    def words(self) -> tuple[str, ...]:
        """Every way to say it: name, plural, synonyms and their plurals.

        COCO's "orange" is not among them, since the word more often is a colour; our fruit is a tangerine.
        """
        more = (form for synonym in self.synonyms for form in (synonym, plural(synonym)))
        return tuple(dict.fromkeys((self.name, self.plural, *more)))

    def counted(self, count: int) -> str:
        """Say how many there are: "a sheep", "three sheep"."""
        return self.phrase if count == 1 else f"{NUMBERS[count]} {self.plural}"


def plural(word: str) -> str:
    """Spell the regular English plural; and that of man and woman. A plural stays as it is."""
    if word.endswith("man"):
        return word[:-2] + "en"
    if word.endswith(("x", "z", "ch", "sh", "ss")):
        return word + "es"
    if word.endswith("s"):
        return word
    return re.sub(r"(?<=[^aeiou])y$", "ie", word) + "s"


@dataclass(frozen=True, kw_only=True)
class Prop:
    """A piece of scenery behind the objects; `smallest` and `largest` are shares of the picture's height."""

    name: str
    plural: str
    glyph: str
    aspect: float
    smallest: float
    largest: float
    stands: str  # ground | horizon | sky | wall
    most: int  # how many of it one picture may have


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A place: from the top the sky (or wall) to `horizon`, water (if any) to `shore`, then the ground."""

    name: str
    noun: str
    phrases: tuple[str, ...]  # "on the beach"
    kinds: tuple[str, ...]
    sky: tuple[Colour, Colour]  # top and bottom of a gradient
    water: tuple[Colour, Colour] | None
    ground: tuple[Colour, Colour]
    horizon: float  # share of the height, from the top
    shore: float  # the same; equals `horizon` without water
    pattern: str  # what is painted on the ground
    backdrop: str  # what is painted against the sky
    props: tuple[str, ...]
    scale: float = 1.0  # of the objects: a table top is seen from nearer than a street
    signs: tuple[str, ...] = ()  # what a signboard may say here


@dataclass(frozen=True, eq=False)  # hashed by identity, since it is a key of many small caches
class Catalog:
    """All objects, props, settings and phrases of the world."""

    things: tuple[Thing, ...]
    props: tuple[Prop, ...]
    settings: tuple[Setting, ...]
    phrases: dict[str, tuple[tuple[str, int], ...]]  # kind -> (text, weight)

    def names(self, split: str | None = None) -> list[str]:
        """Return the names of the objects of `split` ("train" or "new"), or of all."""
        return [thing.name for thing in self.things if split in (None, thing.split)]

    def thing(self, name: str) -> Thing:
        """Return the object called `name`; raises ValueError if there is none."""
        return _named(self._things, name, "object")

    def prop(self, name: str) -> Prop:
        """Return the prop called `name`; raises ValueError if there is none."""
        return _named(self._props, name, "prop")

    def setting(self, name: str) -> Setting:
        """Return the setting called `name`; raises ValueError if there is none."""
        return _named(self._settings, name, "setting")

    def at_home(self, setting: Setting) -> tuple[Thing, ...]:
        """Return the objects that may be in `setting`."""
        return self._at_home[setting.name]

    @cached_property
    def _things(self) -> dict[str, Thing]:
        return {thing.name: thing for thing in self.things}

    @cached_property
    def _props(self) -> dict[str, Prop]:
        return {prop.name: prop for prop in self.props}

    @cached_property
    def _settings(self) -> dict[str, Setting]:
        return {setting.name: setting for setting in self.settings}

    @cached_property
    def _at_home(self) -> dict[str, tuple[Thing, ...]]:
        return {
            setting.name: tuple(thing for thing in self.things if _may_be(thing, setting))
            for setting in self.settings
        }


def _may_be(thing: Thing, setting: Setting) -> bool:
    dry = thing.stands == "water" and setting.water is None
    return not dry and bool(set(thing.places) & set(setting.kinds))


@lru_cache
def load(folder: Path = FOLDER) -> Catalog:
    """Read the four CSV files; raises ValueError that names the file, the line and what is wrong there."""
    phrases: dict[str, tuple[tuple[str, int], ...]] = {}
    for kind, text, weight in rows(folder / "phrases.csv", _phrase):
        phrases[kind] = (*phrases.get(kind, ()), (text, weight))
    catalog = Catalog(
        tuple(rows(folder / "objects.csv", _thing)),
        tuple(rows(folder / "props.csv", _prop)),
        tuple(rows(folder / "settings.csv", _setting)),
        phrases,
    )
    _check(catalog, folder)
    return catalog


def rows(path: Path, parse) -> list:
    parsed = []
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                if None in row or None in row.values():
                    raise ValueError("it has too many or too few cells")
                parsed.append(parse(row))
            except (ValueError, KeyError) as error:
                raise ValueError(f"{path.name} line {number} is broken: {error}. Mend that row.") from error
    return parsed


def _thing(row: dict[str, str]) -> Thing:
    return Thing(
        name=filled(row, "name"),
        plural=filled(row, "plural"),
        article=filled(row, "article"),
        coco=row["coco"].strip(),
        coco_id=int(_number(row, "coco_id", *((1, 90) if row["coco"].strip() else (101, 199)))),
        supercategory=filled(row, "supercategory"),
        glyph=symbol(row),
        aspect=_number(row, "aspect", 0.1, 6),
        size=_number(row, "size", 0.05, 0.6),
        stands=_one_of(row, "stands", STANDS),
        places=parts(filled(row, "places")),
        verbs=parts(filled(row, "verbs")),
        split=_one_of(row, "split", ("train", "new")),
        synonyms=parts(row["synonyms"]),
        mirror=_one_of(row, "mirror", ("yes", "no")) == "yes",
        most=int(_number(row, "most", 1, 3)),
    )


def _prop(row: dict[str, str]) -> Prop:
    return Prop(
        name=filled(row, "name"),
        plural=filled(row, "plural"),
        glyph=symbol(row),
        aspect=_number(row, "aspect", 0.1, 5),
        smallest=_number(row, "smallest", 0.03, 0.6),
        largest=_number(row, "largest", 0.03, 0.6),
        stands=_one_of(row, "stands", ("ground", "horizon", "sky", "wall")),
        most=int(_number(row, "most", 1, 5)),
    )


def _setting(row: dict[str, str]) -> Setting:
    return Setting(
        name=filled(row, "name"),
        noun=filled(row, "noun"),
        phrases=parts(filled(row, "phrases")),
        kinds=parts(filled(row, "kinds")),
        sky=_gradient(row["sky"]),
        water=_gradient(row["water"]) if row["water"] else None,
        ground=_gradient(row["ground"]),
        horizon=_number(row, "horizon", 0.2, 0.8),
        shore=_number(row, "shore", 0.2, 0.8),
        pattern=_one_of(row, "pattern", PATTERNS),
        backdrop=_one_of(row, "backdrop", BACKDROPS),
        props=parts(filled(row, "props")),
        scale=_number(row, "scale", 0.5, 2),
        signs=parts(row["signs"]),
    )


def _phrase(row: dict[str, str]) -> tuple[str, str, int]:
    text = filled(row, "text")
    for _, slot, _, _ in string.Formatter().parse(text):
        if slot is not None and slot not in SLOTS:
            raise ValueError(f"there is no slot {{{slot}}}, only {', '.join(SLOTS)}")
    return _one_of(row, "kind", KINDS), text, int(_number(row, "weight", 1, 100))


def filled(row: dict[str, str], column: str) -> str:
    if not row[column].strip():
        raise ValueError(f"column {column} is empty")
    return row[column].strip()


def _number(row: dict[str, str], column: str, low: float, high: float) -> float:
    value = float(filled(row, column))
    if not low <= value <= high:
        raise ValueError(f"column {column} is {value:g}, outside {low:g} to {high:g}")
    return value


def _one_of(row: dict[str, str], column: str, allowed: tuple[str, ...]) -> str:
    value = filled(row, column)
    if value not in allowed:
        raise ValueError(f"column {column} is {value!r}, not one of {', '.join(allowed)}")
    return value


def parts(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split("|") if part.strip())


def symbol(row: dict[str, str]) -> str:
    return "".join(chr(int(part, 16)) for part in filled(row, "glyph").split("-"))


def _gradient(cell: str) -> tuple[Colour, Colour]:
    colours = [bytes.fromhex(part.removeprefix("#")) for part in cell.split()]
    if [len(colour) for colour in colours] != [3, 3]:
        raise ValueError(f"{cell!r} is not two colours such as '#aabbcc #ddeeff'")
    return tuple(colours[0]), tuple(colours[1])


def _named(rows: dict, name: str, what: str):
    if name not in rows:
        raise ValueError(f"There is no {what} {name!r} in the catalog; it has {', '.join(rows)}.")
    return rows[name]


def _check(catalog: Catalog, folder: Path) -> None:
    for what, rows in (("object", catalog.things), ("prop", catalog.props), ("setting", catalog.settings)):
        names = [row.name for row in rows]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"The {what} {name!r} stands twice in {folder}; keep one of the rows.")
    for kind in KINDS:
        if kind not in catalog.phrases:
            raise ValueError(f"phrases.csv has no phrase of kind {kind!r}; add one.")
    for setting in catalog.settings:
        for name in setting.props:
            catalog.prop(name)
        if (setting.water is None) != (setting.shore == setting.horizon):
            raise ValueError(f"Setting {setting.name!r}: shore differs from horizon exactly if it has water.")
    for prop in catalog.props:
        if prop.name in catalog.names():
            raise ValueError(f"{prop.name!r} is an object and cannot be a prop as well; remove one of them.")
