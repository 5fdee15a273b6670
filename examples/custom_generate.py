"""Runs the loop inside transformers' own generate: python examples/custom_generate.py"""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from outpace import CustomGenerate


def random_model() -> LlamaForCausalLM:
    """A small random model over bytes; a pretrained one is used in the same way."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.05,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def main() -> None:
    model = random_model()
    prompt = torch.tensor([list(b"red ball, red ball, red ball")])
    options = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 60, "do_sample": False}
    plain = model.generate(prompt, **options)
    lengths: list[int] = []
    outpace = CustomGenerate(
        "prompt-lookup", draft_length=4, on_round=lambda turn: lengths.append(len(turn.tokens))
    )
    drafted = model.generate(prompt, custom_generate=outpace, **options)
    print("tokens a round:", *lengths)
    print("accepted:", outpace.last.stats.accepted, "of", outpace.last.stats.drafted)
    print("the same ids:", torch.equal(plain, drafted))


if __name__ == "__main__":
    main()
