"""Are the same tokens kept as by NVIDIA's kvpress? python benchmarks/kvpress_compare.py FOLDER

First `--write`, which makes FOLDER with a small random Llama and the cases; then kvpress_kept.py in
an environment of its own; then this program without `--write`, which runs the same texts through
sessions and compares. It prints a table and fails if anything differs. See docs/results/kvpress.md.
"""

import argparse
import json
import math
import random
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from outpace.cache import Session
from outpace.cache.policies import parse_policy
from outpace.models import LanguageModel, load
from outpace.models.tiny import byte_tokenizer

LAYERS, HEADS, HEAD_DIM, VOCABULARY = 4, 4, 32, 1024
TIE = 1e-5
"""Norms are equal if they differ by less than this share."""


def write(folder: Path) -> None:
    """Save a random model and the cases."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=8 * HEAD_DIM,
        intermediate_size=512,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        num_key_value_heads=HEADS,
        head_dim=HEAD_DIM,
        max_position_embeddings=2048,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=256,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    byte_tokenizer().save_pretrained(folder / "model")
    (folder / "cases.json").write_text(json.dumps(cases()))


def cases() -> list[dict[str, Any]]:
    """Return texts, each with a policy and with the press that should do the same."""
    draw = random.Random(0)

    def distinct(count: int) -> list[int]:
        return draw.sample(range(VOCABULARY), count)

    def case(
        name: str,
        tokens: list[int],
        policy: str,
        press: str,
        settings: dict[str, Any],
        prefill: int | None = None,
        decoding: dict[str, int] | None = None,
        in_order: bool = False,
        differs: bool = False,
    ) -> dict[str, Any]:
        return {
            "name": name,
            "tokens": tokens,
            "policy": policy,
            "press": press,
            "settings": settings,
            "prefill": prefill or len(tokens),
            "decoding": decoding,
            "in_order": in_order,
            "differs": differs,
        }

    found = []
    for count in (600, 333):
        for keep in (0.5, 0.8):
            policy = f"key_norm(keep_ratio={keep}, skip_layers=0, start_after={count}, interval=50)"
            ratio = {"compression_ratio": 1 - keep}
            found.append(
                case(f"key norm {keep}, {count}", distinct(count), policy, "KnormPress", ratio)
            )
    policy = "key_norm(keep_ratio=0.5, skip_layers=0, start_after=600, interval=50)"
    few = [draw.randrange(50) for _ in range(600)]
    found.append(
        case("key norm 0.5, 600, 50 ids", few, policy, "KnormPress", {"compression_ratio": 0.5})
    )
    for sinks, recent, every in ((4, 508, 64), (4, 124, 472), (16, 285, 32)):
        count = sinks + recent + every
        policy = f"streaming(sinks={sinks}, recent={recent}, every={every})"
        # half a token more, so that rounding down cannot lose one
        settings = {"compression_ratio": 1 - (sinks + recent + 0.5) / count, "n_sink": sinks}
        found.append(
            case(
                f"streaming {sinks} + {recent}, {count}",
                distinct(count),
                policy,
                "StreamingLLMPress",
                settings,
            )
        )
    # three boundaries; in kvpress the tokens between them come one by one
    size, every = 256, 64
    decoding = {"compression_interval": every, "target_size": size}
    tokens = distinct(size + 3 * every)
    name = f"key norm {size}, decoding"
    policy = f"fixed_key_norm(size={size}, protected_recent=0, every={every})"
    found.append(case(name, tokens, policy, "KnormPress", {}, size, decoding))
    # kvpress leaves what it keeps in the order of topk, and then takes the first places for sinks
    policy = f"streaming(sinks=4, recent={size - 4}, every={every})"
    for name, in_order in (("in order", True), ("as it is", False)):
        found.append(
            case(
                f"streaming {size}, decoding, {name}",
                tokens,
                policy,
                "StreamingLLMPress",
                {"n_sink": 4},
                size,
                decoding,
                in_order=in_order,
                differs=not in_order,
            )
        )
    return found


def held(session: Session) -> list[tuple[Tensor, Tensor]]:
    """Return of each layer which tokens each head holds ``[H, n]``, and their keys."""
    forgetting = session._forgetting
    assert forgetting is not None
    found = []
    if forgetting._places is None:
        slots = torch.tensor(session._slots.slots)
        indices = torch.tensor(session.indices).expand(HEADS, -1)
        for number in range(LAYERS):
            keys = session._cache.layer(number).keys
            assert keys is not None
            found.append((indices, keys[slots].transpose(0, 1)))
        return found
    for group in forgetting._places._groups:
        assert group.heads == tuple(range(HEADS))
        keys = group.part(session._cache).keys[: len(group.indices)]
        found.append((group.indices.T, keys.transpose(0, 1)))
    return found


def compare(model: LanguageModel, case: dict[str, Any], theirs: Any, tensors: Any) -> list[Any]:
    """Run one text and return a row of the table: sets, different ones, ties, gap, keys."""
    tokens, name = case["tokens"], case["name"]
    session = Session(model, parse_policy(case["policy"]))
    boundaries = len(theirs[0])
    done = sets = different = ties = 0
    rounding, gap = 0.0, math.inf
    for number in range(boundaries):
        until = len(tokens)
        if case["decoding"] is not None:
            until = case["prefill"] + (number + 1) * case["decoding"]["compression_interval"]
        session.extend(tokens[done:until])
        done = until
        assert session.compressions == number + 1
        for layer, (ours, keys) in enumerate(held(session)):
            for head in range(HEADS):
                here, there = ours[head].tolist(), theirs[layer][number][head]
                sets += 1
                if here != there:
                    different += 1
                    ties += number == boundaries - 1 and tied(
                        set(here), set(there), tensors[f"{name}/{layer}/norms"][head], len(tokens)
                    )
            if number < boundaries - 1:
                continue
            wanted = tensors[f"{name}/{layer}/keys"]
            same = ours == torch.tensor(theirs[layer][number])
            rounding = max(rounding, float((keys - wanted)[same].abs().max()))
            if case["press"] == "KnormPress":
                norms = tensors[f"{name}/{layer}/norms"].sort(dim=1).values
                last = norms[:, len(wanted[0]) - 1 : len(wanted[0]) + 1]
                gap = min(gap, float((last.diff(dim=1) / last[:, :1]).min()))
    kept = len(theirs[0][-1][0])
    return [
        name,
        f"{len(tokens)} → {kept}",
        boundaries,
        sets,
        different,
        ties,
        "–" if math.isinf(gap) else f"{gap:.1e}",
        f"{rounding:.1e}",
    ]


def tied(here: set[int], there: set[int], norms: Tensor, count: int) -> bool:
    """Return whether two sets differ by tokens of equal norm alone; all ``count`` went in."""
    if len(here) != len(there) or len(norms) != count:
        return False
    apart = norms[sorted(here ^ there)]
    return bool(apart.max() - apart.min() <= TIE * apart.min())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true", help="make the model and the cases")
    given = parser.parse_args()
    folder = given.folder
    if given.write:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder)
        return
    model = load(folder / "model", dtype="float32", device="cpu")
    answer = json.loads((folder / "kept.json").read_text())
    tensors = load_file(folder / "kept.safetensors")
    wanted = json.loads((folder / "cases.json").read_text())
    rows = [compare(model, case, answer["kept"][case["name"]], tensors) for case in wanted]
    columns = "case, tokens, boundaries, sets, different, by ties alone, gap, keys differ by"
    print(f"| {columns.replace(', ', ' | ')} |\n|{' --- |' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")
    ours = {name: version(name) for name in ("outpace", "transformers", "torch")}
    print(f"\nkvpress in {answer['versions']}; here {ours}")
    wrong = [
        case["name"]
        for case, row in zip(wanted, rows, strict=True)
        if (row[4] > row[5]) != case["differs"]
    ]
    if wrong:
        sys.exit(f"not as expected: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
