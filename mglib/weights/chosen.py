"""Any transformers causal language model in place of a profile's own: a pinned one, a folder, or a name on
the hub.
"""

from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from mglib.model.language import Language
from mglib.model.prompts import chat_text
from mglib.paths import hash_json, sha256
from mglib.weights.files import hub_errors
from mglib.weights.sources import LANGUAGE, language_folder
from mglib.weights.vicuna import Quantised, read

INSTEAD = f"give a folder of transformers or one of {', '.join(LANGUAGE)}"
FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
QUESTION, ANSWER = "(the question)", "(the answer)"


def find(path_or_repo: str, weights: str = "wheel") -> Path:
    """Return a model's folder: a pinned one's, `path_or_repo` itself, or what the hub has under this name.

    Raises RuntimeError with the next step if it cannot be obtained.
    """
    if path_or_repo in LANGUAGE:
        return language_folder(path_or_repo, weights)
    folder = Path(path_or_repo).expanduser()
    if folder.is_dir():
        return folder
    with hub_errors(path_or_repo, INSTEAD):
        return Path(snapshot_download(path_or_repo, allow_patterns=list(FILES), etag_timeout=10))


def configuration(path_or_repo: str) -> PreTrainedConfig:
    """Return a model's configuration, without its weights; raises RuntimeError like `find`."""
    with hub_errors(f"The configuration of {path_or_repo}", INSTEAD):
        return AutoConfig.from_pretrained(named_or_path(path_or_repo))


def tokenizer_of(path_or_repo: str) -> PreTrainedTokenizerBase:
    """Return a model's tokenizer alone; raises RuntimeError like `find`."""
    with hub_errors(f"The tokenizer of {path_or_repo}", INSTEAD):
        return AutoTokenizer.from_pretrained(named_or_path(path_or_repo))


def named_or_path(path_or_repo: str) -> Path:
    """Return where a model's small files are, without fetching its weights from the hub."""
    return find(path_or_repo) if path_or_repo in LANGUAGE else Path(path_or_repo).expanduser()


def identity(folder: Path) -> str:
    """Return a hash of a model's files, whatever its folder is called."""
    files = sorted(path for pattern in FILES for path in folder.glob(pattern))
    return hash_json([(path.name, sha256(path)) for path in files])


def load(folder: Path, *, dtype: torch.dtype, quantised: Quantised | None, attention: str) -> Language:
    """Load a folder; its answers end as its own chat template ends them.

    Raises ValueError for a model without such a template, for one that changes hidden states or logits in a
    way that `Language` does not reproduce, and like `mglib.weights.vicuna.quantisation`.
    """
    language = read(folder, dtype=dtype, quantised=quantised, attention=attention)
    language.tokenizer.eos_token = answer_end(language.tokenizer)
    require_plain(folder, language)
    return language


def answer_end(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the symbol after an answer in the model's own chat template, which need not be its `eos_token`.

    Raises ValueError if there is no template or no symbol.
    """
    if tokenizer.chat_template is None:
        raise ValueError(
            "This language model has no chat template of its own: take one tuned for conversation."
        )
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    behind = chat_text(tokenizer, turns).split(ANSWER)[-1].strip()
    special = [one for one in (*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()) if one]
    found = [one for one in special if behind.startswith(one)]
    if not found:
        raise ValueError(
            f"Behind an answer this model's chat template writes {behind!r}, which begins with no special "
            "token: nothing would say that an answer is over."
        )
    return max(found, key=len)


@torch.inference_mode()
def require_plain(folder: Path, language: Language) -> None:
    """Raise ValueError unless embeddings, decoder and head, one after the other, are the whole model."""
    ids = torch.arange(1, 9, device=language.model.device).unsqueeze(0)
    ours = language.logits(language(language.embed(ids), torch.ones_like(ids))).float()
    whole = language.model(input_ids=ids).logits.float()
    if not torch.allclose(ours, whole, rtol=1e-2, atol=1e-2 * whole.abs().max().item()):
        raise ValueError(
            f"The model in {folder} does more than embedding, decoder and head (Gemma 2 bends its logits): "
            "its losses would be wrong here. Take another one."
        )
