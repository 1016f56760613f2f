"""Fine-tuning on one's own pictures, from a tiny paper-shaped release to a folder that the chat loads."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from data_files import write_shard
from tiny_parts import in_folder
from tiny_release import noise, tiny_profile, write_release

from mglib.__main__ import main
from mglib.chat import chat_model as chat_models
from mglib.chat import finetune as command
from mglib.chat.answer import answer
from mglib.chat.chat_model import load, save
from mglib.chat.conversation import Conversation
from mglib.chat.finetune import beyond, finetune, finetune_config, forgotten, own_data, start, to_train
from mglib.config import LoRAConfig
from mglib.data.own import AnsweredPicture
from mglib.data.pictures import open_picture
from mglib.metrics import Counts
from mglib.model.decoding import greedy
from mglib.profiles import PROFILES
from mglib.settings import Settings
from mglib.study import study as studies
from mglib.study.models import INSTRUCTIONS
from mglib.study.stage1 import join_parts, stage1_pairs, train_streamed
from mglib.training import loop
from mglib.training.checkpoint import trainable
from mglib.weights.lora import lora_weights
from mglib.weights.saved import LORA

TINY = "tiny-paper"
SETTINGS = Settings(profile=TINY)


@pytest.fixture
def release(tmp_path, monkeypatch, llama, tokenizer, captions):
    """Return the folder of a release whose profile goes by the name TINY."""
    in_folder(monkeypatch, tmp_path)
    write_release(tmp_path / "downloads", llama(), tokenizer, captions)
    monkeypatch.setattr(command, "here", lambda: "a test")
    profile = tiny_profile(len(tokenizer))
    second = replace(profile.stage2, steps=24, batch_size=4, lr=1e-1, min_lr=1e-2, warmup_steps=3)
    monkeypatch.setitem(PROFILES, TINY, replace(profile, stage2=second))
    return tmp_path / "downloads"


@pytest.fixture
def data(tmp_path, captions):
    """Return a folder of twelve pictures with their texts; the last picture is broken."""
    folder = tmp_path / "own"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02d}.jpg").write_bytes(noise(number) if number < 11 else noise(number)[:-200])
        (folder / f"{number:02d}.txt").write_text(f"{captions[number % 2]}.")
    return folder


def test_a_folder_is_learnt_and_talked_with(release, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["finetune", "--profile", TINY, "--data", str(data), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "11 answers about 11 pictures" in said and "11.jpg: broken picture" in said
    assert "1 bad records are left out" in said
    assert f"23 of the 24 files in {data} are used; not used: 1 .jpg." in said
    assert "the projection, 1,584 weights of tiny-paper, on 9 answers; 2 are held out" in said
    assert "this machine: a test" in said and "training loss  held out" in said
    assert re.search(r"a step takes [\d.]+ s: all of them at most [\d.]+ min, in about [\d.]+ GB", said)
    assert re.search(r"It took [\d.]+ min and at most [\d.]+ GB", said)
    assert said.count("before: ") == said.count("after: ") == 2
    lines = [line.split() for line in said.splitlines()]
    losses = [float(line[2]) for line in lines if len(line) == 3 and line[0].isdigit()]
    (kept,) = [float(line[-1].rstrip(".")) for line in lines if line[:2] == ["The", "weights"]]
    assert kept == min(losses) < 0.95 * losses[0]
    assert f"make chat PROFILE={TINY} PROJECTION={out}" in said
    chat_model = load(SETTINGS, out)
    files = [data / "00.jpg", data / "10.jpg"]
    table = finetune(SETTINGS, data, out)  # found again
    assert list(table.columns) == ["picture", "question", "given", "before", "after"]
    assert answer(chat_model, files, list(table["question"]), greedy(24)) == list(table["after"])
    talk = Conversation(chat_model)
    talk.show(open_picture(files[1]))
    assert "".join(talk.ask(table["question"][1], greedy(24))) == table["after"][1]


def test_an_answer_that_holds_what_ends_an_answer_is_named_before_training(release, data, capsys):
    stop = start(SETTINGS, None).turns.first.end
    (data / "03.txt").write_text(f"A wall. {stop} Never said.")
    (data / "04.txt").write_text("a cat " * 24)
    finetune(SETTINGS, data, data.parent / "out", replay=False)
    said = capsys.readouterr().out
    warned = said.index("1 answers hold a symbol that ends an answer")
    assert f"03.jpg: 'A wall. {stop} Never said.' holds {stop}" in said
    assert "1 answers are longer than 24 tokens, of which no more is learnt" in said
    assert warned < said.index("training loss")


def heights(monkeypatch):
    """Return a list that will collect the number of rows of each step."""
    found, step = [], loop.train_step

    def counted(run, optimizers, parts, *rest, **more):
        found.extend(len(part["ids"]) for part in parts)
        return step(run, optimizers, parts, *rest, **more)

    monkeypatch.setattr(loop, "train_step", counted)
    return found


@pytest.mark.parametrize(
    ("shards", "replay", "rows", "said"),
    [
        (True, True, 8, "each step replays as many pairs of stage 1, out of 24"),  # as many as answers
        (False, True, 4, "no pairs of stage 1 are on disk: none is replayed"),
        (True, False, 4, "nothing of stage 1 is replayed"),  # the paper's stage 2
    ],
)
def test_pairs_of_stage_1_are_read_again_in_each_step(
    release, data, tmp_path, monkeypatch, capsys, shards, replay, rows, said
):
    for name in () if shards else ("laion", "cc_sbu"):
        shutil.rmtree(release / name)
    found = heights(monkeypatch)
    finetune(SETTINGS, data, tmp_path / "out", replay=replay)
    assert said in capsys.readouterr().out
    assert found and set(found) == {rows}


def test_what_is_forgotten_is_measured_on_captions_that_no_step_reads(
    release, data, captions, tmp_path, monkeypatch, capsys
):
    for number, file in enumerate(sorted(release.glob("*/*.tar"))):  # pictures that are all different
        rows = [(f"{place:09d}", noise(10 * number + place), text) for place, text in enumerate(captions)]
        write_shard(file, rows)
    profile = PROFILES[TINY]
    short = replace(profile, stage2=replace(profile.stage2, steps=3, warmup_steps=1))
    monkeypatch.setitem(PROFILES, TINY, short)
    study = studies.Study.open(SETTINGS)
    again, watched = stage1_pairs(study, 12), beyond(study, 12)
    read = set(zip(again.hashes, again.captions, strict=True))
    assert len(watched) and not read & set(zip(watched.hashes, watched.captions, strict=True))
    assert len(list(watched.images())) == len(watched) == len(watched.hashes)
    assert beyond(study, 1_000) is None
    finetune(SETTINGS, data, tmp_path / "out")
    assert f"{len(watched)} captions of stage 1 that were not learnt here: loss " in capsys.readouterr().out


def test_a_rise_of_that_loss_names_the_remedy():
    before, after = Counts([4.0, 8.0], [2, 2]), Counts([4.1, 8.1], [2, 2])
    assert "loss 3.000 before, changed by +0.050 [" in forgotten(before, after, replay=False)
    alone = "more than 0.02, so something is forgotten: leave REPLAY=0 out"
    assert alone in forgotten(before, after, replay=False)
    assert "compare it with LORA=1" in forgotten(before, after, replay=True)
    assert "forgotten" not in forgotten(after, before, replay=False)


def test_low_rank_updates_are_learnt_kept_and_learnt_on(release, data, tmp_path):
    out = tmp_path / "out"
    finetune(SETTINGS, data, out, lora=True)
    chat_model = load(SETTINGS, out)
    assert f"{out}/projection.safetensors (SHA-256 " in chat_model.weights()
    assert f" and {out}/lora.safetensors (SHA-256 " in chat_model.weights()
    updates = lora_weights(chat_model.model.language)
    assert len(updates) == 8 and any(weight.any() for name, weight in updates.items() if "lora_B" in name)
    assert trainable(chat_model.model) == {}
    finetune(SETTINGS, data, tmp_path / "more", projection=out, lora=True)
    finetune(SETTINGS, data, tmp_path / "kept", projection=out)
    more, kept = (lora_weights(load(SETTINGS, tmp_path / name).model.language) for name in ("more", "kept"))
    assert all(torch.equal(kept[name], value) for name, value in updates.items())
    assert any(not torch.equal(more[name], value) for name, value in updates.items())
    assert (tmp_path / "kept" / LORA).exists()


def test_low_rank_updates_without_their_layers_are_refused(model):
    config = LoRAConfig(targets=("query_key_value",), train=PROFILES["mini"].stage1)
    with pytest.raises(ValueError, match=r"no layers named query_key_value.*without LORA"):
        to_train(model(), config, PROFILES["mini"], config.train, lora=True, seed=0)


def test_a_kill_resumes_and_a_finished_run_is_found(release, data, tmp_path, monkeypatch):
    whole = finetune(SETTINGS, data, tmp_path / "whole")
    shutil.rmtree(tmp_path / "cache" / "trained")
    save = loop.save_progress

    def killed(module, optimizers, history, *rest):
        save(module, optimizers, history, *rest)
        if len(history) == 6:
            raise KeyboardInterrupt

    arguments = ["finetune", "--profile", TINY, "--data", str(data), "--out", str(tmp_path / "again")]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_progress", killed)
        assert main(arguments) == 130
    assert not (tmp_path / "again").exists()
    again = finetune(SETTINGS, data, tmp_path / "again")
    assert again.equals(whole)
    weights = [(tmp_path / name / "projection.safetensors").read_bytes() for name in ("whole", "again")]
    assert weights[0] == weights[1]
    monkeypatch.setattr(loop, "train_step", lambda *_, **__: pytest.fail("it was trained again"))
    assert finetune(SETTINGS, data, tmp_path / "again").equals(whole)


def test_another_model_is_not_written_over_nor_taken_for_ones_own(release, data, tmp_path, capsys):
    out = tmp_path / "out"
    finetune(SETTINGS, data, out)
    (data / "00.txt").write_text("something else")
    arguments = ["finetune", "--profile", TINY, "--data", str(data), "--out", str(out)]
    assert main(arguments) == 1
    assert "choose another OUT" in capsys.readouterr().err
    assert main([*arguments, "--out", str(tmp_path / "other")]) == 0
    with pytest.raises(ValueError, match=f"belongs to the profile {TINY}"):
        load(Settings(), out)


def test_the_authors_pairs_are_read_and_the_kept_model_goes_before_the_published_one(release, tmp_path):
    first = start(SETTINGS, None)
    wanted = torch.load(release / "weights/minigpt4_stage1_7b.pth", weights_only=True)["model"]
    assert torch.equal(first.model.projection.weight.float(), wanted["llama_proj.weight"])
    with torch.no_grad():
        first.model.projection.bias.add_(1)
    save(first, chat_models.kept_folder(studies.Study.open(SETTINGS)))
    assert torch.equal(start(SETTINGS, None).model.projection.bias, first.model.projection.bias)
    table = finetune(SETTINGS, release / "cc_sbu_align", tmp_path / "out")
    assert list(table["given"]) == ["There is a red bus on the street."]


def test_stage_1_of_one_s_own_is_taken_and_its_absence_names_the_command(release):
    study = studies.Study.open(SETTINGS)
    own = join_parts(study)
    train_streamed(study, own)
    assert torch.equal(start(SETTINGS, None).model.projection.weight, own.projection.weight)
    shutil.rmtree(command.CACHE)
    (release / "weights/minigpt4_stage1_7b.pth").unlink()
    with pytest.raises(FileNotFoundError, match=f"make train PROFILE={TINY}"):
        start(SETTINGS, None)


def test_without_data_its_shapes_are_told_and_a_file_in_the_folder_is_offered(release, data, capsys):
    assert main(["finetune"]) == 1
    assert "make finetune DATA=folder. DATA is a folder with filter_cap.json" in capsys.readouterr().err
    files = data.glob("0*.jpg")
    lines = [{"image": str(file), "answer": file.with_suffix(".txt").read_text()} for file in files]
    offered = data.parent / "folder" / "own.jsonl"
    offered.parent.mkdir()
    offered.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["finetune", "--data", str(offered.parent)]) == 1
    assert f"Is it {offered} that is meant?" in capsys.readouterr().err
    given = ["--profile", TINY, "--data", str(offered), "--out", str(data.parent / "out")]
    assert main(["finetune", *given]) == 0


def test_pictures_are_held_out_with_all_their_questions(tmp_path):
    pairs = []
    for number in range(11):
        file = tmp_path / f"{number:02d}.jpg"
        file.write_bytes(noise(number))
        pairs += [AnsweredPicture(file, "What?", f"{number}"), AnsweredPicture(file, None, f"{number} again")]
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(noise(0))
    found = own_data([*pairs, AnsweredPicture(copy, "And?", "the copy")], seed=0)
    assert found.files == tuple(pair.file for pair in pairs[::2]) and len(found.pictures.hashes) == 11
    assert {place for place, _, _ in found.held} == {0, 10}
    assert [said for place, _, said in found.held if place == 0] == ["0", "0 again", "the copy"]
    assert len(found.learnt) == 18 and len(found.shown) == 2 and found.shown[0][2] == "0"
    drawn = {asked for _, asked, said in found.learnt if said.endswith("again")}
    assert drawn <= set(INSTRUCTIONS) and len(drawn) > 1
    assert [found.files[index].name for index, _, _ in found.shown] == ["00.jpg", "10.jpg"]
    with pytest.raises(ValueError, match="At least two different pictures"):
        own_data(pairs[:2], seed=0)


def test_few_pairs_are_read_often_and_many_once():
    mini = PROFILES["mini"]
    few, many, three = (finetune_config(mini, count, lora=False, replay=True) for count in (45, 5_000, 3))
    assert (few.steps, few.batch_size) == (40, 12) and few.muon
    assert (many.steps, many.batch_size) == (417, 12) and many.warmup_steps == 63
    assert three.batch_size == 3 and len(few.keep) == 10 and few.keep[-1] == 1
    paper = finetune_config(mini, 45, lora=False, replay=False)
    assert (paper.lr, paper.min_lr) == (mini.stage2.lr, mini.stage2.min_lr) and few.lr == paper.lr / 2
    lora = finetune_config(mini, 45, lora=True, replay=True)
    assert lora.lr == mini.lora.train.lr and not lora.muon and lora.max_answer == few.max_answer
    own = finetune_config(replace(mini, lora=None), 45, lora=True, replay=True)
    assert own.lr == 1e-4 and LoRAConfig(train=own).rank == 8
