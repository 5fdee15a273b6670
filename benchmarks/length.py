"""What a token costs against the length of the text: python benchmarks/length.py [--quick]

Writes docs/results/length.{md,json} and docs/images/length.png: the time of a forward of the
target over one token, and over eight (a verification), with 256 to 16,384 slots to read; a line
fitted to it, what a curve would add, and the bytes of keys and values a slot takes. The model has
the embedded target's shape and random weights, since its own positions end at 2,048.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from common import DOCS, RESULTS, machine
from outpace import zoo
from outpace.bench import environment
from outpace.cache import Session
from outpace.models import LanguageModel, wrap
from outpace.models.attention import use_slot_attention
from outpace.types import TokenTree

SLOTS = (256, 512, 1024, 2048, 4096, 8192, 16384)
WIDTHS = (1, 8)
ROUNDS = 60
RESAMPLES = 2000
SUPERLINEAR = 0.05
"""A curve that adds less than this share at the most slots is no superlinear term."""

SENTENCES = {
    "yes": "There is a superlinear term",
    "no": "No superlinear term",
    "unsure": "Whether there is a superlinear term these times do not tell",
}


def model_for(context: int, folder: str | None = None) -> LanguageModel:
    """Return a random model of the embedded target's shape, for texts of ``context`` tokens."""
    config = AutoConfig.from_pretrained(folder or zoo.folder("zoo:target"))
    config.max_position_embeddings = context
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    language_model = wrap(model, name="a random model of the target's shape")
    use_slot_attention(model)
    return language_model


def filled(model: LanguageModel, slots: int) -> Session:
    """Return a session whose next rounds read exactly ``slots`` slots."""
    session = Session(model)
    # one slot of the view takes padded rows
    held = slots - max(WIDTHS) - 1
    noise = torch.Generator().manual_seed(slots)
    tokens = torch.randint(model.vocabulary, (held,), generator=noise).tolist()
    session.prefill(tokens, room=max(WIDTHS))
    return session


def forward_seconds(session: Session, width: int) -> float:
    """Return the seconds of one forward over a chain of ``width`` tokens, which is taken back."""
    tree = TokenTree.chain(0, [0] * (width - 1), device=session.model.device)
    began = time.perf_counter()
    session.forward(tree)[0, 0].item()  # waits for the device
    taken = time.perf_counter() - began
    session.abandon()
    return taken


def measured(model: LanguageModel, slots: Sequence[int], rounds: int) -> dict[str, Any]:
    """Time all lengths and widths in turn, so that a disturbance meets them all.

    Returns:
        Of each width and number of slots the seconds of every round; bytes of keys and values.
    """
    sessions = {size: filled(model, size) for size in slots}
    seconds: dict[str, dict[str, list[float]]] = {
        str(width): {str(size): [] for size in slots} for width in WIDTHS
    }
    with model.attached():
        for turn in range(rounds + 1):  # the first one pays for what is built only once
            for size, session in sessions.items():
                for width in WIDTHS:
                    taken = forward_seconds(session, width)
                    if turn:
                        seconds[str(width)][str(size)].append(taken)
    held = {str(size): session.nbytes for size, session in sessions.items()}
    return {"seconds": seconds, "kv_bytes": held}


def fitted(slots: Sequence[int], seconds: Sequence[float], degree: int) -> np.ndarray:
    """Return the coefficients, constant first, with the least relative squared error."""
    powers = np.vander(np.asarray(slots, float), degree + 1, increasing=True)
    weights = 1 / np.asarray(seconds)
    return np.linalg.lstsq(powers * weights[:, None], np.ones(len(slots)), rcond=None)[0]


def cost_law(times: dict[str, list[float]]) -> dict[str, Any]:
    """Return what the times of one width say: a line, and what a parabola adds to it.

    Args:
        times: of each number of slots, the seconds of every round; of a length the median counts.

    Returns:
        ``fixed`` seconds, ``per_slot`` seconds, ``residuals`` relative by slots, ``curve``, the
        share that the quadratic term has of the time at the most slots, with the 95 % interval of
        resampling rounds, and what it says: ``superlinear`` is yes, no or unsure.
    """
    slots = [int(size) for size in times]
    runs = np.array([times[str(size)] for size in slots])  # [S, R]
    middle = np.median(runs, axis=1)
    line = fitted(slots, middle, 1)
    drawn = np.random.default_rng(0).integers(runs.shape[1], size=(RESAMPLES, runs.shape[1]))
    shares = [_curve(slots, np.median(runs[:, rounds], axis=1)) for rounds in drawn]
    low, high = np.quantile(shares, [0.025, 0.975])
    share = _curve(slots, middle)
    residuals = middle / (line[0] + line[1] * np.array(slots)) - 1
    return {
        "fixed": float(line[0]),
        "per_slot": float(line[1]),
        "median": {str(size): float(one) for size, one in zip(slots, middle, strict=True)},
        "residuals": {str(size): float(one) for size, one in zip(slots, residuals, strict=True)},
        "curve": {"share": share, "low": float(low), "high": float(high)},
        "superlinear": _verdict(share, float(low), float(high)),
    }


def _verdict(share: float, low: float, high: float) -> str:
    """Return whether a quadratic term is there: ``yes``, ``no``, or ``unsure``."""
    if low > 0 and share > SUPERLINEAR:
        return "yes"
    return "no" if high <= SUPERLINEAR else "unsure"


def _curve(slots: Sequence[int], seconds: Sequence[float]) -> float:
    """Return which share of the time at the most slots a parabola's quadratic term is."""
    coefficients = fitted(slots, seconds, 2)
    most = float(slots[-1])
    return float(coefficients[2] * most**2 / np.polyval(coefficients[::-1], most))


def page(record: dict[str, Any]) -> str:
    """Return the record as tables and sentences."""
    laws, held = record["laws"], record["kv_bytes"]
    heads = [f"width {width}, ms | residual" for width in laws]
    lines = ["# Cost against length", ""]
    lines += [f"| slots | {' | '.join(heads)} | keys and values, bytes a slot |"]
    lines += ["|" + " --- |" * (2 + 2 * len(laws))]
    for size in held:
        cells = [f"{int(size):,}"]
        for law in laws.values():
            cells += [f"{1000 * law['median'][size]:.2f}", f"{law['residuals'][size]:+.1%}"]
        cells += [f"{held[size] / int(size):,.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [""]
    for width, law in laws.items():
        curve = law["curve"]
        found = SENTENCES[law["superlinear"]]
        lines += [
            f"- Width {width}: {1000 * law['fixed']:.2f} ms + {1e9 * law['per_slot']:.0f} ns a "
            f"slot. {found}: a parabola's quadratic part is {curve['share']:+.1%} of the time at "
            f"the most slots (95 % interval {curve['low']:+.1%} to {curve['high']:+.1%})."
        ]
    each = [held[size] / int(size) for size in held]
    constant = max(each) <= 1.01 * min(each)
    lines += [
        f"- Memory a slot is {'constant' if constant else 'NOT constant'}: {min(each):,.0f} to "
        f"{max(each):,.0f} bytes.",
        "",
        "![Time of a forward against slots](../images/length.png)",
        "",
        f"Medians of {record['rounds']} rounds in which all lengths and widths take turns; the "
        "line has the least relative squared error; intervals resample rounds. A term counts as "
        f"superlinear if its interval is above 0 and it is more than {SUPERLINEAR:.0%} of the "
        "time at the most slots, and as absent if the whole interval is below that. Width 1 is a "
        "token of plain decoding, width 8 a verification. "
        f"The shape of zoo:target, random weights, bfloat16, eager. {machine(record)}. "
        "Made by `python benchmarks/length.py`.",
    ]
    return "\n".join(lines) + "\n"


def draw(record: dict[str, Any], file: Path) -> None:
    """Draw times and lines."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, panel = plt.subplots(figsize=(7, 4.2))
    for color, (width, law) in zip(("tab:blue", "tab:orange"), record["laws"].items(), strict=True):
        slots = [int(size) for size in law["median"]]
        reach = np.geomspace(slots[0], slots[-1], 200)
        line = 1000 * (law["fixed"] + law["per_slot"] * reach)
        panel.plot(reach, line, color=color, linewidth=1)
        spread = [
            [1000 * float(np.quantile(record["seconds"][width][str(s)], q)) for s in slots]
            for q in (0.25, 0.75)
        ]
        panel.vlines(slots, *spread, color=color, alpha=0.5)
        middle = [1000 * one for one in law["median"].values()]
        panel.plot(slots, middle, "o", color=color, label=f"width {width}")
    panel.set_xscale("log", base=2)
    panel.set_xticks(slots, [f"{size:,}" for size in slots])
    panel.set_ylim(bottom=0)
    panel.set_xlabel("slots read")
    panel.set_ylabel("ms a forward")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)


def made(model: LanguageModel, slots: Sequence[int], rounds: int) -> dict[str, Any]:
    """Measure; return the whole record."""
    record = {"environment": environment(), "rounds": rounds, **measured(model, slots, rounds)}
    record["laws"] = {width: cost_law(times) for width, times in record["seconds"].items()}
    return record


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="to 2,048 slots; writes nothing")
    quick = parser.parse_args().quick
    slots, rounds = (SLOTS[:4], 6) if quick else (SLOTS, ROUNDS)
    record = made(model_for(2 * max(SLOTS)), slots, rounds)
    text = page(record)
    print(text)
    if not quick:
        (RESULTS / "length.md").write_text(text)
        (RESULTS / "length.json").write_text(json.dumps(record, indent=1) + "\n")
        draw(record, DOCS / "images" / "length.png")
    return int(any(law["superlinear"] == "yes" for law in record["laws"].values()))


if __name__ == "__main__":
    sys.exit(main())
