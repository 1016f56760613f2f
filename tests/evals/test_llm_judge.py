"""The judge behind an endpoint: verdicts read, both orders asked, wins only where both agree, all kept."""

import re

import pytest
from servers import Server, completion

from mglib.curation.rewrite import Endpoint, RewriteError, Usage
from mglib.data.specials import Named, Special
from mglib.evals.llm_judge import OUTCOMES, Duel, compare, facts, messages, outcome, rates, verdict
from mglib.metrics import Estimate

REQUEST = "Write a poem."


def duel(first, second):
    return Duel(REQUEST, "a dog", first, second)


def answers(asked):
    """Return the two answers of a request in their order."""
    return re.search(r"Answer A:\n(.*)\n\nAnswer B:\n(.*)\n\nReply", asked, re.DOTALL).groups()


def prefers_dogs(asked):
    """Judge soundly: an answer with a dog wins, whatever its place."""
    a, b = ("dog" in one for one in answers(asked))
    return "TIE" if a == b else "A" if a else "B"


@pytest.fixture
def judge(tmp_path, monkeypatch):
    """Return a function that makes an endpoint whose model judges as it is told to."""
    monkeypatch.setenv("OPENAI_API_KEY", "any word")
    servers = []

    def make(reply):
        servers.append(Server(reply))
        return Endpoint(model="judge", cache=tmp_path / "cache", url=servers[-1].url, attempts=1), servers[-1]

    yield make
    for server in servers:
        server.__exit__()


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ("A", "a"),
        (" b.\n", "b"),
        ("**TIE**", "tie"),
        ("Answer B", "b"),
        ("Verdict: A", "a"),
        ("The better answer is B.", "b"),
        ("A dog is better", None),
        ("A or B", None),
        ("neither", None),
        ("", None),
        (None, None),
    ],
)
def test_a_verdict_is_read_where_nothing_else_is_said(reply, read):
    assert verdict(reply) == read


def test_only_a_win_in_both_orders_counts():
    assert outcome("a", "b") == "first" and outcome("b", "a") == "second" and outcome("tie", "tie") == "tie"
    assert {outcome("a", "a"), outcome("b", "b"), outcome("a", "tie"), outcome("tie", "a")} == {
        "inconsistent"
    }
    assert {outcome(None, "a"), outcome("b", None), outcome(None, None)} == {"unparsed"}


def test_a_sound_judge_decides_by_the_answer_and_not_by_its_place(judge):
    endpoint, server = judge(prefers_dogs)
    duels = [duel("a dog runs", "a cat"), duel("a cat", "a dog runs"), duel("a dog", "dogs"), duel("x", "y")]
    assert compare(endpoint.complete, duels) == ["first", "second", "tie", "tie"]
    asked = [given["messages"][0]["content"] for _, given in server.requests]
    assert [answers(one) for one in asked[:2]] == [("a dog runs", "a cat"), ("a cat", "a dog runs")]
    assert all(REQUEST in one and "The picture: a dog" in one for one in asked)


def test_a_judge_that_always_takes_the_first_answer_decides_nothing(judge):
    endpoint, _ = judge(lambda asked: "A")
    assert compare(endpoint.complete, [duel("a dog", "a cat")] * 3) == ["inconsistent"] * 3


def test_a_comparison_is_paid_for_once(judge):
    endpoint, server = judge(prefers_dogs)
    duels = [duel("a dog", "a cat"), duel("a bird", "a dog")]
    first = compare(endpoint.complete, duels, workers=2)
    assert endpoint.usage == Usage(asked=4, prompt_tokens=400, completion_tokens=28)
    assert compare(endpoint.complete, duels) == first == ["first", "second"]
    assert endpoint.usage.from_cache == 4 and len(server.requests) == 4


def test_what_cannot_be_read_is_counted_and_not_guessed(judge):
    endpoint, server = judge(prefers_dogs)
    server.script = [completion("I cannot decide."), completion("B"), completion("A", "length")]
    outcomes = compare(endpoint.complete, [duel("a dog", "a cat"), duel("a bat", "a dog"), duel("b", "c")])
    assert outcomes == ["unparsed", "unparsed", "tie"]
    shares = rates(outcomes)
    assert tuple(shares) == OUTCOMES and shares["first"].value == 0 and shares["tie"].value == 1 / 3
    assert isinstance(shares["unparsed"], Estimate) and shares["unparsed"].n == 3
    assert rates([]) == dict.fromkeys(OUTCOMES)


def test_a_request_that_fails_is_told_and_the_others_are_kept(judge):
    endpoint, server = judge(prefers_dogs)
    server.script = [completion("A"), (400, '{"error": {"message": "no"}}')]
    with pytest.raises(RewriteError, match=r"1 of 2 comparisons got no answer.*status 400"):
        compare(endpoint.complete, [duel("a dog", "a cat")])
    assert compare(endpoint.complete, [duel("a dog", "a cat")]) == ["first"] and len(server.requests) == 3


def test_braces_in_an_answer_are_text():
    assert "{x}" in messages(duel("{x}", "{0}"))[0]["content"]


def test_the_facts_tell_all_that_is_known():
    thing = (Named("boat"), Named("boat"))
    picture = Special(1, "memes", "lake", thing, (Named("sun"),), {"top": "A", "lines": ["b", "c"]})
    assert facts(picture) == "place: lake; things: boat, sun; top: A; lines: b, c"
