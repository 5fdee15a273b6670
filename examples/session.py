"""Goes on with a text and computes only what is new: python examples/session.py [MODEL]"""

import sys

from outpace import Decoder

TURNS = (
    "Lily has a dog. The dog is big and brown.",
    " One day, the dog ran to the park. Lily",
    " Then the dog",
)


def main() -> None:
    target = sys.argv[1] if len(sys.argv) > 1 else "zoo:target"
    decoder = Decoder.from_pretrained(target, drafter="ngram", dtype="float32")
    plain = Decoder(decoder.target)
    session = decoder.session()
    text: list[int] = []
    for turn in TURNS:
        text += decoder.target.tokenizer(turn, add_special_tokens=False)["input_ids"]
        held = session.match(text)
        output = decoder.generate(text, max_new_tokens=24, session=session)
        afresh = plain.generate(text, max_new_tokens=24)
        print(f"{len(text)} tokens of prompt, {held} of them held already")
        print(turn, repr(output.text))
        print(f"the same text as from an empty cache: {output.tokens == afresh.tokens}\n")
        text += output.tokens


if __name__ == "__main__":
    main()
