"""Rewriters: an endpoint against a small server of chat completions on loopback, and a local model."""

import json
import subprocess
import sys
import threading

import pytest
import torch
from servers import Server, completion, free_port, wait_for

from mglib.curation.rewrite import (
    PROMPT,
    Endpoint,
    Local,
    RewriteError,
    UnusableError,
    Usage,
    request,
    rewrite,
)
from mglib.model.language import Language
from mglib.weights import sources


@pytest.fixture
def server():
    with Server(lambda asked: asked.split("\n\n", 1)[1].upper()) as server:  # the paragraph in upper case
        yield server


@pytest.fixture
def endpoint(server, tmp_path, monkeypatch):
    """Return a function that makes an endpoint of the server, told to it by the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "a secret")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)

    def make(model="tiny", **given):
        return Endpoint(model=model, cache=tmp_path / "cache", **given)

    return make


def test_the_papers_prompt_and_the_paragraph_are_asked(endpoint, server):
    assert endpoint()("a dog") == "A DOG"
    ((path, given),) = server.requests
    assert path == "/v1/chat/completions"
    assert given == {"model": "tiny", "temperature": 0, "messages": request("a dog")}
    assert given["messages"][0]["content"] == f"{PROMPT}\n\na dog"
    assert PROMPT == (
        "Fix the error in the given paragraph. "
        "Remove any repeating sentences, meaningless characters, not English sentences, and so on. "
        "Remove unnecessary repetition. "
        "Rewrite any incomplete sentences. "
        "Return directly the results without explanation. "
        "Return directly the input paragraph if it is already correct without explanation."
    )
    assert server.keys == ["Bearer a secret"]


def test_a_server_may_be_given_and_its_own_temperature_kept(server, endpoint, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert endpoint(url=server.url, temperature=None)("a dog") == "A DOG"
    assert "temperature" not in server.requests[0][1]


def test_a_rerun_asks_nothing_and_tokens_are_reported(endpoint, server):
    first = endpoint()
    assert rewrite(first, ["a", "b", "a"]) == ["A", "B", "A"]
    assert first.usage == Usage(asked=2, from_cache=1, prompt_tokens=200, completion_tokens=14)
    again = endpoint()
    assert rewrite(again, ["a", "b", "a"]) == ["A", "B", "A"]
    assert again.usage == Usage(asked=0, from_cache=3)
    assert len(server.requests) == 2
    endpoint(model="other")("a")
    endpoint(temperature=None)("a")
    assert len(server.requests) == 4


def test_the_key_is_not_kept_on_disk(endpoint, tmp_path):
    endpoint()("a")
    assert [file for file in (tmp_path / "cache").iterdir() if "a secret" in file.read_text()] == []


def test_a_damaged_cache_is_told_and_asked_again(endpoint, server, tmp_path, capsys):
    endpoint()("a")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text('{"answer": "A"')
    assert endpoint()("a") == "A" and "damaged" in capsys.readouterr().out
    file.write_text(json.dumps({**json.loads(file.read_text()), "asked": {}}))  # another request's answer
    assert endpoint()("a") == "A"
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again(endpoint, server, status):
    server.script = [(status, '{"error": {"message": "busy"}}')] * 3
    assert endpoint()("a") == "A"
    assert len(server.requests) == 4


def test_attempts_come_to_an_end_with_a_sentence(endpoint, server):
    server.script = [(429, '{"error": {"message": "too many"}}')] * 9
    with pytest.raises(RewriteError, match=r"refuses with status 429.*check key, model, quota"):
        endpoint(attempts=3)("a")
    assert len(server.requests) == 3


def test_pauses_grow_where_the_server_names_none(endpoint, server):
    server.patient = False
    server.script = [(500, "{}")] * 2
    assert endpoint()("a") == "A"
    first, second, third = server.times
    assert second - first > 0.3  # half a second, less up to a quarter of it by chance
    assert third - second > 0.7  # and then twice as much


def test_what_will_not_pass_is_not_tried_again(endpoint, server):
    server.script = [(401, '{"error": {"message": "wrong key"}}')]
    with pytest.raises(RewriteError, match="status 401"):
        endpoint()("a")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        (200, "no JSON"),
        (200, "<html>hello</html>", "text/html"),
        (200, "{}"),
        (200, '{"choices": []}'),
        (200, "[]"),
        (200, '{"choices": [{"message": null}]}'),
    ],
    ids=lambda answer: answer[1],
)
def test_what_is_no_completion_is_told(endpoint, server, answer, tmp_path):
    server.script = [answer]
    with pytest.raises(RewriteError, match="no chat completion"):
        endpoint(attempts=1)("a")
    assert not (tmp_path / "cache").exists()  # nothing of it is kept


@pytest.mark.parametrize("answer", [completion("half a", "length"), completion(" "), completion(None)])
def test_an_answer_that_is_no_paragraph_is_told_and_paid_for_once(endpoint, server, answer):
    server.script = [answer]
    for _ in range(2):
        with pytest.raises(UnusableError, match="tiny"):
            endpoint()("a")
    assert len(server.requests) == 1


def test_a_server_that_counts_no_tokens_is_fine(endpoint, server):
    server.script = [completion("A", usage=False)]
    one = endpoint()
    assert one("a") == "A" and one.usage == Usage(asked=1)


def test_a_server_that_is_not_there_is_told(endpoint):
    with pytest.raises(RewriteError, match="does not answer"):
        endpoint(url="http://127.0.0.1:9/v1", attempts=1)("a")


@pytest.mark.parametrize("key", [None, ""])
def test_a_missing_key_is_told_before_anything_is_asked(endpoint, monkeypatch, key):
    if key is None:
        monkeypatch.delenv("OPENAI_API_KEY")
    else:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ValueError, match="OPENAI_API_KEY is not set: export it"):
        endpoint()


def test_several_workers_ask_at_the_same_time_and_keep_the_order(endpoint, server):
    server.gate = threading.Barrier(4)  # no request is answered before four are there
    texts = [f"text {number}" for number in range(8)]
    one = endpoint()
    assert rewrite(one, texts, workers=4) == [text.upper() for text in texts]
    assert server.most_together == 4
    assert one.usage == Usage(asked=8, prompt_tokens=800, completion_tokens=56)


def test_one_failure_stops_no_other_and_a_second_run_asks_only_for_it(endpoint, server):
    server.script = [completion("A"), (400, '{"error": {"message": "no"}}'), completion("C")]
    with pytest.raises(RewriteError, match=r"1 of 3 paragraphs got no answer. The first: .*status 400"):
        rewrite(endpoint(), ["a", "b", "c"])
    assert rewrite(endpoint(), ["a", "b", "c"]) == ["A", "B", "C"]
    assert len(server.requests) == 4


def test_unusable_answers_become_none(endpoint, server):
    server.script = [completion("A"), completion("")]
    assert rewrite(endpoint(), ["a", "b", "c"]) == ["A", None, "C"]


def test_rules_are_a_rewriter_too():
    from mglib.curation.repair import repair

    text = "A dog sits on the grass. A dog sits on the grass."
    assert rewrite(repair, [text, "x"]) == ["A dog sits on the grass.", ""]


TEMPLATE = "{% for m in messages %}[BOS]{{ m['content'] }}{% endfor %}"


@pytest.fixture
def talker(llama, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", TEMPLATE)
    model = llama()
    model.config.max_position_embeddings = 2048
    return Language(model=model, tokenizer=tokenizer)


def test_a_local_model_is_asked_greedily_through_its_chat_template(talker):
    tokenizer, expected = talker.tokenizer, []
    asked = tokenizer(f"[BOS]{PROMPT}\n\na dog", add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        for _ in range(6):  # without any cache
            following = torch.tensor([asked[0].tolist() + expected])
            expected.append(talker.model(following).logits[0, -1].argmax().item())
    assert expected.index(expected[3]) == 3 and tokenizer.eos_token_id not in expected
    talker.model.generation_config.eos_token_id = expected[3]
    assert Local(talker)("a dog") == tokenizer.decode(expected[:4], skip_special_tokens=True).strip()


def test_a_local_model_that_does_not_end_gave_nothing_usable(talker):
    with pytest.raises(UnusableError, match="broke off"):
        Local(talker, max_new_tokens=3)("a dog")


def test_a_local_model_without_chat_template_is_refused(llama, tokenizer):
    with pytest.raises(ValueError, match="no chat template"):
        Local(Language(model=llama(), tokenizer=tokenizer))


@pytest.fixture
def transformers_server():
    """Start transformers' own server with the real language model; returns its URL and the model's name."""
    model = str(sources.language_folder())
    port = free_port()
    code = "from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", code, "serve", model, "--port", str(port), "--host", "127.0.0.1"]
    with subprocess.Popen([*command, "--device", "cpu"]) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}/v1", model
        finally:
            process.terminate()


@pytest.mark.slow
@pytest.mark.weights
def test_transformers_own_server_rewrites_and_is_asked_once(transformers_server, tmp_path, monkeypatch):
    url, model = transformers_server
    monkeypatch.setenv("OPENAI_API_KEY", "any word")
    text = "A red bus stands in the street. A red bus stands in the street. A dog sits by the"
    first = Endpoint(url=url, model=model, cache=tmp_path, attempts=2)
    (rewritten,) = rewrite(first, [text])
    print(rewritten, first.usage)
    assert rewritten and "bus" in rewritten
    assert first.usage.asked == 1 and first.usage.prompt_tokens > 80 and first.usage.completion_tokens > 3
    again = Endpoint(url=url, model=model, cache=tmp_path)
    assert rewrite(again, [text]) == [rewritten] and again.usage == Usage(from_cache=1)
