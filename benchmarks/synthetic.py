"""What the benchmarks on pairs with a synthetic acceptance share: prompts, runtimes, methods."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from outpace.bench import BenchPrompt, Models, make_method
from outpace.bench.methods import Method
from outpace.errors import UnsupportedModel
from outpace.models import LanguageModel, wrap
from outpace.zoo.synthetic import synthetic_pair

GATE = "draft@gate"


def pair(shape: str, acceptance: float, dtype: str, device: str | None, seed: int = 0) -> Models:
    """Return a synthetic pair that reads and writes numbers."""
    target, drafter = synthetic_pair(shape, acceptance, dtype, device, seed)
    target.tokenizer = drafter.tokenizer = number_tokenizer(target.vocabulary)
    return Models(target, drafter)


def number_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of token ids: "17 4 9" is [17, 4, 9]. A benchmark's prompts are texts."""
    words = {str(number): number for number in range(vocabulary)}
    core = Tokenizer(models.WordLevel(vocab=words, unk_token="0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core)


def prompts(vocabulary: int, count: int, length: int, seed: int = 0) -> list[BenchPrompt]:
    """Return prompts of random token ids: each text goes on somewhere else in the cycle."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randint(vocabulary, (count, length), generator=draw).tolist()
    return [
        BenchPrompt("random ids", str(number), " ".join(map(str, row)))
        for number, row in enumerate(rows)
    ]


def in_runtime(model: LanguageModel, runtime: str) -> LanguageModel:
    """Return the same weights in another runtime; blocks until it is ready.

    Raises:
        UnsupportedModel: this runtime cannot be had here; the message says why.
    """
    with model.stock() as stock:
        again: Any = wrap(stock, model.tokenizer, name=model.name)
    again.use_runtime(runtime, wait=True)
    if again.runtime_name != runtime:
        raise UnsupportedModel(again.runtime_note or f"runtime {runtime!r} cannot be had here")
    return cast(LanguageModel, again)


def methods(both: Models, names: Sequence[str], kind: str = "") -> list[Method]:
    """Return methods on a pair, called after their kind ("int8 plain"), as far as there are any."""
    made = []
    for name in names:
        method = make_method(name, both, 5)
        method.name = f"{kind} {name}".strip()
        made.append(method)
    return made
