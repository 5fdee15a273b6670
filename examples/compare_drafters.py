"""Compares drafters on a text of your own: python examples/compare_drafters.py [FILE [MODEL]]"""

import sys
from pathlib import Path
from statistics import median

from outpace import Decoder

DRAFTERS = ("none", "prompt-lookup", "suffix", "ngram", "recycling", "cascade")
TEXT = "The cat sat on the mat. The dog saw the cat on the mat, and the cat saw the dog. "
TURNS, NEW_TOKENS = 3, 48


def main() -> None:
    text = Path(sys.argv[1]).read_text(encoding="utf-8") if len(sys.argv) > 1 else TEXT
    target = sys.argv[2] if len(sys.argv) > 2 else "zoo:target"
    first = Decoder.from_pretrained(target, drafter="none", dtype="float32", runtime="eager")
    ids = first.target.tokenizer(text[-600:])["input_ids"]
    decoders = {name: Decoder.from_pretrained(first.target, drafter=name) for name in DRAFTERS}
    speeds = {name: [] for name in DRAFTERS}
    outputs = {}
    for turn in range(-1, TURNS):  # the first turn warms up
        for name, decoder in decoders.items():  # in turn: what disturbs one disturbs all
            outputs[name] = decoder.generate(ids, max_new_tokens=NEW_TOKENS)
            if turn >= 0:
                speeds[name].append(outputs[name].stats.tokens_per_second)
    print(f"{'drafter':15}{'gain':>6}{'accepted':>10}{'tokens a forward':>18}  the same text")
    for name, output in outputs.items():
        pairs = zip(speeds[name], speeds["none"], strict=True)
        gain, stats = median(one / plain for one, plain in pairs), output.stats
        same = output.tokens == outputs["none"].tokens
        accepted, length = f"{stats.acceptance_rate:.0%}", stats.mean_acceptance_length
        print(f"{name:15}{gain:6.2f}{accepted:>10}{length:18.2f}  {same}")


if __name__ == "__main__":
    main()
