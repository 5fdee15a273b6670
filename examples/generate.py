"""Writes a text with and without drafting and compares the two: python examples/generate.py [MODEL]

MODEL is a model folder or hub name; without one the embedded models write.
"""

import sys

from outpace import Decoder

PROMPT = "Tom has a red ball. The ball is red. Tom likes the ball."


def main() -> None:
    target = sys.argv[1] if len(sys.argv) > 1 else "zoo:target"
    drafting = Decoder.from_pretrained(target, dtype="float32")
    plain = Decoder.from_pretrained(drafting.target, drafter="none")
    for settings in ({}, {"temperature": 0.8, "top_p": 0.9, "seed": 3}):
        output = drafting.generate(PROMPT, max_new_tokens=60, **settings)
        alone = plain.generate(PROMPT, max_new_tokens=60, **settings)
        print(settings or "greedy")
        print(PROMPT, repr(output.text))
        print(
            f"{output.stats.new_tokens} tokens, {output.stats.rounds} rounds, "
            f"{output.stats.accepted} of {output.stats.drafted} draft tokens accepted; "
            f"the same text as without drafting: {output.tokens == alone.tokens}\n"
        )


if __name__ == "__main__":
    main()
