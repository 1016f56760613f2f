"""What the small world is made of: the lists of data/world, read only here.

They are meant to be used with the module's name: `catalog.THINGS["dog"]`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, StringConstraints, TypeAdapter, ValidationError

from mglib.mentions import Vocabulary
from mglib.metrics import plural, read_rows
from mglib.paths import DATA

FOLDER = DATA / "world"
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
Row = TypeVar("Row", bound="Thing | Prop | Setting")
STANDS = ("ground", "pole", "water", "sky", "swim")
Colour = tuple[int, int, int]
Phrases = Sequence[tuple[str, int]]  # (text, weight)


def split(cell: str) -> tuple[str, ...]:
    """Split a cell at its bars: "a|b"."""
    return tuple(part.strip() for part in cell.split("|") if part.strip())


def symbol(cell: str) -> str:
    """Return the characters of a glyph: "1F9D1-200D-1F373"."""
    return "".join(chr(int(part, 16)) for part in cell.split("-"))


def _colours(cell: str) -> list[tuple[int, ...]] | None:
    return [tuple(bytes.fromhex(part.removeprefix("#"))) for part in cell.split()] or None


Filled = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Parts = Annotated[tuple[str, ...], BeforeValidator(split)]  # "a|b"
Some = Annotated[Parts, Field(min_length=1)]
Glyph = Annotated[str, BeforeValidator(symbol)]
Gradient = Annotated[tuple[Colour, Colour], BeforeValidator(_colours)]  # "#aabbcc #ddeeff"


@dataclass(frozen=True, kw_only=True)
class Thing:
    """An object that captions name; `size` is its height at the front as a share of the picture's height."""

    name: Filled
    plural: Filled
    article: Filled  # "a", "an", or a measure such as "a pair of"
    coco: str  # the category as COCO spells it; empty if COCO has none
    coco_id: Annotated[int, Field(ge=1, le=199)]  # 1..90 where COCO has the category, else from 101 on
    supercategory: Filled
    glyph: Glyph  # the character(s) of the font
    aspect: Annotated[float, Field(ge=0.1, le=6)]  # width / height of its box
    size: Annotated[float, Field(ge=0.05, le=0.6)]
    stands: Literal["ground", "pole", "water", "sky", "swim"]
    places: Some  # kinds of setting where it may be
    verbs: Some
    split: Literal["train", "new"]
    synonyms: Parts  # words of people's captions that mean it; our captions do not use them
    mirror: bool  # may be drawn flipped
    most: Annotated[int, Field(ge=1, le=3)] = 1  # how many of it one picture may have

    @property
    def phrase(self) -> str:
        """The object with its article: "an umbrella", "a pair of scissors"."""
        return f"{self.article} {self.name}"

    @property
    def known(self) -> str:
        """The object with the definite article: "the dog", "the pair of scissors"."""
        return f"the {self.phrase.partition(' ')[2]}"

    @property
    def category(self) -> str:
        """Its name among the categories of instances.json: COCO's if there is one, else our own."""
        return self.coco or self.name

    @property
    def words(self) -> tuple[str, ...]:
        """Every way to say it: name, plural, synonyms and their plurals.

        COCO's "orange" is not among them, since the word is more often a colour; our fruit is a tangerine.
        """
        more = (form for synonym in self.synonyms for form in (synonym, plural(synonym)))
        return tuple(dict.fromkeys((self.name, self.plural, *more)))

    def counted(self, count: int) -> str:
        """Return the object with a count: "a sheep", "three sheep", "two pairs of scissors"."""
        if count == 1:
            return self.phrase
        measure = self.article.removeprefix("a ").removesuffix(" of")
        plural = self.plural if measure in ("a", "an") else f"{measure}s of {self.name}"
        return f"{NUMBERS[count]} {plural}"


@dataclass(frozen=True, kw_only=True)
class Prop:
    """A piece of scenery behind the objects; `smallest` and `largest` are shares of the picture's height."""

    name: Filled
    plural: Filled
    glyph: Glyph
    aspect: Annotated[float, Field(ge=0.1, le=5)]
    smallest: Annotated[float, Field(ge=0.03, le=0.6)]
    largest: Annotated[float, Field(ge=0.03, le=0.6)]
    stands: Literal["ground", "horizon", "sky", "wall"]
    most: Annotated[int, Field(ge=1, le=5)]  # how many of it one picture may have

    def counted(self, count: int) -> str:
        """Return the scenery with a count: "a palm tree", "two clouds", "the sun", "some wheat"."""
        if self.name in ("sun", "moon"):
            return f"the {self.name}"
        if self.name == self.plural:
            return f"some {self.name}"
        if count > 1:
            return f"{NUMBERS[count]} {self.plural}"
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A place: from the top the sky (or wall) to `horizon`, water (if any) to `shore`, then the ground."""

    name: Filled
    noun: Filled
    phrases: Some  # "on the beach"
    kinds: Some
    sky: Gradient  # top and bottom
    water: Annotated[tuple[Colour, Colour] | None, BeforeValidator(_colours)]
    ground: Gradient
    horizon: Annotated[float, Field(ge=0.2, le=0.8)]  # share of the height, from the top
    shore: Annotated[float, Field(ge=0.2, le=0.8)]  # the same; equals `horizon` without water
    pattern: Filled  # what is painted on the ground
    backdrop: Filled  # what is painted against the sky
    props: Some
    scale: Annotated[float, Field(ge=0.5, le=2)] = 1.0  # of the objects: a table top is seen from close up
    signs: Parts = ()  # what a signboard may say here

    @property
    def indoors(self) -> bool:
        """Whether the backdrop is a wall."""
        return self.backdrop in ("room", "tiles", "blinds", "lamps")

    @property
    def outdoors(self) -> bool:
        """Whether there is a sky; under water there is none."""
        return not self.indoors and self.backdrop != "deep"


def read(path: Path, shape: Any) -> tuple[Any, ...]:
    """Read a CSV as rows of a shape; raises ValueError that names the file, the line and what is wrong."""
    found, fit = [], TypeAdapter(shape)
    for line, row in enumerate(read_rows(path), start=2):
        try:
            if None in row or None in row.values():
                raise ValueError("it has too many or too few cells")
            found.append(fit.validate_python(row))
        except ValueError as error:
            raise ValueError(f"{path.name} line {line} is broken: {_why(error)}. Mend that row.") from error
    return tuple(found)


def _why(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    fault = error.errors()[0]
    return f"column {fault['loc'][0]} is {fault['input']!r}: {fault['msg']}"


class Rows(dict[str, Row]):
    """The rows of a list of data/world by name; raises ValueError for an unknown name."""

    def __init__(self, kind: str, shape: type[Row]) -> None:
        self.file = FOLDER / f"{kind}.csv"
        super().__init__((row.name, row) for row in read(self.file, shape))

    def __missing__(self, name: str) -> Row:
        raise ValueError(f"data/world/{self.file.name} has no row {name!r}.")


THINGS, PROPS, SETTINGS = Rows("objects", Thing), Rows("props", Prop), Rows("settings", Setting)


def names(split: str | None = None) -> list[str]:
    """Return the names of the objects of `split` ("train" or "new"), or of all."""
    return [thing.name for thing in THINGS.values() if split in (None, thing.split)]


def flies(name: str) -> bool:
    """Tell whether an object or a prop flies or swims, so that it may be above another."""
    row = THINGS.get(name) or PROPS[name]
    return row.stands in ("sky", "swim")


@cache
def at_home(setting: Setting) -> tuple[Thing, ...]:
    """Return the objects that may be in `setting`; what floats needs water."""
    return tuple(
        thing
        for thing in THINGS.values()
        if set(thing.places) & set(setting.kinds) and (thing.stands != "water" or setting.water)
    )


def vocabulary(*more: Path, scenery: bool = False, only: Iterable[str] | None = None) -> Vocabulary:
    """Return the vocabulary of all objects, of scenery on request, and of more such lists; or `only` some."""
    props = [FOLDER / "props.csv"] if scenery else []
    return Vocabulary.read(FOLDER / "objects.csv", *props, *more, only=only)


@dataclass(frozen=True)
class _Phrase:
    kind: Filled
    text: Filled
    weight: Annotated[int, Field(ge=1, le=100)]


@cache
def wording(name: str = "") -> dict[str, Phrases]:
    """Read data/world/phrases_<name>.csv, or phrases.csv: kind -> phrases."""
    phrases: dict[str, Phrases] = {}
    for row in read(FOLDER / (f"phrases_{name}.csv" if name else "phrases.csv"), _Phrase):
        phrases[row.kind] = (*phrases.get(row.kind, ()), (row.text, row.weight))
    return phrases


def choose(rng: Random, phrases: Phrases) -> str:
    """Draw one of the phrases by weight."""
    texts, weights = zip(*phrases, strict=True)
    return rng.choices(texts, weights)[0]
