"""Do two models number tokens the same way? Drafting is nonsense if they do not."""

from ..errors import VocabularyMismatch
from .language_model import LanguageModel


def check_vocabularies(target: LanguageModel, drafter: LanguageModel) -> None:
    """Compare the token maps; padded rows of the output layer do not matter.

    Without both tokenizers only the sizes of the output layers can be compared.

    Raises:
        VocabularyMismatch: naming the first token that differs, or the sizes.
    """
    pair = f"target {target.name} and drafter {drafter.name}"
    remedy = "give a drafter with the target's tokenizer, or --drafter ngram or prompt-lookup"
    if target.tokenizer is None or drafter.tokenizer is None:
        if target.vocabulary != drafter.vocabulary:
            raise VocabularyMismatch(
                f"{pair} have {target.vocabulary} and {drafter.vocabulary} tokens, and no "
                f"tokenizers to tell whether the first ones are the same: {remedy}"
            )
        return
    ours, theirs = target.tokenizer.get_vocab(), drafter.tokenizer.get_vocab()
    if ours == theirs:
        return
    differing = sum(ours.get(token) != theirs.get(token) for token in {**ours, **theirs})
    token = min(
        (t for t in {**ours, **theirs} if ours.get(t) != theirs.get(t)),
        key=lambda t: (ours.get(t, theirs.get(t, 0)), t),
    )
    numbers = " and ".join(str(side.get(token, "nothing")) for side in (ours, theirs))
    raise VocabularyMismatch(
        f"{pair} number {differing} of {len({**ours, **theirs})} tokens differently "
        f"({token!r} is {numbers}): {remedy}"
    )
