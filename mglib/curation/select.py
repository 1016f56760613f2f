"""The second stage's data (paper, section 3.2): drop by rules, select the well-formed, write with a card.

Everything here judges a text by the text alone. No annotation of the pictures is read, and neither the code
nor the metrics of the evaluation are used, so that nothing is selected by what is measured later.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mglib.config import WellFormed
from mglib.curation.describe import Description
from mglib.curation.repair import CLOSED, plain, sentences
from mglib.locks import locked
from mglib.paths import hash_json, write_json

# The steps at which a picture can be dropped, in order.
STEPS = REPAIR, RULES, SELECTION = "repair", "hard-coded rules", "selection"

I_CANNOT = (
    r"\bI('m unable to|'m not able to| cannot| can't| can not| could not| couldn't| am unable to"
    r"| am not able to| do not| don't) "
)
# The paper's examples of what its rewriter left behind, and similar ones: a model that talks about itself,
# the text or the picture file, or declines, instead of describing.
DROP_RULES = {
    "made a mistake": re.compile(r"\bI('m| am) sorry,?( but)? I (have )?made a mistake\b", re.I),
    "apologizes": re.compile(r"\b(I|we) (do |must |sincerely )?apologi[sz]e\b|\bmy apologies\b", re.I),
    "sorry": re.compile(r"\bI('m| am) (very |so |really )?sorry\b|^sorry\b", re.I),
    "an AI": re.compile(r"\b(as|I('m| am)) an? (AI|artificial intelligence|(large )?language model)\b", re.I),
    "cannot see": re.compile(I_CANNOT + r"(see|view|access|open|display|provide|have access)\b", re.I),
    "declines": re.compile(
        I_CANNOT + r"(assist|comply|fulfil+|help (you )?with|describe|identify|analy[sz]e|process)\b", re.I
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
    """Return the first hard-coded rule that a text matches, or None."""
    visible = "".join(sign for sign in text.translate(APOSTROPHES) if unicodedata.category(sign) != "Cf")
    straight = " ".join(visible.split())
    return next((name for name, rule in DROP_RULES.items() if rule.search(straight)), None)


def repetition_ratio(text: str) -> float:
    """Return the share of sentences after the first with at least 80 % of their words said before."""
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
        "too short": count < well_formed.min_words,
        "too long": count > well_formed.max_words,
        "too few sentences": len(sentences(text)) < well_formed.min_sentences,
        "tells nothing new": repetition_ratio(text) > well_formed.max_repetition,
        "has no end": not CLOSED.search(text),
    }
    return next((name for name, holds in reasons.items() if holds), None)


@dataclass(frozen=True)
class Curated:
    """One picture: what was generated, what is left of it, and the step at which it was dropped, and why."""

    description: Description
    text: str
    step: str = "kept"  # or one of STEPS
    reason: str = ""


@dataclass(frozen=True)
class Curation:
    """All pictures of the pool in order, kept or dropped."""

    pictures: tuple[Curated, ...]

    @property
    def kept(self) -> list[Curated]:
        return [one for one in self.pictures if one.step == "kept"]

    @property
    def dropped(self) -> list[Curated]:
        return [one for one in self.pictures if one.step != "kept"]

    @property
    def changed(self) -> list[Curated]:
        """The pictures kept with a changed text."""
        return [one for one in self.kept if one.text != one.description.text]

    def funnel(self) -> dict[str, int]:
        """Count the pictures that are left after each step."""
        left = {"generated": len(self.pictures)}
        for step in STEPS:
            here = sum(one.step == step for one in self.pictures)
            left[f"after {step}"] = list(left.values())[-1] - here
        return left

    def reasons(self) -> dict[str, dict[str, int]]:
        """Count the dropped pictures by step and reason, the most frequent reason first."""
        return {
            step: dict(Counter(one.reason for one in self.pictures if one.step == step).most_common())
            for step in STEPS
        }


def curate(described: Sequence[Description], rewritten: Sequence[str], well_formed: WellFormed) -> Curation:
    """Drop descriptions by rules and select the well-formed ones; each text is kept once.

    `rewritten` holds each description after repair, empty where nothing usable is left.
    """
    known: set[str] = set()
    pictures = []
    for description, text in zip(described, rewritten, strict=True):
        pictures.append(Curated(description, text, *judge(text, well_formed, known)))
        known.add(text)
    return Curation(tuple(pictures))


def judge(text: str, well_formed: WellFormed, known: set[str]) -> tuple[str, str]:
    """Return the step that drops a text, and why; `known` are the texts before it."""
    if not text:
        return REPAIR, "nothing is left"
    if rule := dropped(text):
        return RULES, rule
    if fault := malformed(text, well_formed):
        return SELECTION, fault
    return (SELECTION, "said of another picture too") if text in known else ("kept", "")


def write(
    curation: Curation, pictures: Iterable[tuple[str, bytes]], root: Path, about: Mapping[str, Any]
) -> Path:
    """Write what was kept in the official format and return its folder, which is named by its content.

    The folder holds `filter_cap.json`, `image/ID.jpg`, and `card.json` with `about` and the counts of every
    step; `pictures` gives ids with the bytes of JPEG files, which are copied as they are. A folder that is
    already there has the same content and is left alone. Raises ValueError when a kept picture is missing or
    nothing was kept.
    """
    if not curation.kept:
        raise ValueError(
            f"Nothing was kept; pictures dropped, by step and reason: {curation.reasons()}. Train stage 1 "
            "longer, or loosen WellFormed."
        )
    captions = {one.description.image_id: one.text for one in curation.kept}
    annotations = [{"image_id": image_id, "caption": caption} for image_id, caption in captions.items()]
    card = {"about": dict(about), "steps": curation.funnel(), "dropped": curation.reasons()}
    root.mkdir(parents=True, exist_ok=True)
    with locked(root), TemporaryDirectory(dir=root, prefix=".curating-") as name:
        folder, hashes = Path(name) / "whole", {}
        (folder / "image").mkdir(parents=True)
        for image_id, content in pictures:
            if image_id in captions:
                (folder / "image" / f"{image_id}.jpg").write_bytes(content)
                hashes[image_id] = sha256(content).hexdigest()
        if missing := sorted(captions.keys() - hashes):
            raise ValueError(f"{len(missing)} kept pictures are not among those given, as {missing[0]}.")
        write_json(folder / "filter_cap.json", {"annotations": annotations})
        write_json(folder / "card.json", card)
        target = root / f"cc_sbu_align-{hash_json([annotations, hashes, card])}"
        if not target.exists():
            folder.replace(target)
    return target
