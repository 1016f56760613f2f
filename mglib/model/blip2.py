"""Small-scale BLIP-2 pretraining of mini's Q-Former (Li et al. 2023; `blip2_qformer.py` in LAVIS).

First representation learning (contrast, matching, grounded generation), then generative learning through a
small frozen language model, which has learnt to write captions from shuffled keywords. The paper takes the
result of the same two steps, at full size, from the BLIP-2 release.
"""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mglib.config import CaptionLMConfig, PretrainConfig
from mglib.model.language import Language
from mglib.model.minigpt4 import answer_count, answer_losses
from mglib.model.prompts import Template, pad, tokenize
from mglib.model.qformer import QFormer

SPECIAL = ("[PAD]", "[BOS]", "[EOS]", "[CLS]", "[DEC]", "[SEP]")
# BLIP-2 mini reads keywords, or a picture in their place, then writes the caption.
KEYWORDS = Template(name="keywords", bos=True, turn="{}[SEP]", end="\n")


def train_tokenizer(captions: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer of `size` tokens on the training captions.

    Deviation: BLIP-2 uses BERT's and FlanT5's tokenizers; a small one keeps the small models' heads cheap.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(captions, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]"
    )


def caption_language(
    config: CaptionLMConfig, tokenizer: PreTrainedTokenizerFast, *, seed: int, attention: str
) -> Language:
    """Build the small Llama that BLIP-2 mini writes with, untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=config.width,
                intermediate_size=4 * config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                max_position_embeddings=256,
                tie_word_embeddings=True,
                attn_implementation=attention,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    return Language(model=model, tokenizer=tokenizer)


class WriteFromKeywords(nn.Module):
    """The caption LM in training: keywords in, caption loss out."""

    def __init__(self, language: Language) -> None:
        super().__init__()
        self.language = language
        language.model.requires_grad_(True)

    def count(self, batch: dict[str, Tensor]) -> Tensor:
        """Return how many caption tokens a batch has."""
        return answer_count(batch)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss summed over the caption's tokens, and their number."""
        losses, _ = answer_losses(self.language, self.language.embed(batch["ids"]), batch)
        return {"loss": losses.sum(), "count": self.count(batch)}


def text_batch(
    tokenizer: PreTrainedTokenizerFast, captions: Sequence[str], longest: int
) -> dict[str, Tensor]:
    """Tokenise captions for the Q-Former's text branch: `text` ids and `text_mask`, both (B, T).

    Each begins with [CLS], which grounded generation replaces with [DEC], and ends with [EOS].
    """
    first, last = tokenizer.convert_tokens_to_ids(["[CLS]", "[EOS]"])
    rows = [[first, *tokenize(tokenizer, caption)[: longest - 2], last] for caption in captions]
    return {
        "text": pad(rows, 0, left=False),
        "text_mask": pad([[True] * len(row) for row in rows], False, left=False),
    }


class Representation(nn.Module):
    """BLIP-2's first stage around a Q-Former: three losses with three attention masks (BLIP-2, figure 2).

    The text branch (embeddings, heads) is used here and for retrieval; MiniGPT-4 does without it.
    """

    def __init__(
        self, *, qformer: QFormer, tokenizer: PreTrainedTokenizerFast, config: PretrainConfig
    ) -> None:
        super().__init__()
        width = qformer.config.width
        self.qformer = qformer
        self.dec = tokenizer.convert_tokens_to_ids("[DEC]")
        self.words = nn.Embedding(len(tokenizer), width)
        self.positions = nn.Embedding(config.max_text, width)
        self.to_image = nn.Linear(width, config.embedding)
        self.to_text = nn.Linear(width, config.embedding)
        self.log_temperature = nn.Parameter(torch.tensor(0.07).log())
        self.matches = nn.Linear(width, 2)
        self.before_words = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, eps=1e-12))
        self.word_bias = nn.Parameter(torch.zeros(len(tokenizer)))
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)

    def read(self, seen: Tensor | None, text: Tensor | None, mask: Tensor) -> Tensor:
        """Run the Q-Former over queries (if `seen`, (B, N, D_v), is given) and text (B, T): (B, Q + T, D_q).

        `mask` (B, F, F) is true where position f may attend to position t.
        """
        parts = [] if seen is None else [self.qformer.query_tokens.expand(len(seen), -1, -1)]
        if text is not None:
            parts.append(self.words(text) + self.positions.weight[: text.shape[1]])
        embeddings = torch.cat(parts, dim=1)  # (B, F, D_q)
        closed = torch.zeros(mask.shape, device=mask.device).masked_fill(
            ~mask, torch.finfo(torch.float32).min
        )
        return self.qformer.bert(
            query_embeds=embeddings,
            query_length=0 if seen is None else self.qformer.config.queries,
            attention_mask=closed.unsqueeze(1),
            encoder_hidden_states=seen,
        ).last_hidden_state

    def encode_text(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """Embed captions alone: (B, T) -> (B, E), of unit length."""
        hidden = self.read(None, text, text_mask.unsqueeze(1).expand(-1, text.shape[1], -1))  # (B, T, D_q)
        return functional.normalize(self.to_text(hidden[:, 0]).float(), dim=-1)

    def encode_image(self, queries: Tensor) -> Tensor:
        """Embed the queries' output: (B, Q, D_q) -> (B, Q, E), each of unit length."""
        return functional.normalize(self.to_image(queries).float(), dim=-1)

    def count(self, batch: dict[str, Tensor]) -> Tensor:
        """Return how many pairs a batch has."""
        return torch.tensor(len(batch["text"]), device=batch["text"].device)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the summed loss of B pairs; `tokens` (B, N, D_v), `text` and `text_mask` (B, T)."""
        seen = self.qformer.see(batch["tokens"])
        text, text_mask = batch["text"], batch["text_mask"]
        queries, generation = self.generation(seen, text, text_mask)
        image, words = self.encode_image(queries), self.encode_text(text, text_mask)
        same = (text.unsqueeze(0) == text.unsqueeze(1)).all(-1)  # (B, B)
        # As in LAVIS, each direction detaches the side that it compares with.
        to_texts = self.similarity(image, words.detach())  # (B, B), pictures x texts
        to_images = self.similarity(image.detach(), words).T
        contrast = (contrastive_loss(to_texts, same) + contrastive_loss(to_images, same)) / 2
        others = to_texts.detach().masked_fill(
            same & ~torch.eye(len(same), dtype=torch.bool, device=same.device), -torch.inf
        )
        matching = self.matching(seen, text, text_mask, others)
        return {
            "loss": (contrast + matching + generation) * len(text),
            "count": self.count(batch),
            "contrast": contrast.detach(),
            "matching": matching.detach(),
            "generation": generation.detach(),
        }

    def generation(self, seen: Tensor, text: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the caption from the queries: text sees queries and earlier text, queries see queries.

        Since queries do not see text here, their output also serves the contrast: one pass is enough.
        """
        Q, T = self.qformer.config.queries, text.shape[1]
        mask = torch.ones(Q + T, Q + T, dtype=torch.bool, device=text.device).tril()
        mask[:Q, :Q] = True
        decoded = torch.cat([torch.full_like(text[:, :1], self.dec), text[:, 1:]], dim=1)
        hidden = self.read(seen, decoded, mask.expand(len(text), -1, -1))  # (B, Q + T, D_q)
        row, position = text_mask[:, 1:].nonzero(as_tuple=True)
        chosen = self.before_words(hidden[row, Q + position])  # (M, D_q)
        logits = functional.linear(chosen, self.words.weight, self.word_bias)  # (M, V)
        loss = functional.cross_entropy(logits.float(), text[row, position + 1], label_smoothing=0.1)
        return hidden[:, :Q], loss

    def similarity(self, image: Tensor, words: Tensor) -> Tensor:
        """Score pictures, (B, Q, E), against texts, (R, E), by the best-matching query: (B, R)."""
        return torch.einsum("iqe,te->itq", image, words).amax(-1) / self.log_temperature.exp()

    def matching(self, seen: Tensor, text: Tensor, text_mask: Tensor, similarity: Tensor) -> Tensor:
        """Return the image-text matching loss, pairs against hard negatives, all positions seeing each other.

        Deviation: every fourth pair, with a negative text or picture in turn (official: all pairs, both).
        """
        B = len(text)
        chosen = torch.arange(0, B, 4, device=text.device)
        swap_text = torch.arange(len(chosen), device=text.device) % 2 == 0  # else the picture is swapped
        closeness = torch.where(swap_text.unsqueeze(1), similarity[chosen], similarity.T[chosen])
        weights = (closeness.softmax(1) + 1e-9).scatter(1, chosen.unsqueeze(1), 0.0)
        negative = weights.multinomial(1).squeeze(1)  # (B / 4,)
        pictures = torch.cat([chosen, torch.where(swap_text, chosen, negative)])
        texts = torch.cat([chosen, torch.where(swap_text, negative, chosen)])
        logits = self.match_logits(seen[pictures], text[texts], text_mask[texts])
        target = torch.cat([torch.ones_like(chosen), torch.zeros_like(chosen)])
        return functional.cross_entropy(logits.float(), target)

    def match_logits(self, seen: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        """Score pairs as (no match, match), averaged over the queries: (B, 2)."""
        Q = self.qformer.config.queries
        allowed = functional.pad(text_mask, (Q, 0), value=True)  # (B, Q + T)
        hidden = self.read(seen, text, allowed.unsqueeze(1).expand(-1, allowed.shape[1], -1))
        return self.matches(hidden[:, :Q]).mean(1)


@torch.inference_mode()
def similarities(
    representation: Representation,
    tokens: Sequence[Tensor],
    texts: Sequence[str],
    *,
    tokenizer: PreTrainedTokenizerFast,
    max_text: int,
    batch_size: int,
) -> Tensor:
    """Compare every picture, (N, D_v), with every text by contrast alone: cosines, (P, R).

    Of a picture's queries the best counts, as in BLIP-2; `max_text` tokens of a text are read.
    """
    device = representation.positions.weight.device
    images, found = [], []
    for start in range(0, len(tokens), batch_size):
        indices = range(start, min(start + batch_size, len(tokens)))  # features on disk know no slices
        rows = torch.stack([tokens[index] for index in indices]).to(device)
        images.append(representation.encode_image(representation.qformer(rows)).cpu())  # (B, Q, E)
    for start in range(0, len(texts), batch_size):
        batch = text_batch(tokenizer, texts[start : start + batch_size], max_text)
        words = representation.encode_text(batch["text"].to(device), batch["text_mask"].to(device)).cpu()
        found.append(torch.einsum("pqe,re->prq", torch.cat(images), words).amax(-1))  # (P, B)
    return torch.cat(found, dim=1)


def contrastive_loss(similarity: Tensor, same: Tensor) -> Tensor:
    """Return the loss of finding each row's match, both arguments (B, B), labels smoothed by 0.1.

    Deviation: in a small world two pictures often have the same text; `same` texts share the label, as the
    captions of one picture do in LAVIS.
    """
    labels = 0.9 * same / same.sum(1, keepdim=True) + 0.1 / len(same)
    return functional.cross_entropy(similarity, labels)
