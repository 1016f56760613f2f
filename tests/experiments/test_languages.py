"""Each pinned language model reads the truth about val's special pictures in words."""

from dataclasses import replace

from mglib.config import Asked
from mglib.evals.checklist import CHECKLISTS
from mglib.experiments import languages
from mglib.model.decoding import Decoding
from mglib.model.prompts import VICUNA
from mglib.profiles import MINI
from mglib.study.study import Study
from mglib.weights.sources import LANGUAGE
from mglib.world.scene import Scene


def test_every_pinned_model_answers_the_same_requests_and_sees_no_picture(model, monkeypatch):
    pictures = [Scene(number, 256, "lake", kind="memes") for number in range(2)]
    asked: dict[str, list[tuple[str, Decoding]]] = {}
    loaded: list[str] = []
    read: list[str] = []

    def language(study):
        loaded.append(study.profile.language.name)
        return model().language

    def scenes(file):
        read.append(file.parent.name)
        return pictures

    def write(given, images, template, questions, decoding, *, first):
        assert given.qformer.config.queries == 0 and images["queries"].shape[1] == 0
        asked.setdefault(loaded[-1], []).extend((question, decoding) for question in questions)
        return ["well" if loaded[-1] == "qwen2.5-coder-1.5b" else "badly"] * len(questions)

    def scores(sheet, texts, shown):
        return {what: [float(text == "well") for text in texts] for what in ("success", "items")}

    monkeypatch.setattr(Study, "draw", lambda self: {})
    monkeypatch.setattr(Study, "language", language)
    monkeypatch.setattr(Study, "frozen_qformer", lambda self: model().qformer)
    monkeypatch.setattr(languages, "read_scenes", scenes)
    monkeypatch.setattr(languages.checklist, "scores", scores)
    monkeypatch.setattr(languages.prompts, "template", lambda name, tokenizer: VICUNA)
    monkeypatch.setattr(languages.abilities.generate, "answer", write)
    evaluation = replace(MINI.evaluation, abilities=(("minigpt4", Asked(decoding="greedy")),))
    table = languages.compared(Study.of(replace(MINI, evaluation=evaluation), seed=0, weights="wheel"))
    assert list(table["language"]) == list(LANGUAGE) == loaded
    assert list(table["requests"]) == list(table["items"]) == [0, 0, 1]
    assert set(table["n"]) == {2 * len(CHECKLISTS)}
    assert set(read) == {f"{sheet.kind}_val" for sheet in CHECKLISTS.values()}
    questions = asked["smollm2-135m"]
    assert questions == asked["qwen2.5-coder-0.5b"] == asked["qwen2.5-coder-1.5b"]
    assert all("The image shows: " in text and not decoding.sample for text, decoding in questions)
