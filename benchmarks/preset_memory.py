"""What presets take with Pythia 2.8B + 70M and Llama 3.2 3B + 1B, by arithmetic: no weights.

``python benchmarks/preset_memory.py`` prints the tables of docs/presets.md. The configurations are
the published ones as numbers; with a hub at hand ``outpace memory --target NAME`` reads its own.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import GPTNeoXConfig, LlamaConfig, PretrainedConfig

from outpace.memory import Needs, needs
from outpace.models.outline import Outline
from outpace.presets import PRESETS

GPU = torch.device("cuda")
CONFIGURATIONS: Mapping[str, PretrainedConfig] = {
    "Pythia 2.8B": GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=2560,
        num_hidden_layers=32,
        num_attention_heads=32,
        intermediate_size=10240,
        max_position_embeddings=2048,
    ),
    "Pythia 70M": GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=512,
        num_hidden_layers=6,
        num_attention_heads=8,
        intermediate_size=2048,
        max_position_embeddings=2048,
    ),
    "Llama 3.2 3B": LlamaConfig(
        vocab_size=128256,
        hidden_size=3072,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=8192,
        max_position_embeddings=131072,
        tie_word_embeddings=True,
    ),
    "Llama 3.2 1B": LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        intermediate_size=8192,
        max_position_embeddings=131072,
        tie_word_embeddings=True,
    ),
}
PAIRS = (("Pythia 2.8B", "Pythia 70M"), ("Llama 3.2 3B", "Llama 3.2 1B"))
PROMPT = 128
LENGTHS: Mapping[str, tuple[int, ...]] = {
    "short": (128, 1920),
    "long": (128, 1920, 100_000),
    "balanced": (128, 1920, 100_000),
    "least-memory": (128, 100_000),
}
"""New tokens; without a policy Pythia's texts end at 2,048."""


def outlines() -> dict[str, Outline]:
    """Return the outlines of all models."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, config in CONFIGURATIONS.items():
            place = Path(folder) / name.replace(" ", "-")
            config.save_pretrained(place)
            found[name] = Outline.of(place)
    return found


def rows(known: Mapping[str, Outline], target: str, drafter: str) -> list[list[str]]:
    """Return a pair's rows: preset, new tokens, GB of each part and of all."""
    found = []
    for name, lengths in LENGTHS.items():
        for new in lengths:
            both = of(known, name, target, drafter, new)
            alone = of(known, name, target, "none", new)
            parts = (both.weights, both.drafter_weights, both.kv, both.drafter_kv, both.activations)
            sizes = [f"{one / 1e9:.2f}" for one in (*parts, both.total, alone.total, both.loading)]
            found.append([f"`{name}`", f"{new:,}", *sizes])
    return found


def of(known: Mapping[str, Outline], preset: str, target: str, drafter: str, new: int) -> Needs:
    """Return what a preset takes on a GPU."""
    drafts = drafter != "none"
    recipe = PRESETS[preset].recipe(
        target,
        drafter,
        device=GPU,
        context=known[target].context_length,
        drafter_context=known[drafter].context_length if drafts else None,
        drafts=drafts,
    )
    return needs(
        recipe,
        PROMPT,
        new,
        place="cuda",
        target=known[target],
        drafter=known[drafter] if drafts else None,
    )


HEAD = (
    "preset",
    "new tokens",
    "weights",
    "drafter",
    "KV",
    "its KV",
    "activations",
    "all",
    "without the drafter",
    "while loading",
)


def table(known: Mapping[str, Outline], target: str, drafter: str) -> str:
    """Return a pair's table as Markdown."""
    lines = [HEAD, ["---", *["---:"] * (len(HEAD) - 1)], *rows(known, target, drafter)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print the tables."""
    known = outlines()
    for target, drafter in PAIRS:
        sizes = f"{known[target].parameters:,} + {known[drafter].parameters:,} parameters"
        print(f"**{target} + {drafter}** ({sizes}), GB:\n")
        print(table(known, target, drafter), end="\n\n")


if __name__ == "__main__":
    main()
