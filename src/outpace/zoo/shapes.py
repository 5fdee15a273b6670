"""The shapes of the embedded models: Llama, grouped queries, one tokenizer, context 2048."""

from dataclasses import dataclass
from typing import Any

VOCABULARY = 4096
CONTEXT = 2048


@dataclass(frozen=True, slots=True)
class Shape:
    """Of one model: ``hidden`` wide, ``heads`` query heads over ``kv_heads`` key-value heads."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    tied: bool

    def config(self) -> dict[str, Any]:
        """Return the keywords of transformers' LlamaConfig."""
        return {
            "vocab_size": VOCABULARY,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.hidden // self.heads,
            "max_position_embeddings": CONTEXT,
            "rope_theta": 10000.0,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": self.tied,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
        }


TARGET = Shape(layers=6, hidden=384, inner=1024, heads=6, kv_heads=2, tied=False)
DRAFTERS = {
    "small": Shape(layers=1, hidden=64, inner=160, heads=2, kv_heads=1, tied=True),
    "medium": Shape(layers=1, hidden=160, inner=512, heads=5, kv_heads=1, tied=True),
    "large": Shape(layers=1, hidden=320, inner=1024, heads=5, kv_heads=1, tied=True),
}
DEEP = Shape(layers=2, hidden=256, inner=768, heads=4, kv_heads=1, tied=True)
"""As many parameters as ``large`` in two narrower layers: the other way to spend them."""
WIDE = Shape(layers=12, hidden=1024, inner=2816, heads=16, kv_heads=16, tied=False)
"""About 160 M parameters, a key head for each query head: :mod:`outpace.zoo.widened` fills it."""
