"""A language model with another tokenizer drafts, by way of text (arXiv 2502.05202)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..drawing import Drawing
from ..errors import VocabularyMismatch
from ..models import LanguageModel
from ..types import Budget, Context, TokenTree
from .session_drafter import SessionDrafter

TAIL = 32
"""So many tokens at the end of the text are put into the drafter's tokens anew every round."""


LONGEST = 8 * TAIL
"""The longest end that is read anew, where no word begins in it."""


class RetokenizedDrafter(SessionDrafter):
    """Reads the text with its own tokenizer, writes on greedily, and hands the text over.

    What it writes is cut into the target's tokens together with the end of the text before it, so
    that a word begun there goes on. Where the tokens of that end come out another way, the new text
    is cut alone. Under coupled verification any of this is exact; a poor cut is merely rejected.

    Only the end of the text is read again in a round, from a place where a word begins: a round
    costs the same however long the text is.

    Args:
        model: a language model with a tokenizer.

    Raises:
        VocabularyMismatch: the model or the target has no tokenizer.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__(model)
        self._ours: Any = _tokenizer(model)
        self._theirs: Any = None
        self._settled = 0  # tokens of the text whose reading stands
        self._read: list[int] = []  # as what they were read
        self._agreed = 0  # tokens held that are known to be the reading's

    def attach(self, target: LanguageModel) -> None:
        """Get to know the target's tokenizer."""
        self._theirs = _tokenizer(target)

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Read the text from its beginning."""
        if not resume:
            self._session.clear()
        self._settled, self._read, self._agreed = 0, _opening(self._ours), 0

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Draft at most ``budget.depth`` tokens in a row."""
        root = context.tokens[-1]
        depth = min(budget.depth, budget.nodes)
        if depth < 1:
            return TokenTree.chain(root)
        self._settle(context)
        tail = context.tokens[self._settled :]
        text = _text(self._theirs, tail)
        ids = [*self._read, *_ids(self._ours, text)]
        limit = self.model.context_length
        if not ids or (limit is not None and len(ids) + depth > limit):
            return TokenTree.chain(root)
        new = self._write(ids, depth)
        return TokenTree.chain(root, self._cut(tail, text, new)[:depth])

    def _settle(self, context: Context) -> None:
        """Let the reading of all but the end of the text stand, up to where a word begins."""
        tokens = context.tokens
        if len(tokens) - self._settled <= 2 * TAIL:
            return
        last = len(tokens) - TAIL
        found = (at for at in range(last, self._settled, -1) if self._begins_word(tokens, at))
        # some scripts have no spaces, and a cut anywhere is better than a tail that grows
        place = next(found, last if len(tokens) - self._settled > LONGEST else None)
        if place is not None:
            self._read += _ids(self._ours, _text(self._theirs, tokens[self._settled : place]))
            self._settled = place

    def _begins_word(self, tokens: list[int], place: int) -> bool:
        # beside the token before it: some tokenizers drop the space of one that stands alone
        before = _text(self._theirs, tokens[place - 1 : place])
        return _text(self._theirs, tokens[place - 1 : place + 1])[len(before) :][:1].isspace()

    def _write(self, ids: list[int], count: int) -> str:
        """Return the text the model writes after ``ids``, ``count`` of its tokens long."""
        held = self._session
        known = min(self._agreed, len(held))
        while known < min(len(held), len(ids) - 1) and int(held.tokens[known]) == ids[known]:
            known += 1
        held.rollback(min(known, len(ids) - 1), roughly=True)
        held.forget()
        self._agreed = len(self._read)  # what follows is read anew, perhaps in another way
        fresh = ids[len(held) :]
        logits: Tensor = held.prefill(ids) if len(fresh) > 2 * TAIL else held.append(fresh)
        written: list[int] = []
        while True:
            token = int(logits.argmax())
            if token in self.model.eos_ids:
                break
            written.append(token)
            if len(written) == count:
                break
            logits = held.append([token])
        # a token may be text only with those before it
        before = ids[-TAIL:]
        base, whole = _text(self._ours, before), _text(self._ours, [*before, *written])
        if not whole.startswith(base):
            return ""
        return whole[len(base) :].rstrip("\N{REPLACEMENT CHARACTER}")

    def _cut(self, tail: list[int], text: str, new: str) -> list[int]:
        """Return new text as tokens of the target, after the tokens ``tail`` of ``text``."""
        if not new:
            return []
        together = _ids(self._theirs, text + new)
        if together[: len(tail)] == tail:
            return together[len(tail) :]
        return _ids(self._theirs, new)


def _tokenizer(model: LanguageModel) -> Any:
    if model.tokenizer is None:
        raise VocabularyMismatch(
            f"{model.name} has no tokenizer that can be read, and drafts by way of text need both "
            "models': put tokenizer.json into its folder"
        )
    return model.tokenizer


def _opening(tokenizer: Any) -> list[int]:
    """Return the special tokens a text begins with."""
    ids, bare = tokenizer("a")["input_ids"], _ids(tokenizer, "a")
    place = next((n for n in range(len(ids)) if ids[n : n + len(bare)] == bare), 0)
    return list(ids[:place])


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def _text(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
