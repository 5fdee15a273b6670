"""A target and a drafter with a dialled acceptance rate: timing without trained weights.

Both models are random, at the true size of the architectures they stand for, and write one text
that is known beforehand. Tokens are embedded as ``E ~ N(0, 1)`` and the output row of the token
that follows x is ``E[x]`` scaled, so that greedy text follows a permutation of the vocabulary: one
cycle, which repeats only after all of it. The drafter follows another permutation, which differs at
a fraction 1 − α of the tokens: a draft token is accepted with probability α, whatever came before
it, and a forward costs what a forward of that size does. What is measured with such a pair has a
*synthetic acceptance*, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from ..errors import InvalidArgument, UnknownName
from ..models.attention import use_slot_attention
from ..models.language_model import LanguageModel
from ..models.load import DTYPES, resolve_device, wrap

_PEAK = 20.0
"""About the logit of the token that follows; the others are ``N(0, (_PEAK / sqrt(d))²)``."""
_BRANCHES = 0.3
"""What all residual branches of a model together add to the embedding of a token, about."""
_WRITERS = ("attention.dense.weight", "dense_4h_to_h.weight", "o_proj.weight", "down_proj.weight")


@dataclass(frozen=True, slots=True)
class SyntheticShape:
    """The sizes of one model, whose output layer is apart from its embedding.

    Attributes:
        layers: how many.
        hidden: how wide.
        inner: width inside the MLP.
        heads: query heads.
        family: whose architecture it has.
        kv_heads: key-value heads of a ``llama``; None is one for each query head.
        vocabulary: rows of the embedding and of the output layer.
        context: positions.

    Raises:
        InvalidArgument: heads that do not divide, or a model too narrow for its vocabulary.
    """

    layers: int
    hidden: int
    inner: int
    heads: int
    family: Literal["gpt-neox", "llama"] = "gpt-neox"
    kv_heads: int | None = None
    vocabulary: int = 50304
    context: int = 2048

    def __post_init__(self) -> None:
        """Check the sizes."""
        if self.hidden % self.heads or self.heads % (self.kv_heads or self.heads):
            raise InvalidArgument(
                f"{self.heads} heads over {self.kv_heads or self.heads} key-value heads in "
                f"{self.hidden} dimensions: give numbers that divide"
            )
        narrowest = math.ceil(8 * math.log(self.vocabulary))
        if self.hidden < narrowest:  # the best of the other tokens comes near the one that follows
            raise InvalidArgument(
                f"{self.hidden} dimensions for {self.vocabulary} tokens: random rows are too much "
                f"alike, give {narrowest} or more"
            )

    def config(self) -> PretrainedConfig:
        """Return the configuration of transformers, without special tokens: texts do not end."""
        sizes: dict[str, Any] = {
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "max_position_embeddings": self.context,
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": None,
        }
        if self.family == "llama":
            return LlamaConfig(**sizes, num_key_value_heads=self.kv_heads or self.heads)
        return GPTNeoXConfig(**sizes)


SHAPES: Mapping[str, SyntheticShape] = {
    "pythia-70m": SyntheticShape(6, 512, 2048, 8),
    "pythia-160m": SyntheticShape(12, 768, 3072, 12),
    "pythia-160m-draft": SyntheticShape(6, 128, 512, 4),
    "pythia-2.8b": SyntheticShape(32, 2560, 10240, 32),
    "tiny": SyntheticShape(2, 64, 128, 4, vocabulary=1024, context=1024),
    "tiny-draft": SyntheticShape(1, 64, 64, 2, vocabulary=1024, context=1024),
    "tiny-llama": SyntheticShape(2, 64, 128, 4, "llama", 2, vocabulary=1024, context=1024),
    "tiny-llama-draft": SyntheticShape(1, 64, 64, 2, "llama", 1, vocabulary=1024, context=1024),
}
PAIRS: Mapping[str, str] = {
    "pythia-160m": "pythia-160m-draft",
    "pythia-2.8b": "pythia-70m",
    "tiny": "tiny-draft",
    "tiny-llama": "tiny-llama-draft",
}
"""The drafter that goes with a target."""


def synthetic_pair(
    shape: str = "pythia-160m",
    acceptance: float = 0.75,
    dtype: str | torch.dtype = "bfloat16",
    device: str | torch.device | None = None,
    seed: int = 0,
) -> tuple[LanguageModel, LanguageModel]:
    """Return a target and a drafter whose draft tokens are accepted at a given rate.

    The weights are made where they stay, in their dtype: there is never a second copy of them.

    Args:
        shape: of the target, one of :data:`PAIRS`, which names the drafter's.
        acceptance: α, the fraction of the vocabulary after which both write the same token. Over
            n draft tokens the rate measured is α ± sqrt(α(1 − α)/n).
        dtype: of the weights.
        device: where to run; None is the GPU if there is one, else the CPU.
        seed: of the text and of the weights. The text is the same on all devices.

    Returns:
        Target and drafter, without a tokenizer: prompts are token ids.

    Raises:
        UnknownName: no pair has that name, or an unknown dtype.
        InvalidArgument: an acceptance outside 0 … 1, or a device that is not there.
    """
    if shape not in PAIRS:
        raise UnknownName(f"no synthetic pair {shape!r}: choose one of {', '.join(PAIRS)}")
    if isinstance(acceptance, bool) or not 0 <= acceptance <= 1:
        raise InvalidArgument(f"synthetic acceptance {acceptance!r}: give 0 to 1")
    if not isinstance(dtype, torch.dtype):
        if dtype not in DTYPES:
            raise UnknownName(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
        dtype = DTYPES[dtype]
    place = resolve_device(device)
    generator = torch.Generator(place).manual_seed(seed)
    text = successors(SHAPES[shape].vocabulary, seed)
    drafts = corrupted(text, acceptance, seed)
    both = []
    for name, follows in ((shape, text), (PAIRS[shape], drafts)):
        model = _model(SHAPES[name], follows, dtype, place, generator)
        both.append(wrap(model, name=f"synthetic {name}"))
        use_slot_attention(model)
        both[-1].use_runtime("eager")  # as a model is that was loaded
    return both[0], both[1]


def successors(vocabulary: int, seed: int = 0) -> Tensor:
    """Return ``[V]`` int64: the token that follows each one, all of them in one cycle."""
    cycle = torch.randperm(vocabulary, generator=torch.Generator().manual_seed(seed))
    follows = torch.empty_like(cycle)
    follows[cycle] = cycle.roll(-1)
    return follows


def corrupted(follows: Tensor, acceptance: float, seed: int = 0) -> Tensor:
    """Return a permutation ``[V]`` that differs at a fraction 1 − ``acceptance`` of the tokens."""
    wrong = round((1 - acceptance) * len(follows))
    order = torch.randperm(len(follows), generator=torch.Generator().manual_seed(seed + 1))
    places = order[:wrong]
    other = follows.clone()
    other[places] = follows[places].roll(1)
    return other


@torch.no_grad()
def _model(
    shape: SyntheticShape,
    follows: Tensor,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
) -> PreTrainedModel:
    config = shape.config()
    with torch.device("meta"):  # nothing is initialised only to be overwritten
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.to_empty(device=device).eval()
    core = model.base_model
    with device:  # the angles are no parameters: nothing is left of them
        core.rotary_emb = type(core.rotary_emb)(config)
    # attention and MLP of every layer write to the residual stream
    quiet = _BRANCHES / math.sqrt(2 * shape.layers)
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            weight.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        loudness = quiet if name.endswith(_WRITERS) else 1.0
        weight.normal_(std=loudness / math.sqrt(weight.shape[1]), generator=generator)
    embedding = model.get_input_embeddings().weight
    embedding.normal_(generator=generator)
    head = model.get_output_embeddings().weight.data
    torch.index_select(embedding.data, 0, follows.argsort().to(device), out=head)
    head.mul_(_PEAK / shape.hidden)
    return cast(PreTrainedModel, model)
