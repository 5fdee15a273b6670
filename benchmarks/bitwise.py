"""Where the last bits do not depend on a draft, and what that costs: python benchmarks/bitwise.py

Prints a table: for each model and dtype, how many rows of logits of forwards over a chain equal
those of plain decoding bit for bit, in bitwise runs and others, and the time of a plain round.
"""

import sys
import time

import torch

from outpace import Decoder
from outpace.decoder import BITWISE
from outpace.models import LanguageModel, load
from outpace.models.tiny import tiny_model
from outpace.types import TokenTree

TEXTS, TOKENS, LENGTHS = 4, 48, (1, 3, 4, 8, 12)


def rows(model: LanguageModel, tokens: list[int], prompt: int, length: int) -> torch.Tensor:
    """Return logits after every token from the prompt on, chains of ``length`` always accepted."""
    session = Decoder(model).session()
    session.prefill(tokens[:prompt], room=256)
    found = []
    for begin in range(prompt, len(tokens), length):
        part = tokens[begin : begin + length]
        tree = TokenTree.chain(part[0], part[1:])
        found.append(session.forward(tree))
        session.commit(tree, list(range(1, len(part))))
    return torch.cat(found)


def measure(model: LanguageModel) -> dict[bool, tuple[float, float]]:
    """Return, without and with bitwise, the share of equal rows and a plain round's seconds."""
    draw, found = torch.Generator().manual_seed(0), {}
    for bitwise in (False, True):
        model.use_runtime("eager", bitwise=BITWISE * bitwise)
        equal = whole = 0
        least = float("inf")
        for _ in range(TEXTS):
            prompt = torch.randint(model.vocabulary, (30,), generator=draw).tolist()
            written = Decoder(model).generate(prompt, max_new_tokens=TOKENS, ignore_eos=True).tokens
            began = time.perf_counter()
            plain = rows(model, [*prompt, *written], len(prompt), 1)
            least = min(least, (time.perf_counter() - began) / len(plain))
            for length in LENGTHS[1:]:
                other = rows(model, [*prompt, *written], len(prompt), length)
                equal += int((plain == other).all(-1).sum())
                whole += len(plain)
        found[bitwise] = equal / whole, least
    return found


def main() -> int:
    """Run from the command line."""
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    print("| model | dtype | equal rows | bitwise | a plain round takes |")
    print("| --- | --- | --- | --- | --- |")
    for dtype in ("float32", "bfloat16", "float16"):
        for name in ("tiny", "zoo:target"):
            kind = getattr(torch, dtype)
            small = name == "tiny"
            make = tiny_model if small else load
            given = () if small else (name,)
            model = make(*given, dtype=kind, device=device)
            found = measure(model)
            (loose, before), (strict, after) = found[False], found[True]
            print(
                f"| {name} | {dtype} | {loose:.1%} | {strict:.1%} | {after / before:.2f} × |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
