"""CHAIR with the quirks of the official code (LisaAnne/Hallucination, `utils/chair.py`), as a named mode.

A reimplementation of that code's behaviour. Its quirks: words are singularised by rules that turn "bus" into
"bu" and "ties" into "ty", so both are missed; synonyms with a stray space never match; two-word names are
found only if the code lists them; other compounds are read word by word ("coffee maker" contains a coffee).
CHAIR_i is pooled over mentions in either mode.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mglib.mentions import word_list
from mglib.metrics import read_rows
from mglib.paths import DATA, DOWNLOADS, sha256
from mglib.world import catalog

OFFICIAL, OFFICIAL_RULES = "official", "official_rules"  # with the authors' synonyms, with this study's own
SYNONYMS = DOWNLOADS / "chair" / "synonyms.txt"
SYNONYMS_SHA256 = "b685537b36fe21b791c87151b96a991ceb582edff19f3da204dcc7a7905502f2"
READ_AS = {
    **{name: name for name in word_list("official double words")},
    **{f"{age} {name}": name for age in ("baby", "adult") for name in word_list("official animals")},
    **{f"passenger {name}": name for name in ("jet", "train")},
    "bow tie": "tie",
    "toilet seat": "toilet",
    "wine glas": "wine glass",
}
# A word, a possessive or a punctuation mark, as tokenised by NLTK, which that code uses. Marks are tokens, so
# no two-word name spans a comma or full stop, but "o'clock", "and/or", "dogs,2", "dog.The" are one word each.
TOKEN = re.compile(
    r"'s\b|[\w…]+(?:(?:[-/+=~^|\\]|\.(?!\.)|[,:](?=\d)|'(?!(?:s|m|d|ll|re|ve|t)\b))[\w…]+)*|[^\w\s]"
)
# How Pattern, which that code uses, singularises the nouns of captions: by the first rule that matches.
IRREGULAR = {"people": "person", "children": "child", "geese": "goose", "teeth": "tooth", "feet": "foot"}
UNINFLECTED = frozenset(("scissors", "shears", "news", "series", "species", "headquarters", "doggies"))
SINGULAR = (
    (r"men$", "man"),
    (r"(shoe)s$", r"\1"),
    (r"(o)es$", r"\1"),
    (r"(bus)es$", r"\1"),
    (r"([ml])ice$", r"\1ouse"),
    (r"(x|ch|ss|sh)es$", r"\1"),
    (r"([^aeiouy]|qu)ies$", r"\1y"),
    (r"([aeo]l)ves$", r"\1f"),
    (r"([^d]ea)ves$", r"\1f"),
    (r"([nlw]i)ves$", r"\1fe"),
    (r"([aeo])ves$", r"\1ve"),
    (r"s$", ""),
)


class OfficialVocabulary:
    """COCO's objects as the official code finds them in a text."""

    def __init__(self, groups: Iterable[Sequence[str]]) -> None:
        """Each group is a name and its synonyms, all in the singular."""
        self.owner = {word: group[0] for group in groups for word in group}

    @classmethod
    def read(cls, path: Path) -> "OfficialVocabulary":
        """Read the official `data/synonyms.txt`; raises ValueError if it differs, OSError if missing."""
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is missing: put data/synonyms.txt of LisaAnne/Hallucination there, or use "
                "the study's own list, `OfficialVocabulary.study()`."
            )
        if sha256(path) != SYNONYMS_SHA256:
            raise ValueError(f"{path} is not the official list of synonyms: its SHA-256 is another one.")
        lines = path.read_text(encoding="utf-8").splitlines()
        return cls(line.strip().split(", ") for line in lines if line.strip())

    @classmethod
    def study(cls) -> "OfficialVocabulary":
        """Take COCO's 80 categories and their synonyms from the study's own lists, under the official rules.

        Its results differ from the official code's, which uses the authors' synonyms: see `read`.
        """
        drawn = [[thing.coco, thing.name, *thing.synonyms] for thing in catalog.THINGS.values() if thing.coco]
        absent = [
            [row["coco"], row["name"], *filter(None, row["synonyms"].split("|"))]
            for row in read_rows(DATA / "evaluation" / "coco.csv")
            if row["coco"]
        ]
        return cls([*drawn, *absent, ["person", "baby"]])  # not in the lists: it may be an elephant's

    @property
    def names(self) -> frozenset[str]:
        """All objects that can be mentioned."""
        return frozenset(self.owner.values())

    def mentions(self, text: str) -> list[str]:
        """Return the objects mentioned in a text, in order, repeats included."""
        tokens = [singular(token) for token in TOKEN.findall(text.lower().replace("’", "'"))]
        found, place = [], 0
        while place < len(tokens):
            double = " ".join(tokens[place : place + 2])
            found.append(READ_AS.get(double, tokens[place]))
            place += 2 if double in READ_AS else 1
        if "toilet" in found:
            found = [word for word in found if word != "seat"]
        return [self.owner[word] for word in found if word in self.owner]


def singular(word: str) -> str:
    """Make a word singular as Pattern does, right or wrong."""
    if word in UNINFLECTED or word in IRREGULAR:
        return IRREGULAR.get(word, word)
    for rule, replacement in SINGULAR:
        if re.search(rule, word):
            return re.sub(rule, replacement, word)
    return word


def at_hand() -> str:
    """Return the name of the official rules' reading: *official* only with the authors' own synonyms."""
    return OFFICIAL if SYNONYMS.exists() else OFFICIAL_RULES


def vocabulary(reading: str) -> OfficialVocabulary:
    """Return the vocabulary of a reading; raises FileNotFoundError if the official one lacks the authors'
    synonyms.
    """
    return OfficialVocabulary.read(SYNONYMS) if reading == OFFICIAL else OfficialVocabulary.study()
