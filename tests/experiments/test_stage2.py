"""Table 3 is computed from the failures of single answers."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tidy import values

from mglib.evals.failures import KINDS
from mglib.experiments import stage2
from mglib.experiments.stage2 import ORACLE, Answers, Variant, decoding_configs, failure_kinds, failures
from mglib.model.prompts import VICUNA, with_image
from mglib.profiles import MINI
from mglib.study.models import PromptedModel
from mglib.study.study import Study

FAULTY, WHOLE = [{"repetition", "off-topic"}, set()], [set(), set()]


@pytest.fixture
def study():
    """Return a study with scene graphs; setting `known` to None makes it one of photographs."""
    found = SimpleNamespace(tests=["test_seen"], profile=MINI, known="scenes")
    found.scenes = lambda name: found.known
    return found


def answered(task, decoding, before, after):
    texts = {"before": ["a a a a", "a dog"], "after": ["a dog sits", "a cat"]}
    found = {"before": before, "after": after}
    return [Answers(task, decoding, when, texts[when], found[when]) for when in texts]


def test_shares_and_cuts_carry_the_names_of_the_paper(study):
    sampled = answered("describe", "", FAULTY, WHOLE)
    found = failures(study, [*sampled, *answered("poem", "greedy", FAULTY, FAULTY[::-1])])
    assert values(found) == {
        "t3.failure.describe.before": 0.5,
        "t3.failure.describe.after": 0,
        "t3.cut.describe": 0.5,
        "t3.half.describe": 0.25,
        "t3.failure.poem.before.greedy": 0.5,
        "t3.failure.poem.after.greedy": 0.5,
        "t3.cut.poem.greedy": 0,
        "t3.half.poem.greedy": -0.25,
    }
    assert list(found["asked"].unique()) == ["descriptions, sampled", "poems, greedy"]


def test_the_cut_is_paired_over_pictures(study):
    found = failures(study, answered("poem", "", [{"empty"}, set()] * 50, [{"fragment"}, set()] * 50))
    (cut,) = found[found.measure == "cut"].itertuples()
    assert cut.high == -cut.low == pytest.approx(0.0362, abs=5e-5)  # pictures are drawn together


def test_off_topic_is_judged_only_where_it_is_known_what_is_there(study):
    answers = answered("describe", "", FAULTY, WHOLE)
    before = failure_kinds(study, answers).set_index("answers").loc["descriptions, sampled, before"]
    assert before["off-topic"] == before["repetition"] == 0.5 and before["words"] == 3
    assert [*before.index] == [*KINDS, "words"]
    study.known = None
    assert "off-topic" not in failure_kinds(study, answers)
    assert "not judged" in failures(study, answers)["note"][0]


def test_verse_is_asked_of_poems_alone(study):
    answers = [*answered("describe", "", WHOLE, WHOLE), *answered("poem", "", [{"no-verse"}, set()], WHOLE)]
    verse = failure_kinds(study, answers)["no-verse"]
    assert verse.isna().tolist() == [True, True, False, False] and verse[2] == 0.5


def test_both_models_answer_in_the_same_three_ways():
    official, greedy, penalty = decoding_configs(Study.of(MINI, seed=0, weights="wheel")).values()
    assert official.sample and not greedy.sample and greedy.repetition_penalty == 1.0
    assert penalty == replace(greedy, repetition_penalty=1.2)


def test_losses_are_named_by_the_variant_and_before_what_stage_2_changes(monkeypatch, study):
    monkeypatch.setattr(stage2, "held_out_loss", lambda study, model, lesson: float(model + lesson))
    found = {"minigpt4": Variant(3, 2, "curated"), "oracle": Variant(3, 1, "oracle")}
    table = stage2.losses(study, found, {"curated": 0, "oracle": 10})
    names = [f"stage2.loss{end}" for end in (".before", "", ".oracle.before", ".oracle")]
    assert [values(table)[name] for name in names] == [3, 2, 13, 11]
    assert table.set_index("system").loc["locna", "note"].startswith("not applicable")
    assert table["note"].str.endswith("evaluation only").tolist()[:4] == [False, False, True, True]


def test_rates_are_weighed_by_descriptions_poems_and_requests_together(monkeypatch, study):
    failed = {
        ("describe", ""): FAULTY,
        ("poem", ""): [{"empty"}, {"no-verse"}],
        ("describe", "greedy"): WHOLE,
    }

    def answer(study, base, model, split, task, way, when):
        assert split == "val"
        return Answers(task, way, when, ["a", "b"], failed[task, way])

    monkeypatch.setattr(stage2, "answer", answer)
    monkeypatch.setattr(stage2.abilities, "as_minigpt4", lambda *_: {"items": 0.4, "requests": 0.1})
    assert stage2.seen_on_val(study, None, None) == {
        "balance": pytest.approx((0.5 + 0 + 0.4) / 3),
        "failed descriptions, sampled": 0.5,
        "failed poems, sampled": 1,
        "failed descriptions, greedy": 0,
        "items": 0.4,
        "requests": 0.1,
    }


def test_the_text_oracle_reads_the_truth_and_is_judged_as_the_answers_are(monkeypatch, study):
    scenes = [SimpleNamespace(in_words=f"things: dog {number}") for number in range(3)]
    asked = []

    def blind_answers(model, template, questions, decoding, *, batch_size, what):
        asked.extend(questions)
        return ["a dog."] * len(questions)

    monkeypatch.setattr(stage2, "read_scenes", lambda path: scenes)
    monkeypatch.setattr(stage2.generate, "blind_answers", blind_answers)
    monkeypatch.setattr(stage2, "detected", lambda study, base, split, texts, most, poem: [poem, *texts[1:]])
    found = stage2.answer(
        study, None, PromptedModel(model=None, template=None), "test_seen", "poem", "", ORACLE
    )
    assert (found.task, found.when, found.texts) == ("poem", "text_oracle", ["a dog."] * 3)
    assert asked[1] == f"The image shows: things: dog 1 {stage2.POEM}" and len(asked) == 3
    assert found.failures[0] is True  # judged as a poem
    both = [*answered("poem", "", FAULTY, WHOLE), replace(found, texts=["a", "b"], failures=WHOLE)]
    assert "t3.failure.poem.text_oracle" in values(failures(study, both))


def test_the_second_question_of_a_chat_follows_the_first_answer(monkeypatch, study, model, tokenizer):
    study.seed, read = 3, []
    monkeypatch.setattr(stage2.abilities, "decodings", lambda study: {"penalised": "as the chat"})

    def reply(model, images, turns, transcripts, decoding, seeds):
        read.append((transcripts, decoding, seeds))
        return [f"answer {len(read)}"] * len(transcripts)

    monkeypatch.setattr(stage2, "reply", reply)
    base = SimpleNamespace(
        language=SimpleNamespace(tokenizer=tokenizer),
        queries={"test_seen": torch.zeros(12, 3, 32)},
        splits={"test_seen": SimpleNamespace(first=lambda count: ["picture"] * count)},
    )
    pictures, said = stage2.chats(study, base, PromptedModel(model=model(), template=VICUNA))
    assert len(pictures) == 10 and said[stage2.CHAT[1]] == ["answer 2"] * 10
    first, second = [transcripts[0] for transcripts, *_ in read]
    assert first == VICUNA.prompt(with_image(stage2.CHAT[0]))
    assert second == f"{first}answer 1###Human: {stage2.CHAT[1]} ###Assistant: "
    assert len(set(read[0][2])) == 10 and read[0][1] == "as the chat"
