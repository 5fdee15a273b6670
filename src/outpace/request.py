"""A request: everything about one text to write, checked before the loop begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypedDict

from .cache import Session
from .cache.policies import CachePolicy, FullPolicy
from .errors import InvalidArgument, PromptError
from .models import LanguageModel
from .noise import Noise
from .output import Stats
from .sampling import Sampler, Sampling, fresh_seed
from .stopping import Ends, Stopping, TextStream, check_ends
from .types import Context

Prompt = str | Sequence[int]


class Settings(TypedDict, total=False):
    """Settings of a request; all have defaults.

    Attributes:
        max_new_tokens: how many tokens to write at most (128).
        temperature: 0 is greedy, the default.
        top_k: keep the k best tokens.
        top_p: keep the fewest best tokens whose probabilities reach this sum.
        min_p: drop tokens less probable than this share of the best one.
        typical_p: locally typical sampling (arXiv 2202.00666).
        repetition_penalty: over prompt and output; 1 is none.
        no_repeat_ngram_size: no n-gram of this size twice; 0 is off.
        bad_words: texts or token sequences that must not appear.
        seed: of the noise (0); None draws one, recorded in ``stats.seed``.
        stop: a string or strings that end the text, which is cut before them.
        ignore_eos: go on past EOS, as benchmarks do.
        session: keeps keys and values between requests (:meth:`Decoder.session`).
    """

    max_new_tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float
    no_repeat_ngram_size: int
    bad_words: Sequence[str | Sequence[int]]
    seed: int | None
    stop: str | Sequence[str] | None
    ignore_eos: bool
    session: Session | None


@dataclass(slots=True)
class Request:
    """One text to write, checked and ready for the loop.

    Attributes:
        began: when it was asked for, on the decoder's clock.
        context: prompt and output.
        sampler: the law of the next token.
        ends: where the text ends.
        session: the target's keys and values.
        resumed: the session held something before.
        stats: figures, filled as rounds finish.
    """

    began: float
    context: Context
    sampler: Sampler
    ends: Ends
    session: Session
    resumed: bool
    stats: Stats


def prepare(
    target: LanguageModel,
    prompt: Prompt,
    *,
    began: float,
    exact: bool,
    cache_policy: CachePolicy | None = None,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    typical_p: float | None = None,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    bad_words: Sequence[str | Sequence[int]] = (),
    seed: int | None = 0,
    stop: str | Sequence[str] | None = None,
    ignore_eos: bool = False,
    session: Session | None = None,
) -> Request:
    """Check everything, tokenise, and prepare what the loop needs. Defaults live here."""
    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        typical_p=typical_p,
        repetition_penalty=repetition_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        bad_words=_bad_words(target, bad_words),
        seed=seed,
    )
    strings = _strings(stop)
    tokenizer = target.tokenizer
    check_ends(max_new_tokens, strings)
    if strings and tokenizer is None:
        raise InvalidArgument(
            f"stop strings need a tokenizer, and {target.name} has none: leave them out"
        )
    if not isinstance(session, Session | None):
        raise InvalidArgument(f"session {session!r}: make one with .session()")
    if session is not None and session.model is not target:
        raise InvalidArgument("the session belongs to another model: make one with .session()")
    held = Session(target, cache_policy) if session is None else session
    if str(held.policy) != str(cache_policy or FullPolicy()):
        raise InvalidArgument(
            f"the session has cache policy {held.policy}, the decoder {cache_policy or 'full'}: "
            "make one with .session()"
        )
    limit = held.limit
    tokens = _tokens(target, prompt, limit)
    context = Context(tokens, target.device)
    ends = Stopping(
        eos=frozenset() if ignore_eos else target.eos_ids,
        stop=strings,
        max_new_tokens=max_new_tokens,
        room=None if limit is None else limit - len(tokens),
        stream=None if tokenizer is None else TextStream(tokenizer, tokens),
        stop_ids=frozenset(_special(tokenizer, string) for string in strings) - {-1},
    )
    chosen_seed = fresh_seed() if seed is None else seed
    sampler = Sampler(
        context, sampling.processors(), greedy=sampling.greedy, noise=Noise(chosen_seed)
    )
    return Request(
        began=began,
        context=context,
        sampler=sampler,
        ends=ends,
        session=held,
        resumed=session is not None and len(session) > 0,
        stats=Stats(seed=chosen_seed, exact=exact),
    )


def _special(tokenizer: Any, string: str) -> int:
    """Return the id of the special token that ``string`` is, or -1."""
    ids = tokenizer(string, add_special_tokens=False)["input_ids"]
    return int(ids[0]) if len(ids) == 1 and ids[0] in tokenizer.all_special_ids else -1


def _strings(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    strings = (stop,) if isinstance(stop, str) else stop or ()
    if isinstance(strings, Iterable) and all(isinstance(string, str) for string in strings):
        return tuple(strings)
    raise InvalidArgument(f"stop {stop!r}: give a string or a list of strings")


def _tokens(target: LanguageModel, prompt: Prompt, limit: int | None) -> list[int]:
    if isinstance(prompt, str):
        if target.tokenizer is None:
            raise PromptError(
                f"{target.name} has no tokenizer: give the prompt as a list of token ids"
            )
        tokens = list(target.tokenizer(prompt)["input_ids"]) if prompt else []
    else:
        ids = _ids(prompt)
        if ids is None:
            raise PromptError(
                f"a prompt of type {type(prompt).__name__}: give a text or a list of token ids"
            )
        tokens = ids
    if not tokens:
        raise PromptError("the prompt is empty: give some text to go on from")
    wrong = [token for token in tokens if not 0 <= token < target.vocabulary]
    if wrong:
        raise PromptError(
            f"token id {wrong[0]} in the prompt: {target.name} has ids 0 to {target.vocabulary - 1}"
        )
    if limit is not None and len(tokens) >= limit:
        raise PromptError(
            f"the prompt has {len(tokens)} tokens, {target.name} takes {limit} with the "
            "new ones: shorten the prompt, or forget some of it with a cache policy, as "
            "streaming"
        )
    return tokens


def _ids(values: Any) -> list[int] | None:
    """Return token ids from a sequence, an array or a tensor ``[T]`` or ``[1, T]``, else None."""
    if hasattr(values, "tolist"):
        values = values.tolist()
        if len(values) == 1 and isinstance(values[0], list):
            values = values[0]
    if isinstance(values, Iterable) and not isinstance(values, bytes):
        ids = list(values)
        if all(isinstance(token, Integral) and not isinstance(token, bool) for token in ids):
            return [int(token) for token in ids]
    return None


def _bad_words(
    target: LanguageModel, words: Sequence[str | Sequence[int]]
) -> tuple[tuple[int, ...], ...]:
    """Token sequences to ban; a text is banned with and without a space before it."""
    banned: list[tuple[int, ...]] = []
    if not isinstance(words, Iterable):
        raise InvalidArgument(f"bad words {words!r}: give a list of texts or of lists of token ids")
    for word in [words] if isinstance(words, str) else words:
        if not isinstance(word, str):
            given = _ids(word)
            if given is None or any(not 0 <= token < target.vocabulary for token in given):
                raise InvalidArgument(
                    f"bad word {word!r}: give a text or token ids 0 to {target.vocabulary - 1}"
                )
            banned.append(tuple(given))
            continue
        if target.tokenizer is None:
            raise InvalidArgument(
                f"bad word {word!r}: {target.name} has no tokenizer: give token ids"
            )
        for text in (word, " " + word):
            ids = target.tokenizer(text, add_special_tokens=False)["input_ids"]
            banned.append(tuple(ids))
    return tuple(dict.fromkeys(banned))
