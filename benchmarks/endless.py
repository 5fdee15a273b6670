"""A text without an end at constant memory: python benchmarks/endless.py [--quick]

Writes docs/results/endless.{md,json}. One stream of 100,000 tokens under streaming(sinks=4,
recent=508): the bytes of its keys and values at every hundredth of the way, and the time a token
takes in its last tenth against its second tenth. For that a second stream begins when the first is
in its last tenth, and both write windows in turn, so that what disturbs one disturbs the other.
Then 2,000 tokens with a cache of 256 against the full one, in turn: bytes and speed.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

from common import RESULTS, machine
from outpace import Decoder
from outpace.bench import environment
from outpace.cache import Session
from outpace.models import LanguageModel, load
from outpace.types import Round

POLICY, SMALL = "streaming(sinks=4, recent=508)", "streaming(sinks=4, recent=252)"
PROMPT = "It was late in the autumn when the old captain came back to the village, and"
SAMPLING: dict[str, Any] = {"temperature": 0.8, "seed": 0, "ignore_eos": True}
"""Greedy text of so small a model runs in circles."""


class Stream:
    """A text under way, window by window."""

    def __init__(self, decoder: Decoder, tokens: int) -> None:
        self.session: Session = decoder.session()
        self.written = 0
        self._rounds: Iterator[Round] = iter(
            decoder.stream(PROMPT, session=self.session, max_new_tokens=tokens, **SAMPLING)
        )

    def go_on(self, tokens: int) -> float:
        """Write so many tokens at least; return the seconds a token took."""
        began, before = time.perf_counter(), self.written
        while self.written - before < tokens:
            self.written += len(next(self._rounds).tokens)
        return (time.perf_counter() - began) / (self.written - before)


def endless(model: LanguageModel, total: int, windows: int) -> dict[str, Any]:
    """Measure one stream of ``total`` tokens."""
    decoder = Decoder(model, cache_policy=POLICY)  # type: ignore[arg-type]
    tenth, hundredth = total // 10, max(1, total // 100)
    first = Stream(decoder, total)
    held = []
    while first.written < total - tenth:
        first.go_on(min(hundredth, total - tenth - first.written))
        held.append((first.written, first.session.nbytes))
        if len(held) % 10 == 0:
            print(f"{first.written} tokens", file=sys.stderr, flush=True)
    second = Stream(decoder, total)
    second.go_on(tenth)
    late, early = [], []
    size = tenth // windows - 1
    for number in range(windows):
        pair = [(second, early), (first, late)]
        for stream, times in pair if number % 2 else reversed(pair):
            times.append(stream.go_on(size))
        held.append((first.written, first.session.nbytes))
    after = [count for written, count in held if written >= total // 100]
    return {
        "tokens": first.written,
        "held": held,
        "kv_bytes": max(after),
        "flat": min(after) == max(after),
        "late_ms": 1000 * statistics.median(late),
        "early_ms": 1000 * statistics.median(early),
        "ratio": statistics.median(late) / statistics.median(early),
        "compressions": first.session.compressions,
        "evicted": first.session.evicted,
    }


def small_cache(model: LanguageModel, tokens: int, repeats: int) -> dict[str, Any]:
    """Measure a small cache against the full one, in turn."""
    decoders = {
        "full": Decoder(model),
        "small": Decoder(model, cache_policy=SMALL),  # type: ignore[arg-type]
    }
    seconds: dict[str, list[float]] = {name: [] for name in decoders}
    held = {}
    for turn in range(-1, repeats):
        for name in decoders if turn % 2 else reversed(decoders):
            stats = decoders[name].generate(PROMPT, max_new_tokens=tokens, **SAMPLING).stats
            held[name] = stats.kv_bytes
            if turn >= 0:  # the first warms up
                seconds[name].append(stats.total)
    ratios = [full / small for full, small in zip(*seconds.values(), strict=True)]
    return {
        "tokens": tokens,
        "kv_bytes": held,
        "share": held["small"] / held["full"],
        "speed": statistics.median(ratios),
        "speeds": ratios,
    }


def page(found: dict[str, Any]) -> str:
    """Return the page of the results."""
    one, two = found["endless"], found["small"]
    low, high = min(two["speeds"]), max(two["speeds"])
    flat = "the same at every look after the first hundredth" if one["flat"] else "not constant"
    return f"""# Text without an end

`python benchmarks/endless.py`, embedded target, {found["dtype"]}, {found["runtime"]};
{machine(found)}.

One stream of {one["tokens"]:,} tokens under `{POLICY}`, 49 times as long as the context the model
was trained for:

| | |
| --- | --- |
| keys and values | {one["kv_bytes"] / 1e6:.2f} MB, {flat} |
| forgotten | {one["evicted"]:,.0f} tokens, at {one["compressions"]:,} boundaries |
| a token of the second tenth | {one["early_ms"]:.2f} ms (median of windows) |
| a token of the last tenth | {one["late_ms"]:.2f} ms (windows of both in turn) |
| last against second tenth | {one["ratio"]:.3f} |

{two["tokens"]:,} tokens with `{SMALL}` against the full cache, {len(two["speeds"])} times in turn:

| | full | {SMALL} |
| --- | --- | --- |
| keys and values, MB | {two["kv_bytes"]["full"] / 1e6:.2f} | {two["kv_bytes"]["small"] / 1e6:.2f} |
| of the full cache | 100 % | {two["share"]:.1%} |
| speed against full | 1.00 | {two["speed"]:.2f} ({low:.2f}–{high:.2f}) |
"""


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a hundredth of it, written nowhere")
    parser.add_argument("--runtime", default="compile")
    parser.add_argument("--dtype", default="bfloat16")
    given = parser.parse_args()
    model = load("zoo:target", dtype=given.dtype)
    model.use_runtime(given.runtime, wait=True)
    total, windows, tokens, repeats = (1000, 4, 200, 1) if given.quick else (100_000, 20, 2000, 5)
    found = {
        "dtype": given.dtype,
        "runtime": model.runtime_name,
        "endless": endless(model, total, windows),
        "small": small_cache(model, tokens, repeats),
        "environment": environment(),
    }
    if given.quick:
        print(json.dumps({name: found[name] for name in ("endless", "small")}, indent=1))
        return 0
    (RESULTS / "endless.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (RESULTS / "endless.md").write_text(page(found), encoding="utf-8")
    print(page(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
