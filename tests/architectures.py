"""Tiny random models of the families the loop is tested on."""

import copy
from collections.abc import Callable

import torch
import transformers as hf
from transformers import PreTrainedModel

VOCABULARY = 101
CONTEXT = 512

_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_NO_GROUPS = {k: v for k, v in _COMMON.items() if k not in {"num_key_value_heads", "head_dim"}}

# A window of 16 is shorter than every text, so a wrong sliding mask changes tokens.
CONFIGS: dict[str, Callable[[], hf.PretrainedConfig]] = {
    "llama": lambda: hf.LlamaConfig(**_COMMON),
    "qwen3": lambda: hf.Qwen3Config(**_COMMON),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**_NO_GROUPS),
    "gpt2": lambda: hf.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=CONTEXT,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "mistral": lambda: hf.MistralConfig(**_COMMON, sliding_window=16),
    "gemma2": lambda: hf.Gemma2Config(
        **_COMMON | {"initializer_range": 0.1},
        sliding_window=16,
        query_pre_attn_scalar=8,
        attn_logit_softcapping=5.0,
    ),
    "gemma3": lambda: hf.Gemma3TextConfig(
        **_COMMON | {"num_hidden_layers": 3, "initializer_range": 0.1},
        sliding_window=16,
        query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    ),
    "phi3": lambda: hf.Phi3Config(
        **{k: v for k, v in _COMMON.items() if k != "head_dim"}, sliding_window=16
    ),
    "gpt_oss": lambda: hf.GptOssConfig(
        **_COMMON, sliding_window=16, num_local_experts=4, num_experts_per_tok=2
    ),
}


def build(name: str, seed: int = 0) -> PreTrainedModel:
    """Return a random model in fp32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = hf.AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()
    model.generation_config = hf.GenerationConfig(eos_token_id=2, pad_token_id=0)
    return model


def blurred(model: PreTrainedModel, share: float = 0.06, seed: int = 1) -> PreTrainedModel:
    """Return a copy with noise on its weights: it agrees with the original often, not always."""
    copied = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in copied.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(share * weight.std(correction=0) * noise)
    return copied
