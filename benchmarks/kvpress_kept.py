"""What NVIDIA's kvpress keeps: python benchmarks/kvpress_kept.py FOLDER

Runs where kvpress is installed, which needs an older transformers; nothing of Outpace is imported.
FOLDER is what `kvpress_compare.py write` made: a model and cases.json. Written beside them:
kept.json, which tokens each layer and head keeps at each compression, and kept.safetensors, the
keys that are left in the cache and the norms of all keys at the last one.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from kvpress import DecodingPress, KnormPress, StreamingLLMPress
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache

PRESSES = {"KnormPress": KnormPress, "StreamingLLMPress": StreamingLLMPress}


class Watch:
    """Writes down what a press keeps, from the keys that go in and those that come out.

    Args:
        press: the press, whose ``compress`` is replaced.
        in_order: put what is kept in the order of the text. Keys know their positions, so that
            attention is the same, but a press that goes by places needs it.

    Attributes:
        kept: of each layer, at each compression, ``[H, k]``, tokens of the text, ascending.
        keys: of each layer ``[H, k, D]``, those of the last compression, in that order.
        norms: of each layer ``[H, n]``, of all keys that went in.
    """

    def __init__(self, press: Any, in_order: bool) -> None:
        self.in_order = in_order
        self.kept: dict[int, list[Tensor]] = {}
        self.keys: dict[int, Tensor] = {}
        self.norms: dict[int, Tensor] = {}
        self.held: dict[int, Tensor] = {}  # as kept, but in the order of the cache
        self.seen: dict[int, int] = {}
        self._compress, press.compress = press.compress, self.compress

    def compress(
        self, module: Any, hidden: Tensor, keys: Tensor, values: Tensor, weights: Any, kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Let the press choose, and find what it chose among the keys there were."""
        layer, count = module.layer_idx, keys.shape[2]
        left, left_values = self._compress(module, hidden, keys, values, weights, kwargs)
        same = (left[0, :, :, None] == keys[0, :, None]).all(dim=-1)  # [H, k, n]
        assert bool((same.sum(dim=-1) == 1).all()), "two tokens with the same key: not to be told"
        places = same.int().argmax(dim=-1)
        each = torch.arange(len(places))[:, None]
        assert torch.equal(left_values[0], values[0][each, places])
        # before: what each head still held, and the tokens since
        tokens = kwargs["position_ids"][0, -1].item() + 1
        held = self.held.get(layer, torch.zeros(len(places), 0, dtype=torch.int64))
        since = torch.arange(self.seen.get(layer, 0), tokens).expand(len(places), -1)
        held = torch.cat([held, since], dim=1)
        assert held.shape[1] == count
        self.held[layer] = held.gather(1, places)
        kept, order = self.held[layer].sort(dim=1)
        self.kept.setdefault(layer, []).append(kept)
        self.keys[layer] = left[0][each, order].clone()
        self.norms[layer] = keys[0].norm(dim=-1)
        self.seen[layer] = tokens
        if self.in_order:
            self.held[layer] = kept
            return self.keys[layer][None], left_values[0][each, order][None]
        return left, left_values


@torch.inference_mode()
def run(model: Any, case: dict[str, Any]) -> Watch:
    """Press one text: all of it at once, or its first tokens whole and the others one by one."""
    press = PRESSES[case["press"]](**case["settings"])
    if case["decoding"] is not None:
        press = DecodingPress(press, **case["decoding"])
    watch, cache = Watch(press, case["in_order"]), DynamicCache()
    tokens = torch.tensor(case["tokens"])[None]
    first = case["prefill"]
    with press(model):
        for start, end in [(0, first), *((at, at + 1) for at in range(first, tokens.shape[1]))]:
            model(
                tokens[:, start:end],
                past_key_values=cache,
                position_ids=torch.arange(start, end)[None],
                logits_to_keep=1,
            )
    for layer, keys in watch.keys.items():
        left = cache.layers[layer].keys[0]
        assert left.shape == keys.shape
        assert torch.equal(left.sum(dim=-1).sort().values, keys.sum(dim=-1).sort().values)
    return watch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    cases = json.loads((folder / "cases.json").read_text())
    kept: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for case in cases:
        watch, name = run(model, case), case["name"]
        kept[name] = [
            [tokens.tolist() for tokens in watch.kept[layer]] for layer in sorted(watch.kept)
        ]
        for layer, keys in watch.keys.items():
            tensors[f"{name}/{layer}/keys"] = keys.contiguous()
            tensors[f"{name}/{layer}/norms"] = watch.norms[layer].contiguous()
        print(f"{name}: {[len(heads[0]) for heads in kept[name][0]]} tokens kept")
    versions = {package: version(package) for package in ("kvpress", "transformers", "torch")}
    (folder / "kept.json").write_text(json.dumps({"versions": versions, "kept": kept}))
    save_file(tensors, folder / "kept.safetensors")


if __name__ == "__main__":
    main()
