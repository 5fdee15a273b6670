"""Where a text ends, exact at any place inside an accepted run, and the text of its tokens."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from typing import Any, overload

from .errors import InvalidArgument


class Ends(ABC):
    """Decides token by token where a text ends."""

    @property
    @abstractmethod
    def remaining(self) -> int:
        """How many more tokens may be written."""

    @abstractmethod
    def take(self, token: int) -> tuple[str, str | None]:
        """Take the next token; return the text it releases and, at the end, the reason."""

    def cut(self, tokens: Sequence[int]) -> tuple[Sequence[str], str | None]:
        """Take the next tokens up to the end of the text.

        Returns:
            The text that each token taken releases and, at the end, the reason.
        """
        pieces: list[str] = []
        for token in tokens:
            piece, end = self.take(token)
            pieces.append(piece)
            if end is not None:
                return pieces, end
        return pieces, None


def check_ends(max_new_tokens: int, stop: Sequence[str]) -> None:
    """Raise InvalidArgument for ends that no text can have."""
    given: object = max_new_tokens  # whatever a caller without a type checker hands over
    if isinstance(given, bool) or not isinstance(given, Integral):
        raise InvalidArgument(f"{given!r} new tokens to make: give a whole number")
    if max_new_tokens < 1:
        raise InvalidArgument(f"{max_new_tokens} new tokens to make: give 1 or more")
    if not all(stop):
        raise InvalidArgument("an empty stop string (''): leave it out")


class Pieces(Sequence[str]):
    """The text each of some tokens in a row completes, worked out when somebody looks at it."""

    def __init__(self, stream: "TextStream", first: int, end: int) -> None:
        self._stream, self._first, self._end = stream, first, end

    def __len__(self) -> int:
        return self._end - self._first

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self._stream.shown(self._end)[self._first : self._end][index]


class TextStream:
    """Turns tokens into text piece by piece; a character in several tokens waits for its last.

    Args:
        tokenizer: a transformers tokenizer.
        prompt: the last tokens of the prompt: some tokenizers drop a space at the very start.
    """

    _CONTEXT = 8
    _LIMIT = 64
    _LONGEST = 16  # of a window that is decoded for every token

    def __init__(self, tokenizer: Any, prompt: Sequence[int]) -> None:
        self._call = _decoding(tokenizer)
        self._window = self._tail(prompt)
        self._shown = self._decode(self._window)
        self._later: list[tuple[int, bool]] = []  # tokens nobody has looked at, the last one marked
        self._pieces: list[str] = []  # of those before

    def later(self, tokens: Sequence[int], *, last: bool) -> Pieces:
        """Return the text these tokens complete, to be worked out when somebody looks at it.

        A stream that has begun like this goes on like this.

        Args:
            tokens: one at least.
            last: whether no more will come.
        """
        first = len(self._pieces) + len(self._later)
        self._later.extend((token, False) for token in tokens)
        if last:
            self._later[-1] = tokens[-1], True
        return Pieces(self, first, first + len(tokens))

    def shown(self, count: int) -> list[str]:
        """Return the text of the first ``count`` tokens at least that were left for later."""
        missing = max(0, count - len(self._pieces))
        for token, last in self._later[:missing]:
            self._pieces.append(self.push(token) + (self.flush() if last else ""))
        del self._later[:missing]
        return self._pieces

    def push(self, token: int) -> str:
        """Return the text this token completes: empty inside a character."""
        self._window.append(token)
        seen = self._decode(self._window)
        # Bytes of an unfinished character decode to this mark; a text that really holds the mark
        # is shown with what follows it.
        if seen.endswith("\N{REPLACEMENT CHARACTER}") and len(self._window) < self._LIMIT:
            return ""
        return self._release(seen)

    def fork(self) -> "TextStream":
        """Return a copy that takes other tokens from here on."""
        forked = copy.copy(self)
        forked._window = list(self._window)
        forked._later, forked._pieces = list(self._later), list(self._pieces)
        return forked

    def flush(self) -> str:
        """Return what is left when no more tokens come: marks for an unfinished character."""
        return self._release(self._decode(self._window))

    def _release(self, seen: str) -> str:
        shown = self._shown
        same = len(shown)
        if not seen.startswith(shown):
            pairs = enumerate(zip(seen, shown, strict=False))
            same = next((i for i, (new, old) in pairs if new != old), min(len(seen), same))
        piece = seen[same:]
        if len(self._window) > self._LONGEST:
            self._window = self._tail(self._window)
            seen = self._decode(self._window)
        self._shown = seen
        return piece

    def _tail(self, tokens: Sequence[int]) -> list[int]:
        """Return the last tokens, from a place where a character begins."""
        size = self._CONTEXT
        while size < min(len(tokens), 4 * self._LIMIT):
            text = self._decode(list(tokens[-size:]))
            if text.strip() and not text.startswith("\N{REPLACEMENT CHARACTER}"):
                break
            size += 1
        return list(tokens[-size:])

    def _decode(self, tokens: list[int]) -> str:
        return self._call(tokens)


def _decoding(tokenizer: Any) -> Callable[[list[int]], str]:
    """Return the way to a text from ids; without transformers' wrappers where they add nothing.

    They take longer than the decoding itself, and it is asked for once a token.
    """
    import transformers as hf

    core = getattr(tokenizer, "backend_tokenizer", None)
    stock = hf.PreTrainedTokenizerFast
    plain = all(
        getattr(type(tokenizer), name, None) is getattr(stock, name)
        for name in ("decode", "_decode")
    )
    if core is not None and plain:
        return partial(core.decode, skip_special_tokens=True)

    def decode(ids: list[int]) -> str:
        return str(
            tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    return decode


@dataclass(slots=True)
class Stopping(Ends):
    """The ends of a request: EOS ids, stop strings, a number of tokens, the context.

    Attributes:
        eos: ids that end the text; the id itself is the last token.
        stop: strings that end the text; the text is cut before the first, the token that
            completes it is the last.
        stop_ids: special tokens among them, which no text shows.
        max_new_tokens: how many tokens to write at most.
        room: how many tokens fit the model's context, or None.
        stream: turns tokens into text; None writes none (and can see no stop string).
    """

    eos: frozenset[int]
    stop: tuple[str, ...]
    max_new_tokens: int
    room: int | None
    stream: TextStream | None
    stop_ids: frozenset[int] = frozenset()
    written: int = 0
    _held: str = ""

    @property
    def remaining(self) -> int:
        """How many more tokens may be written."""
        limit = self.max_new_tokens if self.room is None else min(self.max_new_tokens, self.room)
        return limit - self.written

    def cut(self, tokens: Sequence[int]) -> tuple[Sequence[str], str | None]:
        """See the base class; where no stop string is looked for, text is left for later."""
        if self.stop or self.stream is None:
            return Ends.cut(self, tokens)  # a class with slots is another than super() knows
        for count, token in enumerate(tokens, start=1):
            self.written += 1
            end = self.end_at(token, self.written)
            if end is not None:
                return self.stream.later(tokens[:count], last=True), end
        return self.stream.later(tokens, last=False), None

    def take(self, token: int) -> tuple[str, str | None]:
        """Take the next token; return the text it releases and, at the end, the reason.

        Text that may be the beginning of a stop string is held back until it is known.
        """
        self.written += 1
        end = self.end_at(token, self.written)
        piece = ""
        if self.stream is not None:
            piece = self.stream.push(token) + (self.stream.flush() if end else "")
        if not self.stop:
            return piece, end
        found = self._find(piece)
        if found is not None:
            return found, "stop"
        self._held += piece
        keep = 0 if end else self._undecided()
        shown = self._held[: len(self._held) - keep]
        self._held = self._held[len(shown) :]
        return shown, end

    def end_at(self, token: int, written: int) -> str | None:
        """Return why a text of ``written`` new tokens ends with this one, stop strings apart."""
        if token in self.eos:
            return "eos"
        if token in self.stop_ids:
            return "stop"
        if written >= self.max_new_tokens:
            return "length"
        if self.room is not None and written >= self.room:
            return "context"
        return None

    def fork(self) -> "Stopping":
        """Return a copy that takes other tokens from here on."""
        return replace(self, stream=None if self.stream is None else self.stream.fork())

    def _find(self, piece: str) -> str | None:
        """Return the text before the first stop string that ``piece`` completes, or None."""
        if not piece:
            return None
        whole = self._held + piece
        places = [place for string in self.stop if (place := whole.find(string)) >= 0]
        if not places:
            return None
        shown = whole[: min(places)]
        self._held = ""
        return shown

    def _undecided(self) -> int:
        """Return how many characters at the end may still become a stop string."""
        longest = 0
        for string in self.stop:
            for size in range(min(len(string) - 1, len(self._held)), longest, -1):
                if self._held.endswith(string[:size]):
                    longest = size
                    break
        return longest
