"""The second stage's data (paper, section 3.2): drop by rules, select, let a person look, write with a card.

Everything here judges a text by the text alone; which sentences fit the picture is told from outside, by a
critic that has seen training data only (`mglib.study.curation`). No annotation of the pictures is read, and
neither the code nor the quantities of the evaluation are used, so that what is kept is not chosen by what is
measured later.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy

from mglib.config import WellFormed
from mglib.curation.describe import Description
from mglib.curation.repair import CLOSED, plain, sentences
from mglib.locks import locked
from mglib.paths import hash_json, write_json

NOT_COLLECTED = "not collected"
EDGES = (*range(0, 301, 20), 100_000)  # words; the last bin of a histogram is open
EXAMPLES = 5
STEPS = ("rewriting", "rule", "picture", "selection", "person")  # at which a picture can be dropped, in order

# The paper's examples of what its rewriter left behind, and their kin: a model that talks about itself, about
# the text or about the picture file instead of describing.
DROP_RULES = {
    "made a mistake": re.compile(r"\bI('m| am) sorry,?( but)? I (have )?made a mistake\b", re.I),
    "apologizes": re.compile(r"\b(I|we) (do |must |sincerely )?apologi[sz]e\b|\bmy apologies\b", re.I),
    "sorry": re.compile(r"\bI('m| am) (very |so |really )?sorry\b", re.I),
    "an AI": re.compile(r"\b(as|I('m| am)) an? (AI|artificial intelligence|(large )?language model)\b", re.I),
    "cannot see": re.compile(
        r"\bI('m unable to|'m not able to| cannot| can't| can not| could not| couldn't| am unable to"
        r"| am not able to| do not| don't) "
        r"(see|view|access|open|display|provide|have access)\b",
        re.I,
    ),
    "no picture": re.compile(
        r"\bno (image|picture|photo) (is |was |has been )?(provided|attached|given|shown|uploaded)\b"
        r"|\bplease (provide|upload|share|send)\b.*\b(image|picture|photo|text|paragraph)\b",
        re.I,
    ),
    "talks about the paragraph": re.compile(
        r"\b(corrected|rewritten|revised|given|input|original) (paragraph|version)\b"
        r"|\bparagraph is (already )?(correct|fine)\b|\bno (errors|changes)\b",
        re.I,
    ),
}


APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u2032\u00b4\uff07`", "'"))


def dropped(text: str) -> str | None:
    """Return the first of the hard-coded rules that a text falls under, or None."""
    shown = "".join(sign for sign in text.translate(APOSTROPHES) if unicodedata.category(sign) != "Cf")
    straight = " ".join(shown.split())
    return next((name for name, rule in DROP_RULES.items() if rule.search(straight)), None)


def told_again(text: str) -> float:
    """Return the share of sentences after the first whose words have almost all (80 %) been said before."""
    said = [set(plain(sentence)) for sentence in sentences(text)]
    known: set[str] = set()
    again = 0
    for words in said:
        again += bool(known) and len(words & known) >= 0.8 * len(words)
        known |= words
    return again / max(1, len(said) - 1)


def malformed(text: str, well_formed: WellFormed) -> str | None:
    """Return why a text is not well formed, or None."""
    count = len(plain(text))
    reasons = {
        "empty": count == 0,
        "too short": count < well_formed.min_words,
        "too long": count > well_formed.max_words,
        "too few sentences": len(sentences(text)) < well_formed.min_sentences,
        "tells nothing new": told_again(text) > well_formed.max_told_again,
        "has no end": not CLOSED.search(text),
    }
    return next((name for name, holds in reasons.items() if holds), None)


@dataclass(frozen=True)
class Verdict:
    """What a person decided about one text; `shown` is the text that the person saw."""

    shown: str
    keep: bool
    text: str  # as the person left it


@dataclass(frozen=True)
class Curated:
    """One picture's way: what was generated, what became of it, and where and why it was dropped."""

    description: Description
    text: str
    step: str = "kept"  # or one of STEPS
    reason: str = ""
    verdict: Verdict | None = None  # of a person, on the text as rewritten

    @property
    def rewritten(self) -> str:
        """The text before a person changed it."""
        return self.verdict.shown if self.verdict else self.text


@dataclass(frozen=True)
class Curation:
    """All pictures in order, kept or dropped, and what decided it."""

    pictures: tuple[Curated, ...]
    well_formed: WellFormed
    verdicts: int  # how many a person gave, on whatever text

    @property
    def kept(self) -> list[Curated]:
        return [one for one in self.pictures if one.step == "kept"]


def curate(
    described: Sequence[Description],
    rewritten: Sequence[str | None],
    *,
    fitting: Sequence[str | None] | None = None,
    well_formed: WellFormed | None = None,
    verdicts: Mapping[str, Verdict] | None = None,
) -> Curation:
    """Drop and select among rewritten descriptions; a person's verdicts, where there are some, come last.

    None among the rewritten ones means that the rewriter gave nothing usable back. `fitting`, where a critic
    has looked at the pictures, holds what is left of each text.
    A verdict counts for the very text that the person saw: after a change the text is as good as not seen,
    and the card counts it. What nobody looked at is kept.
    """
    well_formed = well_formed or WellFormed()
    seen: set[str] = set()
    pictures = []
    for description, whole, text in zip(described, rewritten, fitting or rewritten, strict=True):
        step, reason = judge(whole, text or "", well_formed, seen)
        text = text or ""
        seen.add(text)
        verdict = verdict_on(verdicts, description.image_id, text) if step == "kept" else None
        if verdict:
            text = verdict.text
            step, reason = ("kept", "") if verdict.keep else ("person", "rejected")
        pictures.append(Curated(description, text, step, reason, verdict))
    return Curation(tuple(pictures), well_formed, len(verdicts or ()))


def judge(whole: str | None, text: str, well_formed: WellFormed, seen: set[str]) -> tuple[str, str]:
    """Return the step that ends a text's way, and why; `text` is what fits the picture of the whole."""
    if whole is None:
        return "rewriting", "no usable answer"
    if rule := dropped(whole):
        return "rule", rule
    if whole and not text:
        return "picture", "no sentence fits it"
    if fault := malformed(text, well_formed):
        return "selection", fault
    return ("selection", "said of another picture too") if text in seen else ("kept", "")


def verdict_on(verdicts: Mapping[str, Verdict] | None, image_id: str, text: str) -> Verdict | None:
    """Return a person's verdict on exactly this text."""
    verdict = (verdicts or {}).get(image_id)
    return verdict if verdict and verdict.shown == text else None


def funnel(curation: Curation) -> dict[str, int]:
    """Count the pictures that are left after each step."""
    left = {"generated": len(curation.pictures)}
    for step in STEPS:
        dropped_here = sum(one.step == step for one in curation.pictures)
        left[f"after {step}"] = list(left.values())[-1] - dropped_here
    return left


def card(curation: Curation, about: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a curation: how many at each step, why dropped, lengths, examples before and after.

    `about` is put in front: model, decoding, seed, rewriter, whatever it was made with.
    """
    pictures, kept = curation.pictures, curation.kept
    reasons = {
        step: dict(Counter(one.reason for one in pictures if one.step == step).most_common())
        for step in STEPS
    }
    texts = {
        "generated": [one.description.text for one in pictures],
        "rewritten": [one.rewritten for one in pictures],
        "kept": [one.text for one in kept],
    }
    return {
        "about": dict(about),
        "steps": {
            "generated": len(pictures),
            "continued": sum(one.description.continued for one in pictures),
            "changed": sum(one.rewritten != one.description.text for one in pictures),
            **{f"dropped by {step}": sum(found.values()) for step, found in reasons.items()},
            "kept": len(kept),
        },
        "dropped": reasons,
        "well formed": asdict(curation.well_formed),
        "human pass": human_pass(curation),
        "lengths": {
            "unit": "words",
            "edges": list(EDGES),
            **{name: lengths(group) for name, group in texts.items()},
        },
        "examples": {
            "kept": [example(one) for one in kept[:EXAMPLES]],
            "dropped": [example(one) for one in pictures if one.step != "kept"][:EXAMPLES],
        },
    }


def lengths(texts: Sequence[str]) -> list[int]:
    """Count texts by their number of words, in bins between EDGES."""
    return numpy.histogram([len(text.split()) for text in texts], bins=EDGES)[0].tolist()


def human_pass(curation: Curation) -> str | dict[str, int]:
    """Tell what a person decided; where nobody has looked, that it was not collected."""
    if not curation.verdicts:
        return NOT_COLLECTED
    reached = [one for one in curation.pictures if one.step in ("kept", "person")]
    seen = [one.verdict for one in reached if one.verdict]
    kept = [verdict for verdict in seen if verdict.keep]
    edited = sum(verdict.text != verdict.shown for verdict in kept)
    return {
        "looked at": len(seen),
        "accepted": len(kept) - edited,
        "edited": edited,
        "rejected": len(seen) - len(kept),
        "not looked at": len(reached) - len(seen),
        "verdicts on other texts": curation.verdicts - len(seen),
    }


def example(one: Curated) -> dict[str, str]:
    """Return one picture's text before and after."""
    shown = {"image_id": one.description.image_id, "before": one.description.text, "after": one.text}
    return shown if one.step == "kept" else {**shown, "dropped": f"{one.step}: {one.reason}"}


def write(
    curation: Curation, pictures: Iterable[tuple[str, bytes]], root: Path, about: Mapping[str, Any]
) -> Path:
    """Write what was kept in the official format and return its folder, which is named by its content.

    `filter_cap.json`, `image/ID.jpg` and `card.json`; `pictures` gives ids with the bytes of JPEG files,
    which are copied as they are. A folder that is already there has the same content and is left alone.
    Raises ValueError when a kept picture is missing or nothing was kept.
    """
    if not curation.kept:
        raise ValueError(
            "Nothing was kept; `card(curation, {})['dropped']` says why. Train stage 1 longer, or loosen "
            "WellFormed."
        )
    captions = {one.description.image_id: one.text for one in curation.kept}
    told = card(curation, about)
    root.mkdir(parents=True, exist_ok=True)
    with locked(root), TemporaryDirectory(dir=root, prefix=".curating-") as name:
        folder = Path(name) / "whole"
        hashes = write_pictures(pictures, captions, folder / "image")
        annotations = [{"image_id": one, "caption": caption} for one, caption in captions.items()]
        write_json(folder / "filter_cap.json", {"annotations": annotations})
        write_json(folder / "card.json", told)
        target = root / f"cc_sbu_align-{hash_json([annotations, hashes, told])}"
        if not target.exists():
            folder.replace(target)
    return target


def write_pictures(
    pictures: Iterable[tuple[str, bytes]], wanted: Mapping[str, str], folder: Path
) -> dict[str, str]:
    """Copy the wanted pictures as ID.jpg; returns the SHA-256 of each."""
    folder.mkdir(parents=True)
    hashes = {}
    for image_id, content in pictures:
        if image_id in wanted:
            (folder / f"{image_id}.jpg").write_bytes(content)
            hashes[image_id] = sha256(content).hexdigest()
    missing = sorted(set(wanted) - set(hashes))
    if missing:
        raise ValueError(
            f"{len(missing)} kept pictures are not among those given, the first is {missing[0]}."
        )
    return hashes
