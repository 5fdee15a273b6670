"""When the target drafts for itself: python benchmarks/compressed_self.py [--quick]

Writes docs/results/compressed-self.{md,json} and docs/images/compressed-self.png: what
compressed-self gains over plain decoding against the length of the text. Within the embedded
target's context the loop itself is run on passages of PG-19, in turn with plain decoding, with the
acceptance it finds. Beyond, a random model of the target's shape is timed: forwards of plain
decoding, of drafting and of verification in turn; the gain is worked out for three acceptance
rates, and beside it the gain that bytes alone would give.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import DOCS, RESULTS, machine
from length import filled, forward_seconds, model_for
from outpace import Decoder
from outpace.bench import environment, load_prompts
from outpace.drafters.compressed_self import CompressedSelfDrafter
from outpace.lengths.fixed import FixedLength
from outpace.models import load

POLICY, KEPT = "streaming(sinks=4, recent=252)", 256
K, NEW_TOKENS = 4, 64
LENGTHS = (256, 512, 1024, 1900)
SLOTS = (512, 1024, 2048, 4096, 8192, 16384)
RATES = (0.7, 0.9, 1.0)


def tokens_a_round(rate: float) -> float:
    """Return how many tokens a round of K draft tokens writes, each accepted at a rate."""
    return sum(rate**depth for depth in range(K + 1))


def run(lengths: Sequence[int], passages: int) -> list[dict[str, float]]:
    """Run the loop on passages of each length, in turn with plain decoding."""
    target = load("zoo:target")
    drafter = CompressedSelfDrafter(POLICY)
    decoders = {
        "plain": Decoder(target),
        "drafted": Decoder(target, drafter, lengths=FixedLength(K)),
    }
    tokenizer: Any = target.tokenizer
    rows = []
    for length in lengths:
        prompts = load_prompts(["pg19"], limit=passages, prompt_tokens=length + 64)
        texts = [one.text for one in prompts]
        ratios, accepted, drafted = [], 0, 0
        for turn, text in enumerate([texts[0], *texts]):  # the first warms up
            ids = tokenizer(text)["input_ids"][:length]
            seconds, tokens = {}, {}
            for name in sorted(decoders, reverse=bool(turn % 2)):
                output = decoders[name].generate(ids, max_new_tokens=NEW_TOKENS, ignore_eos=True)
                seconds[name] = output.stats.total - output.stats.ttft
                tokens[name] = output.tokens
                if turn and name == "drafted":
                    accepted += output.stats.accepted
                    drafted += output.stats.drafted
            if turn:
                ratios.append(seconds["plain"] / seconds["drafted"])
        rows.append(
            {
                "length": length,
                "gain": statistics.median(ratios),
                "low": min(ratios),
                "high": max(ratios),
                "acceptance": accepted / max(1, drafted),
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def arithmetic(slots: Sequence[int], rounds: int) -> dict[str, Any]:
    """Time forwards of a random model in turn, and count bytes."""
    model = model_for(max(slots) + 64)
    sessions = {size: filled(model, size) for size in slots}
    small = filled(model, KEPT)
    times: dict[int, list[tuple[float, float, float]]] = {size: [] for size in slots}
    for turn in range(-2, rounds):
        for size, session in sessions.items():
            one = (
                forward_seconds(session, 1),
                forward_seconds(small, 1),
                forward_seconds(session, K + 1),
            )
            if turn >= 0:
                times[size].append(one)
    a_slot = sessions[slots[-1]].nbytes / slots[-1]
    weights = model.weight_bytes
    rows = []
    for size in slots:
        plain, draft, verify = (statistics.median(each) for each in zip(*times[size], strict=True))
        whole, few = weights + a_slot * size, weights + a_slot * KEPT
        rows.append(
            {
                "slots": size,
                "ms": [1000 * plain, 1000 * draft, 1000 * verify],
                "needed": (K * draft + verify) / plain,
                "gains": {
                    str(rate): tokens_a_round(rate) * plain / (K * draft + verify) for rate in RATES
                },
                "by_bytes": {
                    str(rate): tokens_a_round(rate) * whole / (K * few + whole) for rate in RATES
                },
            }
        )
    return {"weights": weights, "bytes_a_token": a_slot, "rows": rows}


def draw(found: dict[str, Any], file: Path) -> None:
    """Draw gains against lengths."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, panel = plt.subplots(figsize=(7, 4.2))
    rows = found["arithmetic"]["rows"]
    slots = [row["slots"] for row in rows]
    colors = ("tab:blue", "tab:orange", "tab:green")
    for rate, color in zip(map(str, RATES), colors, strict=True):
        timed = [row["gains"][rate] for row in rows]
        panel.plot(slots, timed, "o-", color=color, label=f"timed, {float(rate):.0%} accepted")
        counted = [row["by_bytes"][rate] for row in rows]
        panel.plot(slots, counted, "--", color=color, linewidth=1)
    real = found["run"]
    panel.errorbar(
        [one["length"] for one in real],
        [one["gain"] for one in real],
        [
            [one["gain"] - one["low"] for one in real],
            [one["high"] - one["gain"] for one in real],
        ],
        fmt="ks",
        label="the loop, as accepted",
    )
    panel.axhline(1, color="gray", linewidth=1)
    panel.plot([], [], "k--", linewidth=1, label="by bytes alone")
    panel.set_xscale("log", base=2)
    panel.set_xticks([256, *slots], [f"{size:,}" for size in (256, *slots)])
    panel.set_ylim(bottom=0)
    panel.set_xlabel("tokens of the text")
    panel.set_ylabel("× plain decoding")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=150)


def page(found: dict[str, Any]) -> str:
    """Return the page of the results."""
    lines = [
        "# When the target drafts for itself",
        "",
        f"`python benchmarks/compressed_self.py`; {machine(found)}. {K} draft tokens a round with "
        f"`{POLICY}`, bfloat16, eager.",
        "",
        "The loop on the embedded target, passages of PG-19, in turn with plain decoding:",
        "",
        "| tokens of the text | accepted | × plain |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| {one['length']:,} | {one['acceptance']:.0%} | {one['gain']:.2f} "
        f"({one['low']:.2f}–{one['high']:.2f}) |"
        for one in found["run"]
    ]
    sums = found["arithmetic"]
    lines += [
        "",
        f"A random model of its shape ({sums['weights'] / 1e6:.1f} MB of weights, "
        f"{sums['bytes_a_token'] / 1e3:.1f} KB of keys and values a token), forwards timed in "
        "turn; *needed* is how many tokens a round must write to be as fast as plain decoding, of "
        f"{K + 1} at most:",
        "",
        "| tokens | plain, draft, verify, ms | needed | "
        + " | ".join(f"× plain at {rate:.0%} (by bytes)" for rate in RATES)
        + " |",
        "|" + " --- |" * (3 + len(RATES)),
    ]
    for row in sums["rows"]:
        gains = [
            f"{row['gains'][str(rate)]:.2f} ({row['by_bytes'][str(rate)]:.2f})" for rate in RATES
        ]
        times = ", ".join(f"{one:.2f}" for one in row["ms"])
        lines.append(f"| {row['slots']:,} | {times} | {row['needed']:.2f} | {' | '.join(gains)} |")
    lines += ["", "![Gain against the length of the text](../images/compressed-self.png)", ""]
    return "\n".join(lines)


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a little of it, written nowhere")
    given = parser.parse_args()
    quick = given.quick
    found = {
        "run": run(LENGTHS[:1] if quick else LENGTHS, 1 if quick else 8),
        "arithmetic": arithmetic(SLOTS[:2] if quick else SLOTS, 2 if quick else 30),
        "environment": environment(),
    }
    if quick:
        print(json.dumps({name: found[name] for name in ("run", "arithmetic")}, indent=1))
        return 0
    (RESULTS / "compressed-self.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (RESULTS / "compressed-self.md").write_text(page(found), encoding="utf-8")
    draw(found, DOCS / "images" / "compressed-self.png")
    print(page(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
