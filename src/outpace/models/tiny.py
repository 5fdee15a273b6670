"""A tiny random model with a byte tokenizer: for tests, examples and machines without a model."""

from typing import Any, cast

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .attention import use_slot_attention
from .language_model import LanguageModel
from .load import wrap

EOS = 256


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of 256 bytes and an end token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate(alphabet)} | {"<end>": EOS}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")


def tiny_model(
    *,
    seed: int = 0,
    layers: int = 2,
    context_length: int = 512,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> LanguageModel:
    """Return a random Llama of about 30,000 parameters over bytes.

    Its text means nothing; it is there to run the real code on.
    """
    config = LlamaConfig(
        vocab_size=EOS + 1,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context_length,
        initializer_range=0.3,  # wide enough that the best token stands out
        bos_token_id=None,
        eos_token_id=EOS,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
    cast(Any, model).to(device=device, dtype=dtype)
    language_model = wrap(model, byte_tokenizer(), name="a tiny random model")
    use_slot_attention(model)
    return language_model
