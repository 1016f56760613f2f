"""Rewriters of generated paragraphs, plain callables `str -> str`: a chat endpoint, a local language model.

The paper's is ChatGPT with the prompt below (section 3.2). `repair.repair` is the third rewriter.
"""

import json
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from mglib.model.language import Language
from mglib.paths import hash_json, write_json

PROMPT = (
    "Fix the error in the given paragraph. Remove any repeating sentences, meaningless characters, not "
    "English sentences, and so on. Remove unnecessary repetition. Rewrite any incomplete sentences. Return "
    "directly the results without explanation. Return directly the input paragraph if it is already correct "
    "without explanation."
)


Given = TypeVar("Given")


class RewriteError(Exception):
    """A sentence: why a rewriter, or whatever else is asked for text, does not work now, and what to do."""


class UnusableError(Exception):
    """It works, but what it made of this paragraph is no text, or not a whole one."""


def request(paragraph: str) -> list[dict[str, str]]:
    """Return the messages of a request; the paper does not say how prompt and paragraph are put together."""
    return [{"role": "user", "content": f"{PROMPT}\n\n{paragraph}"}]


@dataclass
class Usage:
    """What a rewriter has asked for so far; tokens as the server counts them."""

    asked: int = 0
    from_cache: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Endpoint:
    """A model behind an OpenAI-compatible endpoint; every answer is kept on disk and asked for only once.

    Threads may share one: `usage` counts all of them.
    """

    def __init__(
        self,
        *,
        model: str,
        cache: Path,
        url: str | None = None,
        attempts: int = 6,
        timeout: float = 120,
        temperature: float | None = 0,
    ) -> None:
        """Reads OPENAI_API_KEY, and OPENAI_BASE_URL where no `url` is given; ValueError without a key.

        The client repeats what may pass (no connection, 408, 409, 429, 5xx), `attempts` times in all with
        growing pauses. The paper names no temperature: 0 repeats best, None leaves it to the server.
        """
        if not os.environ.get("OPENAI_API_KEY"):
            raise ValueError(
                "OPENAI_API_KEY is not set: export it (a server of your own takes any word), or use the "
                "rules of mglib.curation.repair, which need no model."
            )
        import openai  # here, since it takes a second and few runs ask a server

        self.client = openai.OpenAI(base_url=url, max_retries=attempts - 1, timeout=timeout)
        self.model, self.cache, self.temperature = model, cache, temperature
        self.usage = Usage()
        self._counting = threading.Lock()

    def __call__(self, paragraph: str) -> str:
        """Return the rewritten paragraph; raises RewriteError or UnusableError."""
        return self.complete(request(paragraph))

    def complete(self, messages: list[dict[str, str]]) -> str:
        """Return the answer to messages of any kind; raises RewriteError or UnusableError."""
        asked = {"url": str(self.client.base_url), "model": self.model, "messages": messages}
        if self.temperature is not None:
            asked["temperature"] = self.temperature
        file = self.cache / f"{hash_json(asked)}.json"
        kept = read(file, asked)
        if kept is None:
            kept = {"asked": asked, **self.ask({name: asked[name] for name in asked if name != "url"})}
            write_json(file, kept)
        else:
            self.count(from_cache=1)
        if kept["finish"] == "length":
            raise UnusableError(f"{self.model} broke off")
        if not kept["answer"].strip():
            raise UnusableError(f"{self.model} answered without a text: {kept['finish']}")
        return kept["answer"].strip()

    def ask(self, given: dict[str, Any]) -> dict[str, str]:
        """Send one request; returns its text and why it ends there."""
        import openai

        url = self.client.base_url
        try:
            response = self.client.chat.completions.create(**given)
            choice = response.choices[0]
            answer = {"answer": choice.message.content or "", "finish": choice.finish_reason}
        except openai.APIConnectionError as error:
            raise RewriteError(f"{url} does not answer ({error}): is the server running?") from error
        except openai.APIStatusError as error:
            raise RewriteError(
                f"{url} refuses with status {error.status_code} ({error.message}): check key, model, quota."
            ) from error
        except (openai.APIError, AttributeError, TypeError, IndexError, ValueError) as error:
            raise RewriteError(
                f"{url} sent something that is no chat completion ({error}): does its path end in /v1?"
            ) from error
        used = response.usage  # some servers count nothing
        self.count(
            asked=1,
            prompt_tokens=used.prompt_tokens if used else 0,
            completion_tokens=used.completion_tokens if used else 0,
        )
        return answer

    def count(self, **more: int) -> None:
        """Add to `usage`."""
        with self._counting:
            for name, number in more.items():
                setattr(self.usage, name, getattr(self.usage, name) + number)


def read(file: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """Return what was kept of exactly this request; a damaged file is told of and counts as nothing."""
    if not file.exists():
        return None
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return kept if kept["asked"] == asked and {"answer", "finish"} <= kept.keys() else None
    except (ValueError, KeyError, TypeError):
        print(f"{file.name} is damaged and is asked for again.")
        return None


class Local:
    """A language model in this process, asked greedily through its own chat template."""

    def __init__(self, language: Language, *, max_new_tokens: int = 400) -> None:
        """Raises ValueError when the model has no chat template: it would not understand the request."""
        if language.tokenizer.chat_template is None:
            raise ValueError("This language model has no chat template: take one that was tuned for chat.")
        self.language, self.max_new_tokens = language, max_new_tokens

    @torch.inference_mode()
    def __call__(self, paragraph: str) -> str:
        """Return the rewritten paragraph; raises UnusableError when it is empty or does not end."""
        model, tokenizer = self.language.model, self.language.tokenizer
        ids = tokenizer.apply_chat_template(
            request(paragraph), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"].to(model.device)  # (1, T)
        new = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=self.max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )[0, ids.shape[1] :]
        text = tokenizer.decode(new, skip_special_tokens=True).strip()
        if not text:
            raise UnusableError("the language model answered without a text")
        if len(new) == self.max_new_tokens and new[-1] != tokenizer.eos_token_id:
            raise UnusableError("the language model broke off")
        return text


def rewrite(
    rewriter: Callable[[str], str], paragraphs: Sequence[str], *, workers: int = 1
) -> list[str | None]:
    """Rewrite all paragraphs as `ask_all` asks."""
    return ask_all(rewriter, paragraphs, what="paragraphs", workers=workers)


def ask_all(
    ask: Callable[[Given], str], questions: Sequence[Given], *, what: str, workers: int = 1
) -> list[str | None]:
    """Ask all questions, `workers` at a time; None stands where nothing usable came back.

    A question whose request fails does not stop the others, so an endpoint keeps their answers; at the end
    RewriteError tells of it, and a second call asks only for what is missing.
    """

    def attempt(question: Given) -> str | RewriteError | None:
        try:
            return ask(question)
        except UnusableError:
            return None
        except RewriteError as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        texts = list(tqdm(pool.map(attempt, questions), desc=what, total=len(questions), mininterval=10))
    failed = [text for text in texts if isinstance(text, RewriteError)]
    if failed:
        raise RewriteError(
            f"{len(failed)} of {len(texts)} {what} got no answer. The first: {failed[0]} What was "
            "answered is kept: run the same command again."
        )
    return texts
