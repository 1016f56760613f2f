"""The Q-Former: a few learned queries read the vision tokens (BLIP-2, section 3; transformers' code)."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from mglib.config import QFormerConfig


class QFormer(nn.Module):
    """Q learned queries that attend to each other and, in every second layer, to the vision tokens.

    Holds `ln_vision` too: in the BLIP-2 release it is trained and stored with the Q-Former, not with the
    encoder.
    """

    def __init__(self, *, config: QFormerConfig, vision_width: int, attention: str = "sdpa") -> None:
        super().__init__()
        self.config = config
        self.ln_vision = nn.LayerNorm(vision_width, eps=1e-5)
        self.query_tokens = nn.Parameter(torch.zeros(1, config.queries, config.width))
        nn.init.normal_(self.query_tokens, std=0.02)
        self.bert = Blip2QFormerModel(
            Blip2QFormerConfig(
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=4 * config.width,
                encoder_hidden_size=vision_width,
                cross_attention_frequency=config.cross_attention_frequency,
                use_qformer_text_input=config.vocabulary > 0,
                vocab_size=max(config.vocabulary, 1),
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,  # BERT's 0.1 slows down a short training run
                attn_implementation=attention,
            )
        )
        # Deviation: with BERT's 0.02 a narrow Q-Former attends uniformly for hundreds of steps.
        for name, weight in self.bert.named_parameters():
            if "crossattention" in name and weight.ndim == 2:
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)

    def forward(
        self, tokens: Tensor, *, output_attentions: bool = False
    ) -> Tensor | tuple[Tensor, tuple[Tensor, ...]]:
        """Read vision tokens (B, N, D_v) into queries (B, Q, D_q).

        With `output_attentions` also the attention of each cross-attending layer, (B, heads, Q, N).
        """
        seen = self.see(tokens)
        queries = self.query_tokens.expand(len(tokens), -1, -1)  # (B, Q, D_q)
        result = self.bert(
            query_embeds=queries, encoder_hidden_states=seen, output_attentions=output_attentions
        )
        return (
            (result.last_hidden_state, result.cross_attentions)
            if output_attentions
            else result.last_hidden_state
        )

    def see(self, tokens: Tensor) -> Tensor:
        """Normalise vision tokens in float32, as the official code does: (B, N, D_v) -> (B, N, D_v)."""
        return self.ln_vision(tokens.to(self.ln_vision.weight.dtype))


@torch.no_grad()
def standardise(norm: nn.LayerNorm, tokens: Tensor) -> None:
    """Set a norm so that each channel has mean 0 and standard deviation 1 over vision tokens (B, N, D_v).

    Deviation from BLIP-2's ones and zeros: most of the encoder's output is the same for all pictures, and a
    short training run would spend its first part learning to ignore it.
    """
    normal = functional.layer_norm(tokens.float(), tokens.shape[-1:], eps=norm.eps).flatten(0, 1)  # (BN, D_v)
    spread, mean = torch.std_mean(normal, dim=0)
    norm.weight.copy_(1 / spread)
    norm.bias.copy_(-mean / spread)
