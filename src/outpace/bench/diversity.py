"""How much texts differ from themselves and from each other."""

import math
from collections import Counter
from collections.abc import Sequence

Text = Sequence[int]
LONGEST = 4
"""n-grams up to this size count for BLEU."""


def distinct(texts: Sequence[Text], size: int) -> float | None:
    """Return distinct-n: different n-grams over all n-grams of these texts (arXiv 1510.03055).

    Args:
        texts: token ids.
        size: n.

    Returns:
        None where no text is that long.
    """
    grams = [gram for text in texts for gram in _grams(text, size)]
    return len(set(grams)) / len(grams) if grams else None


def self_bleu(texts: Sequence[Text]) -> float | None:
    """Return self-BLEU: the mean BLEU-4 of each text against all others (arXiv 1802.01886).

    1 is a set of equal texts. Precisions of n-grams no other text has are smoothed by adding one
    to both counts from n = 2 on, as for single sentences.

    Returns:
        None for fewer than two texts.
    """
    if len(texts) < 2:
        return None
    scores = [bleu(text, [*texts[:i], *texts[i + 1 :]]) for i, text in enumerate(texts)]
    return math.fsum(scores) / len(scores)


def bleu(text: Text, references: Sequence[Text]) -> float:
    """Return the BLEU-4 of one text against references, add-one smoothed above single tokens."""
    if not text or not references:
        return 0.0
    total = 0.0
    for size in range(1, LONGEST + 1):
        own = Counter(_grams(text, size))
        most: Counter[tuple[int, ...]] = Counter()
        for reference in references:
            most |= Counter(_grams(reference, size))
        matched, count = (own & most).total(), own.total()
        more = int(size > 1)
        if matched + more == 0 or count + more == 0:
            return 0.0
        total += math.log((matched + more) / (count + more)) / LONGEST
    nearest = min((len(one) for one in references), key=lambda n: (abs(n - len(text)), n))
    brevity = min(0.0, 1 - nearest / len(text))
    return math.exp(total + brevity)


def _grams(text: Text, size: int) -> list[tuple[int, ...]]:
    return [tuple(text[i : i + size]) for i in range(len(text) - size + 1)]
