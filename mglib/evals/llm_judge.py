"""A language model as judge: which of two answers meets a request better, asked in both orders.

The judge does not see the picture; it is told what the picture shows. Only a win in both orders counts, since
such judges favour the answer that comes first (Zheng et al. 2023, arXiv 2306.05685, section 3.4).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mglib.curation.rewrite import ask_all
from mglib.data.specials import Special
from mglib.metrics import Estimate, mean

Ask = Callable[[list[dict[str, str]]], str]  # an endpoint's `complete`

PROMPT = """You compare two answers to a request about a picture. You cannot see the picture; what it shows \
is written below. The better answer does what was asked, names what is in the picture, and invents nothing \
that is not there. How long an answer is does not matter.

The picture: {facts}
The request: {request}

Answer A:
{a}

Answer B:
{b}

Reply with one word: A if answer A is better, B if answer B is better, or TIE."""
VERDICT = re.compile(
    r"\W*(?:(?:the )?(?:verdict|better answer|winner)(?: is)?\W+)?(?:answer )?(a|b|tie)\W*", re.I
)
OUTCOMES = ("first", "second", "tie", "inconsistent", "unparsed")


@dataclass(frozen=True)
class Duel:
    """Two answers to one request, and what is known of the picture."""

    request: str
    facts: str
    first: str
    second: str

    @property
    def turned(self) -> "Duel":
        """The same with the answers in the other order."""
        return Duel(self.request, self.facts, self.second, self.first)


def messages(duel: Duel) -> list[dict[str, str]]:
    """Return the messages that ask about a duel, its first answer as A."""
    content = PROMPT.format(facts=duel.facts, request=duel.request, a=duel.first, b=duel.second)
    return [{"role": "user", "content": content}]


def verdict(reply: str | None) -> str | None:
    """Read "a", "b" or "tie" out of a reply that says nothing else; None where it says anything else."""
    found = VERDICT.fullmatch((reply or "").strip())
    return found[1].lower() if found else None


def outcome(straight: str | None, turned: str | None) -> str:
    """Put the verdicts of both orders together, as one of OUTCOMES."""
    if straight is None or turned is None:
        return "unparsed"
    wins = {("a", "b"): "first", ("b", "a"): "second", ("tie", "tie"): "tie"}
    return wins.get((straight, turned), "inconsistent")


def compare(ask: Ask, duels: Sequence[Duel], *, workers: int = 1) -> list[str]:
    """Return the outcome of each duel; raises rewrite.RewriteError when some could not be asked.

    What an endpoint has answered it keeps, by everything that was asked, so a second call costs nothing.
    """
    asked = [messages(one) for duel in duels for one in (duel, duel.turned)]
    read = [verdict(reply) for reply in ask_all(ask, asked, what="comparisons", workers=workers)]
    return [outcome(*pair) for pair in zip(read[::2], read[1::2], strict=True)]


def rates(outcomes: Sequence[str]) -> dict[str, Estimate | None]:
    """Return the share of each of OUTCOMES over the pictures."""
    return {name: mean([float(one == name) for one in outcomes]) for name in OUTCOMES}


def facts(picture: Special) -> str:
    """Write what a special picture shows, for a judge that cannot see it."""
    things = [*picture.names, *dict.fromkeys(prop.name for prop in picture.props)]
    told = {"place": picture.setting, "things": ", ".join(things), **picture.truth}
    plain = {name: ", ".join(value) if isinstance(value, list) else value for name, value in told.items()}
    return "; ".join(f"{name}: {value}" for name, value in plain.items() if value)
