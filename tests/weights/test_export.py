"""Weights out: the official layout, our own folder, transformers' BLIP-2; each gives the same model back."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_official import QUERIES, VISION, blip2_flant5, eva_vit_g
from torch import nn
from transformers import AutoProcessor, Blip2ForConditionalGeneration, Blip2Processor, LlamaTokenizer

from mglib.config import LoRAConfig, TrainConfig
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import CAPTION, VICUNA, generation_batch, with_image
from mglib.model.vision import Vision, preprocess
from mglib.weights.export import build_processor, chat_template, export_blip2, export_official
from mglib.weights.lora import lora_weights, with_lora
from mglib.weights.official import load_projection, load_qformer, load_vision
from mglib.weights.saved import CONFIG, LORA, WEIGHTS, from_pretrained, save_pretrained

QUESTION = "a dog in the park"


@pytest.fixture
def parts(tmp_path, llama, qformer, tokenizer):
    """Return a function that builds the frozen parts from official files."""

    def build(**changes):
        vision, queries = Vision(config=VISION), qformer().requires_grad_(False)
        torch.save(eva_vit_g(), tmp_path / "eva.pth")
        torch.save({"model": blip2_flant5()}, tmp_path / "blip2.pth")
        load_vision(vision, tmp_path / "eva.pth")
        load_qformer(queries, tmp_path / "blip2.pth")
        language = Language(model=llama(), tokenizer=tokenizer)
        return {"vision": vision, "qformer": queries, "language": language, **changes}

    return build


@pytest.fixture
def paper(parts):
    """Return a MiniGPT-4 shaped like the paper's, in tiny."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return MiniGPT4(**parts(), projection=nn.Linear(32, 48))


@pytest.fixture
def pixels(random):
    return torch.randn(2, 3, 28, 28, generator=random)


def asked(model, pixels):
    """Lay out the same question about each picture."""
    tokenizer = model.language.tokenizer
    layout = generation_batch(tokenizer, VICUNA, [with_image(QUESTION)] * len(pixels), queries=QUERIES)
    return {"pixels": pixels, **layout}


@torch.no_grad()
def logits(model, batch):
    return model.language.logits(model.language(model.embed(batch), batch["mask"]))  # (B, T, V)


# --- the official layout ---


def test_an_exported_projection_has_the_official_layout_and_comes_back(tmp_path, paper):
    path = tmp_path / "checkpoint_3.pth"
    export_official(paper.projection, path, config={"run": {"init_lr": 1e-4}})
    saved = torch.load(path, weights_only=True)
    assert {name: tuple(value.shape) for name, value in saved["model"].items()} == {
        "llama_proj.weight": (48, 32),
        "llama_proj.bias": (48,),
    }
    assert saved["config"] == {"run": {"init_lr": 1e-4}} and saved["epoch"] == 0
    again = nn.Linear(32, 48)
    load_projection(again, path)
    assert torch.equal(again.weight, paper.projection.weight)
    assert torch.equal(again.bias, paper.projection.bias)
    assert [file.name for file in tmp_path.glob("*checkpoint*")] == ["checkpoint_3.pth"]


# --- our own format ---


def save(model, folder, **changes):
    save_pretrained(model, folder, **{"language": "llama", "template": VICUNA, **changes})
    return folder


def load(folder, parts, **changes):
    return from_pretrained(folder, **{**parts, "name": "llama", "template": VICUNA, **changes})


def test_a_saved_model_comes_back_with_the_same_logits(tmp_path, paper, parts, pixels):
    folder = save(paper, tmp_path / "model")
    again = load(folder, parts())
    batch = asked(paper, pixels)
    assert torch.equal(logits(again, batch), logits(paper, batch))
    assert sorted(file.name for file in folder.iterdir()) == [CONFIG, WEIGHTS]
    assert load_file(folder / WEIGHTS).keys() == {"weight", "bias"}
    about = json.loads((folder / CONFIG).read_text())
    assert about["language"]["name"] == "llama" and about["template"]["end"] == "###"
    assert about["vision"]["mean"] == list(VISION.mean)
    half = {name: part.bfloat16() for name, part in parts().items()}
    load(folder, half)  # the same parts in another precision


def changed(module, name):
    with torch.no_grad():
        module.get_parameter(name).view(-1)[3] += 0.5
    return module


def test_other_frozen_parts_are_refused_by_name(tmp_path, paper, parts, llama, tokenizer):
    folder = save(paper, tmp_path / "model")
    brighter = parts()["vision"]
    brighter.config = replace(VISION, mean=(0.5, 0.5, 0.5))
    qformer = changed(parts()["qformer"], "query_tokens")
    vision = changed(parts()["vision"], "encoder.blocks.2.attn.v_bias")
    language = Language(model=llama(seed=1), tokenizer=tokenizer)
    others = [
        ({"vision": vision}, "image encoder or its preprocessing"),
        ({"vision": brighter}, "image encoder or its preprocessing"),
        ({"qformer": qformer}, "Q-Former: it would"),
        ({"language": language}, "language model's weights: it would"),
        ({"qformer": qformer, "template": CAPTION}, "Q-Former and another prompt template"),
    ]
    for other, named in others:
        with pytest.raises(ValueError, match=f"trained with another {named}"):
            load(folder, parts(), **other)
    with pytest.raises(ValueError, match=r"trained with llama, this model speaks with vicuna-7b-v1\.5"):
        load(folder, parts(), name="vicuna-7b-v1.5")


def test_a_folder_that_is_not_whole_is_refused(tmp_path, paper, parts):
    folder = save(paper, tmp_path / "model")
    about = (folder / CONFIG).read_text()
    (folder / CONFIG).unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json is not there"):
        load(folder, parts())
    with torch.no_grad():
        paper.projection.bias.add_(1)
    save(paper, folder)
    (folder / CONFIG).write_text(about)  # as if the saving had been stopped between the two files
    with pytest.raises(ValueError, match="not the file that config"):
        load(folder, parts())
    (folder / CONFIG).write_text('{"format": 9}')
    with pytest.raises(ValueError, match="another version"):
        load(folder, parts())


@pytest.fixture
def adapted(paper):
    """Return a model whose low-rank updates do something, and their settings."""
    rates = TrainConfig(steps=1, batch_size=1, lr=1e-3, min_lr=1e-4, warmup_steps=0)
    config = LoRAConfig(rank=2, targets=("q_proj", "down_proj"), train=rates)
    model = with_lora(paper, config, seed=3)
    with torch.no_grad():
        for weight in lora_weights(model.language).values():
            weight.add_(0.3)
    return model, config


def test_low_rank_updates_are_kept_and_come_back(tmp_path, paper, adapted, parts, pixels):
    model, config = adapted
    folder = save(model, tmp_path / "model", lora=config, run={"profile": "tiny"})
    batch = asked(paper, pixels)
    again = load(folder, parts())
    assert torch.equal(logits(again, batch), logits(model, batch))
    assert not torch.allclose(logits(again, batch), logits(paper, batch))
    assert len(load_file(folder / LORA)) == 2 * 2 * 2  # two layers, two targets, A and B
    assert json.loads((folder / CONFIG).read_text())["run"] == {"profile": "tiny"}
    save(paper, folder)  # without them
    assert not (folder / LORA).exists()
    assert torch.equal(logits(load(folder, parts()), batch), logits(paper, batch))


def test_other_low_rank_updates_are_refused(tmp_path, adapted, parts):
    model, config = adapted
    folder = save(model, tmp_path / "model", lora=config)
    whole = (folder / LORA).read_bytes()
    (folder / LORA).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"lora\.safetensors is not the file that config"):
        load(folder, parts())
    (folder / LORA).unlink()
    with pytest.raises(FileNotFoundError, match=r"lora\.safetensors is not there"):
        load(folder, parts())
    save(model, folder, lora=replace(config, targets=("q_proj",)))
    with pytest.raises(ValueError, match="belong to other layers"):
        load(folder, parts())


def test_a_model_on_cached_features_cannot_be_saved_whole(tmp_path, paper):
    paper.vision = nn.Identity()
    with pytest.raises(ValueError, match="has no image encoder: attach it"):
        save(paper, tmp_path / "model")
    assert not (tmp_path / "model").exists()


# --- transformers' BLIP-2 ---


ASKED = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]


@pytest.fixture
def exported(tmp_path, paper):
    """Export a model, and load what was written."""

    def run():
        export_blip2(paper, tmp_path / "blip2", language="llama", template=VICUNA)
        return Blip2ForConditionalGeneration.from_pretrained(tmp_path / "blip2", dtype="auto").eval()

    return run


def theirs(batch, token):
    """Return a batch as transformers takes it."""
    ids = batch["ids"].masked_fill(batch["slots"], token)
    return {"pixel_values": batch["pixels"], "input_ids": ids, "attention_mask": batch["mask"]}


@torch.no_grad()
def their_logits(blip2, batch):
    return blip2(**theirs(batch, blip2.config.image_token_id)).logits


def test_with_equal_eps_transformers_gives_the_same_logits(paper, exported, pixels):
    paper.qformer.ln_vision.eps = 1e-6
    batch = asked(paper, pixels)
    before = {name: value.clone() for name, value in paper.state_dict().items()}
    ours, found = logits(paper, batch), their_logits(exported(), batch)
    assert all(torch.equal(value, before[name]) for name, value in paper.state_dict().items())
    assert len(paper.language.tokenizer) == paper.language.model.config.vocab_size == ours.shape[-1]
    assert found.shape[-1] == ours.shape[-1] + 1  # the added <image>
    torch.testing.assert_close(found[..., :-1], ours, atol=1e-5, rtol=0)
    assert not found[..., -1].any()
    assert ours.std() > 0.1  # the tolerance means something


def test_the_eps_of_ln_vision_is_the_whole_difference_and_bounded(paper, exported, pixels):
    blip2, batch = exported(), asked(paper, pixels)
    with torch.no_grad():
        tokens = paper.vision(pixels)
        smallest = tokens.var(-1, correction=0).min()
        ours, found = paper.qformer.see(tokens), blip2.vision_model(pixels).last_hidden_state
        weight, bias = paper.qformer.ln_vision.weight, paper.qformer.ln_vision.bias
        ratio = ((found - bias) / weight).norm(dim=-1) / ((ours - bias) / weight).norm(dim=-1)
    assert ratio.min() > 1 - 1e-6 and ratio.max() < 1 + 1e-5 / (2 * smallest) + 1e-6
    difference = (their_logits(blip2, batch)[..., :-1] - logits(paper, batch)).abs().max()
    assert difference < 1e-4


def test_the_processor_gives_our_pixels_and_our_sequence(tmp_path, paper, exported, random):
    exported()
    processor = Blip2Processor.from_pretrained(tmp_path / "blip2", backend="pil")
    colours = torch.randint(256, (40, 70, 3), generator=random, dtype=torch.uint8).numpy()
    picture = Image.fromarray(colours)
    text = processor.tokenizer.apply_chat_template(ASKED, tokenize=False)
    inputs = processor(images=picture, text=text, add_special_tokens=False, return_tensors="pt")
    torch.testing.assert_close(inputs["pixel_values"][0], preprocess(picture, VISION), atol=1e-5, rtol=0)
    batch = asked(paper, inputs["pixel_values"])
    token = processor.tokenizer.convert_tokens_to_ids("<image>")
    assert inputs["input_ids"].tolist() == theirs(batch, token)["input_ids"].tolist()
    assert isinstance(AutoProcessor.from_pretrained(tmp_path / "blip2"), Blip2Processor)


def test_the_exported_model_answers_as_the_card_says(tmp_path, paper, exported, pixels):
    blip2, batch = exported(), asked(paper, pixels)
    card = (tmp_path / "blip2" / "README.md").read_text()
    assert "eps" in card and "1e-06" in card and "1e-05" in card and 'stop_strings=["###"]' in card
    token = blip2.config.image_token_index
    assert blip2.generation_config.suppress_tokens == [token]
    four = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    found = blip2.generate(**theirs(batch, token), **four, suppress_tokens=[token])
    embedded = {"inputs_embeds": paper.embed(batch), "attention_mask": batch["mask"]}
    expected = paper.language.model.generate(**embedded, **four)
    assert found[:, -4:].tolist() == expected.tolist()


def test_a_conversation_of_several_turns_is_written_turn_by_turn(paper):
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": "a dog"},
        {"role": "user", "content": "Where?"},
    ]
    text = paper.language.tokenizer.apply_chat_template(
        turns, tokenize=False, chat_template=chat_template(VICUNA, 2)
    )
    assert text == (
        f"{paper.language.tokenizer.bos_token}###Human: <Img><image><image></Img> What is it? ###Assistant: "
        "a dog######Human: Where? ###Assistant: "
    )


@pytest.mark.parametrize("legacy", [True, False])
def test_llamas_own_tokenizer_gives_our_sequence(paper, legacy):
    letters = "▁abcdefghijklmnopqrstuvwxyzDHAI#:.<>/"
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters, "▁#", "▁<"]
    merges = [("▁", "#"), ("▁", "<")]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=merges, legacy=legacy)
    paper.language.tokenizer = tokenizer
    processor = build_processor(paper, VICUNA)
    text = processor.tokenizer.apply_chat_template(ASKED, tokenize=False)
    found = processor(text=text, add_special_tokens=False)["input_ids"][0]
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    batch = asked(paper, torch.zeros(1, 3, 28, 28))
    assert found == theirs(batch, image)["input_ids"][0].tolist()
    pieces = processor.tokenizer.convert_ids_to_tokens(found)
    assert pieces[:3] == ["<s>", "▁#", "#"] and pieces[pieces.index("<image>") + QUERIES] == "▁<"


def set_config(module, **changes):
    module.config = replace(module.config, **changes)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda model, tiny: setattr(model, "vision", nn.Identity()), "no image encoder"),
        (lambda model, tiny: setattr(model, "qformer", nn.Identity()), "no Q-Former"),
        (lambda model, tiny: setattr(model, "vision", Vision(config=tiny)), "encodes with test_vit"),
        (lambda model, tiny: set_config(model.vision, pool=2), "averages neighbouring patches"),
        (lambda model, tiny: set_config(model.vision, final_norm=True), "norm behind its last block"),
        (lambda model, tiny: set_config(model.qformer, vocabulary=9), "Q-Former that also reads text"),
    ],
)
def test_what_transformers_cannot_express_is_refused(tmp_path, paper, vision_config, harm, told):
    harm(paper, vision_config)
    with pytest.raises(ValueError, match=f"{told}.*save_pretrained"):
        export_blip2(paper, tmp_path / "blip2", language="llama", template=VICUNA)
    assert not (tmp_path / "blip2").exists()
