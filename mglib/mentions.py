"""Which objects a text says are there, by name, plural and synonym.

Negated objects ("no cat", "without a dog"), verbs that look like a name ("ties his shoes") and set phrases
("a bird's-eye view") do not count. data/evaluation/mentions.csv is a labelled list of such sentences.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cache
from itertools import accumulate
from pathlib import Path

from mglib.metrics import Counts, plural, read_rows, words
from mglib.paths import DATA

COMPOUNDS = DATA / "evaluation" / "compounds.csv"
WORDS = DATA / "evaluation" / "words.csv"
Span = tuple[int, int, str]  # first token, the token after the last, object
TOKEN = re.compile(r"[a-z0-9]+|[.,;:!?]")  # words, split at hyphens and apostrophes, and punctuation


@cache
def word_lists() -> dict[str, dict[str, tuple[str, ...]]]:
    """Read the lists of data/evaluation/words.csv: list -> name ("" if the list has none) -> words."""
    found: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
    for row in read_rows(WORDS):
        found[row["list"]][row["name"]] = tuple(row["words"].split("|"))
    return found


def word_list(name: str) -> tuple[str, ...]:
    """Return a list that has no names."""
    return word_lists()[name][""]


# Negation, in a text whose objects are replaced with @ ("isn't" is "isn t").
ADJECTIVES = (
    r"(?:(?!(?:one|doubt|longer|only|fewer|less|need|and|but|that|is|are|has|of|in|on|with|to|at|by|for|from"
    r"|above|below|under|over|behind|beside|near)\b)[a-z]+ ){0,2}"
)
THING = rf"(?:(?:an?|any|single|the|its|his|her|their) )*{ADJECTIVES}@"
THINGS = rf"{THING}(?:(?: , {ADJECTIVES}@)*(?: ,)? (?:or|nor) {THING})?"
SHOWN = (
    "see|show|contain|have|include|feature|depict|notice|find|spot|wear|wearing|hold|holding|carry|carrying"
)
DENIED = re.compile(
    rf"\b(?:no|without|neither|nor|lacks|lacking|instead of|rather than) {THINGS}"
    rf"|\b(?:sign|trace|evidence|lack|absence|free|empty|devoid) of {THINGS}"
    rf"|\b(?:not|t|never|cannot) (?:(?:{SHOWN}) (?:an? |any )?|an? single |an? |any ){ADJECTIVES}@"
    rf"(?: (?:or|nor) {THING})?"
    r"|@ (?:is|are|was|were) (?:absent|missing|nowhere)"
    r"|@ (?:is|are|was|were|isn|aren|wasn|weren) (?:not|t) (?:visible|present|there|shown|seen|pictured)"
)
# Names that are also verbs; words before and after a verb, and before a noun.
VERBS = word_list("names that are verbs")
THIRD_PERSON = list(map(plural, VERBS))
HELPERS, POSSESSIVES = word_list("helping verbs"), word_list("possessives")
BEHIND_VERB = POSSESSIVES + word_list("behind a verb")
BEFORE_NOUN = POSSESSIVES + word_list("before a noun")


# A phrase that introduces something: after an article or a number, or a proper name.
INTRODUCE, NO_THINGS = word_list("introduce a thing"), frozenset(word_list("no things"))
_END = "|".join(word_list("end its name") + INTRODUCE)
INTRODUCED = re.compile(rf"\b(?:{'|'.join(INTRODUCE)})\b((?:,? (?!(?:{_END})\b)[a-z][a-z'-]*){{1,5}})", re.I)
PROPER = re.compile(r"(?<=[a-z,] )([A-Z][a-z]+(?: [A-Z][a-z]+)*)")


def introduced(text: str) -> list[str]:
    """Return the phrases by which a text introduces objects, by rules without a grammar: "a small turkey",
    "two dogs", "Dorchester County"; not "a picture" or "a group", which are no visible objects.
    """
    found = [match[1].strip() for rule in (INTRODUCED, PROPER) for match in rule.finditer(text)]
    return [phrase for phrase in found if set(words(phrase)) - NO_THINGS]


class Vocabulary:
    """The forms by which objects can be mentioned: names, plurals and synonyms, longer ones first."""

    def __init__(
        self,
        names: Mapping[str, Iterable[str]],
        compounds: dict[str, str] | None = None,
        only: Iterable[str] | None = None,
    ) -> None:
        """`names` maps an object to all its surface forms.

        `compounds` are phrases that contain an object's name and mean another object, or ("") none. The forms
        of objects not in `only` are not reported, but still hide the names that they contain.
        """
        self.forms: dict[tuple[str, ...], str] = {}
        for phrase, meant in (compounds or {}).items():
            for form in (phrase, plural(phrase)):
                self.forms[tuple(words(form))] = meant if meant in names else ""
        self.forms |= {tuple(words(form)): name for name, forms in names.items() for form in forms}
        if only is not None:
            kept = frozenset(only)
            self.forms = {form: name if name in kept else "" for form, name in self.forms.items()}
        self.longest = max(map(len, self.forms))

    @classmethod
    def read(cls, *paths: Path, only: Iterable[str] | None = None) -> "Vocabulary":
        """Read CSVs with the columns name and plural, and optionally coco and synonyms (split by "|", each
        also with its plural).

        An object is named by its COCO category if it has one, else by its name. Rows of one name are merged.
        """
        names: dict[str, list[str]] = {}
        for row in (row for path in paths for row in read_rows(path)):
            synonyms = [synonym for synonym in row.get("synonyms", "").split("|") if synonym]
            forms = [row["name"], row["plural"], *synonyms, *map(plural, synonyms)]
            names.setdefault(row.get("coco") or row["name"], []).extend(forms)
        return cls(names, {row["phrase"]: row["means"] for row in read_rows(COMPOUNDS)}, only)

    @property
    def names(self) -> frozenset[str]:
        """All objects that can be mentioned."""
        return frozenset(self.forms.values()) - {""}

    def spans(self, tokens: Sequence[str]) -> list[Span]:
        """Return each name among tokens, even if negated; the longest wins: "teddy bear" is no bear."""
        found, place = [], 0
        while place < len(tokens):
            for length in range(self.longest, 0, -1):
                form = tuple(tokens[place : place + length])
                if len(form) == length and form in self.forms:
                    found.append((place, place + length, self.forms[form]))
                    place += length
                    break
            else:
                place += 1
        return [span for span in found if span[2]]

    def named(self, text: str) -> list[tuple[int, str]]:
        """Return each object that a text says is there, with the index of the word that names it."""
        tokens = TOKEN.findall(text.lower())
        spans = [span for span in self.spans(tokens) if not is_verb(tokens, span)]
        absent = denied(tokens, spans)
        place = [0, *accumulate(token.isalnum() for token in tokens)]  # among words, without punctuation
        return [(place[start], name) for start, end, name in spans if (start, end, name) not in absent]

    def mentions(self, text: str) -> list[str]:
        """Return the objects that a text says are there, in order, with repetitions."""
        return [name for _, name in self.named(text)]


def denied(tokens: Sequence[str], spans: Sequence[Span]) -> set[Span]:
    """Return the objects that a text says are not there."""
    starts = {start: end for start, end, _ in spans}
    inside = {place for start, end in starts.items() for place in range(start + 1, end)}
    line = " ".join("@" if at in starts else token for at, token in enumerate(tokens) if at not in inside)
    found: set[Span] = set()
    for match in DENIED.finditer(line):
        first = line.count("@", 0, match.start())
        found.update(spans[first : first + match[0].count("@")])
    return found


def is_verb(tokens: Sequence[str], span: Span) -> bool:
    """Tell whether a name is used as a verb: "ties his shoes", "she trains", "to bear the load"."""
    start, end, _ = span
    word, before = tokens[start], tokens[start - 1] if start else ""
    behind = tokens[end] if end < len(tokens) else ""
    if end - start > 1:
        return False
    if word in VERBS:
        return (
            before in HELPERS
            or before in ("i", "you", "we", "they")
            or (before == "to" and behind in BEHIND_VERB)
            or (behind in POSSESSIVES and before.isalpha() and before not in BEFORE_NOUN)
        )
    if word not in THIRD_PERSON:
        return False
    subject = before in ("he", "she", "it", "who")
    return subject or (behind in BEHIND_VERB and before.isalpha() and before not in BEFORE_NOUN)


def object_counts(
    mentioned: Sequence[Sequence[str]], truths: Sequence[AbstractSet[str]]
) -> dict[str, Counts]:
    """Compare the objects that answers mention with those in the pictures.

    `chair_i`: hallucinated mentions / all mentions, pooled as in Rohrbach et al. 2018;
    `mention_precision`: objects named that are there / objects named, each object once per picture;
    `mention_recall`: objects there that are named / objects there.
    """
    wrong = [sum(name not in truth for name in names) for names, truth in zip(mentioned, truths, strict=True)]
    right = [len(set(names) & truth) for names, truth in zip(mentioned, truths, strict=True)]
    return {
        "chair_i": Counts(wrong, [len(names) for names in mentioned]),
        "mention_precision": Counts(right, [len(set(names)) for names in mentioned]),
        "mention_recall": Counts(right, [len(truth) for truth in truths]),
    }
