"""The loop: draft a tree, run the target once over it, keep what it agrees with, go on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from . import registry
from .cache import Session
from .clock import Clock, WallClock
from .drafters import Drafter
from .drafters.none import NoDrafter
from .errors import InvalidArgument, ModelNotFound, PromptError, UnknownName
from .lengths import LengthController
from .lengths.fixed import FixedLength
from .models import LanguageModel, load
from .output import Output, Stats
from .sampling import Drawing, Noise, Sampler, Sampling, fresh_seed
from .stopping import Ends, Stopping, TextStream, check_ends
from .types import Context, Kind, Round, Times, TokenTree, Verdict
from .verifiers import Verifier
from .verifiers.coupled import CoupledVerifier

Prompt = str | Sequence[int]
DEFAULT_LENGTH = 5
WIDEST = 64
"""Nodes of the largest tree a round may have, root included."""


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


class Decoder:
    """A target model and how to decode it. Combinations are values; there is one loop.

    Args:
        target: the model whose text is written.
        drafter: proposes draft tokens; None is plain decoding.
        verifier: decides on them; None is coupled verification.
        lengths: how much to draft; None is 5 tokens a round.
        clock: read at the seams of a round.

    Raises:
        VocabularyMismatch: drafter and target number tokens differently.
    """

    def __init__(
        self,
        target: LanguageModel,
        drafter: Drafter | None = None,
        *,
        verifier: Verifier | None = None,
        lengths: LengthController | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.target = target
        self.drafter = NoDrafter() if drafter is None else drafter
        self.verifier = CoupledVerifier() if verifier is None else verifier
        self.lengths = FixedLength(DEFAULT_LENGTH) if lengths is None else lengths
        self.clock = WallClock() if clock is None else clock
        self.drafter.attach(target)
        self._topk = _wanted_topk(self.drafter)

    @classmethod
    def from_pretrained(
        cls,
        target: str | os.PathLike[str] | LanguageModel,
        *,
        drafter: str | os.PathLike[str] | Drafter = "prompt-lookup",
        draft_length: int | str | LengthController = DEFAULT_LENGTH,
        dtype: str | torch.dtype = "bfloat16",
        device: str | torch.device | None = None,
        verifier: str | Verifier = "coupled",
        clock: Clock | None = None,
    ) -> Decoder:
        """Load models by name and put a decoder together.

        Args:
            target: a model folder or hub name, or a model that is loaded already.
            drafter: a registered method (``none``, ``ngram``, ``prompt-lookup`` …), a model
                folder or hub name, or a Drafter.
            draft_length: a number of tokens, the name of a length controller, or one.
            dtype: of target and drafter weights.
            device: where both run; None is the GPU if there is one, else the CPU.
            verifier: ``coupled``, ``rejection``, or a Verifier.
            clock: read at the seams of a round.

        Raises:
            OutpaceError: a name, value or model that cannot be used; the message says which.
        """
        lengths = make_lengths(draft_length)
        chosen: Verifier = (
            registry.get("verifier", verifier)() if isinstance(verifier, str) else verifier
        )
        if not isinstance(drafter, Drafter):
            check_drafter_name(drafter)
        if not isinstance(target, LanguageModel):
            target = load(target, dtype=dtype, device=device)
        if not isinstance(drafter, Drafter):
            drafter = make_drafter(drafter, dtype=dtype, device=device)
        return cls(target, drafter, verifier=chosen, lengths=lengths, clock=clock)

    @property
    def exact(self) -> bool:
        """Whether the text has the target's own law."""
        return self.drafter.exact and self.verifier.exact

    def session(self) -> Session:
        """Return an empty session: handed to several requests, it keeps their common beginning."""
        return Session(self.target)

    def generate(self, prompt: Prompt, **settings: Unpack[Settings]) -> Output:
        """Write a text and return it whole.

        Args:
            prompt: text, or token ids.
            settings: see :class:`Settings`.

        Raises:
            OutpaceError: a value or prompt that cannot be used.
        """
        stream = self.stream(prompt, **settings)
        for _ in stream:
            pass
        return stream.output

    def stream(self, prompt: Prompt, **settings: Unpack[Settings]) -> Stream:
        """Write a text round by round: iterate over the rounds; ``.output`` is what there is.

        Args:
            prompt: text, or token ids.
            settings: see :class:`Settings`.

        Raises:
            OutpaceError: a value or prompt that cannot be used (at once, not at the first round).
        """
        began = self.clock.read()
        request = self._request(prompt, began, **settings)
        return Stream(request, self.run(request))

    def run(self, request: Request) -> Iterator[Round]:
        """The loop itself, over a prepared request: yield its rounds.

        The target runs with the loop's attention while the generator is alive; a model that was
        borrowed has its own back when it ends, is closed or fails.
        """
        target, context, sampler = request.session, request.context, request.sampler
        drawing = Drawing(self.verifier.drawing(sampler.greedy), sampler)
        self.lengths.start()
        started = self.clock.read()
        logits = target.prefill(context.tokens, room=min(request.ends.remaining, 4096) + WIDEST)
        self.drafter.start(context, resume=request.resumed)
        drafted = self.clock.read()
        turn = 0
        tree = TokenTree.chain(context.tokens[-1], device=logits.device)
        logits = logits[None]
        try:
            while True:
                verdict = self.verifier.verify(tree, logits, sampler)
                extras = self._extras(logits, verdict)
                verified = self.clock.read()
                if turn:
                    target.commit(tree, verdict.path)
                tokens, pieces, end = _cut(request.ends, verdict)
                context.extend(tokens)
                times = Times(started, drafted, verified, self.clock.read())
                done = Round(
                    index=turn,
                    tree=tree,
                    verdict=verdict,
                    tokens=tokens,
                    kinds=_kinds(tree, verdict, len(tokens)),
                    pieces=pieces,
                    times=times,
                    end=end,
                    extras=extras,
                )
                self._finish(request, done)
                yield done
                if end is not None:
                    return
                turn += 1
                started = self.clock.read()
                # a round writes one token more than its tree is deep
                budget = self.lengths.next(context).clip(request.ends.remaining - 1)
                tree = self.drafter.propose(context, budget, drawing)
                self.verifier.check(tree)
                drafted = self.clock.read()
                logits = target.forward(tree)
        finally:
            target.abandon()

    def _finish(self, request: Request, done: Round) -> None:
        """Let those who learn from rounds learn, and count."""
        self.drafter.observe(request.context, done)
        self.lengths.observe(done)
        stats = request.stats
        stats.add(done)
        stats.total = done.times.committed - request.began
        if done.index == 0:
            stats.ttft = stats.total
        if done.end is not None:
            stats.kv_bytes = request.session.nbytes + self.drafter.kv_bytes

    def _extras(self, logits: Tensor, verdict: Verdict) -> dict[str, Tensor]:
        if not self._topk:
            return {}
        rows = logits[[0, *verdict.path]]
        best = torch.topk(rows, min(max(self._topk.values()), rows.shape[-1]), dim=-1).indices
        return {name: best[:, :k] for name, k in self._topk.items()}

    def _request(
        self,
        prompt: Prompt,
        began: float,
        *,
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
            bad_words=self._bad_words(bad_words),
            seed=seed,
        )
        strings = (stop,) if isinstance(stop, str) else tuple(stop or ())
        tokenizer = self.target.tokenizer
        check_ends(max_new_tokens, strings)
        if strings and tokenizer is None:
            raise InvalidArgument(
                f"stop strings need a tokenizer, and {self.target.name} has none: leave them out"
            )
        tokens = self._tokens(prompt)
        context = Context(tokens, self.target.device)
        limit = self.target.context_length
        ends = Stopping(
            eos=frozenset() if ignore_eos else self.target.eos_ids,
            stop=strings,
            max_new_tokens=max_new_tokens,
            room=None if limit is None else limit - len(tokens),
            stream=None if tokenizer is None else TextStream(tokenizer, tokens),
        )
        chosen_seed = fresh_seed() if seed is None else seed
        sampler = Sampler(
            context, sampling.processors(), greedy=sampling.greedy, noise=Noise(chosen_seed)
        )
        if session is not None and session.model is not self.target:
            raise InvalidArgument("the session belongs to another model: make one with .session()")
        return Request(
            began=began,
            context=context,
            sampler=sampler,
            ends=ends,
            session=Session(self.target) if session is None else session,
            resumed=session is not None and len(session) > 0,
            stats=Stats(seed=chosen_seed, exact=self.exact),
        )

    def _tokens(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            if self.target.tokenizer is None:
                raise PromptError(
                    f"{self.target.name} has no tokenizer: give the prompt as a list of token ids"
                )
            tokens = list(self.target.tokenizer(prompt)["input_ids"]) if prompt else []
        else:
            tokens = [int(token) for token in prompt]
        if not tokens:
            raise PromptError("the prompt is empty: give some text to go on from")
        wrong = [token for token in tokens if not 0 <= token < self.target.vocabulary]
        if wrong:
            raise PromptError(
                f"token id {wrong[0]} in the prompt: {self.target.name} has ids 0 to "
                f"{self.target.vocabulary - 1}"
            )
        limit = self.target.context_length
        if limit is not None and len(tokens) >= limit:
            raise PromptError(
                f"the prompt has {len(tokens)} tokens, {self.target.name} takes {limit} with the "
                "new ones: shorten the prompt"
            )
        return tokens

    def _bad_words(self, words: Sequence[str | Sequence[int]]) -> tuple[tuple[int, ...], ...]:
        """Token sequences to ban; a text is banned with and without a space before it."""
        banned: list[tuple[int, ...]] = []
        for word in [words] if isinstance(words, str) else words:
            if not isinstance(word, str):
                banned.append(tuple(word))
                continue
            if self.target.tokenizer is None:
                raise InvalidArgument(
                    f"bad word {word!r}: {self.target.name} has no tokenizer: give token ids"
                )
            for text in (word, " " + word):
                ids = self.target.tokenizer(text, add_special_tokens=False)["input_ids"]
                banned.append(tuple(ids))
        return tuple(dict.fromkeys(banned))


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


class Stream:
    """The rounds of one text; made by :meth:`Decoder.stream`."""

    def __init__(self, request: Request, rounds: Iterator[Round]) -> None:
        self._request = request
        self._rounds = rounds
        self._pieces: list[str] = []

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Round:
        turn = next(self._rounds)
        self._pieces.append(turn.text)
        return turn

    @property
    def output(self) -> Output:
        """What is written so far; the whole output after the last round."""
        request = self._request
        return Output("".join(self._pieces), request.context.output, request.stats)


def make_lengths(length: int | str | LengthController) -> LengthController:
    """Return a length controller from a number, a name, or one.

    Raises:
        InvalidArgument: a number out of range, or an unknown name.
    """
    if isinstance(length, LengthController):
        return length
    if isinstance(length, int):
        return FixedLength(length)
    try:
        return FixedLength(int(length))
    except InvalidArgument:
        raise
    except ValueError:  # no number: a name
        found = registry.find("lengths", length)
    if found is None:
        raise UnknownName(f"{registry.unknown('lengths', length)}; or give a number of tokens")
    made: LengthController = found()
    return made


def make_drafter(
    name: str | os.PathLike[str],
    *,
    dtype: str | torch.dtype = "bfloat16",
    device: str | torch.device | None = None,
) -> Drafter:
    """Return a drafter from a registered name, a model folder or a hub name.

    Raises:
        UnknownName: neither a method nor a model.
        ModelError: the model cannot be used.
    """
    text = os.fspath(name)
    check_drafter_name(text)
    found = registry.find("drafter", text)
    if found is not None:
        made: Drafter = found()
        return made
    from .drafters.model import ModelDrafter

    try:
        return ModelDrafter(load(text, dtype=dtype, device=device))
    except ModelNotFound as error:
        if os.sep in text or os.path.exists(text):
            raise
        raise UnknownName(f"{registry.unknown('drafter', text)}; or give a model folder") from error


def check_drafter_name(name: str | os.PathLike[str]) -> None:
    """Refuse what cannot be a drafter's name, before anything is loaded or looked up.

    Raises:
        InvalidArgument: the name of a kind that needs a model, or a misspelt method.
    """
    text = os.fspath(name)
    if text == "model":
        raise InvalidArgument(
            "drafter 'model' needs to know which: give the drafter's folder or hub name"
        )
    near = get_close_matches(text.lower(), registry.names("drafter"), n=1, cutoff=0.75)
    if near and near[0] != text and not os.path.exists(text):
        raise UnknownName(f"{registry.unknown('drafter', text)}; or give a model folder")


def _wanted_topk(drafter: Drafter) -> dict[str, int]:
    wanted = {}
    for name in drafter.wants:
        what, _, number = name.partition(":")
        if what != "topk" or not number.isdigit():
            raise InvalidArgument(
                f"{type(drafter).__name__} wants {name!r} from the target: it can have 'topk:K'"
            )
        wanted[name] = int(number)
    return wanted


def _cut(ends: Ends, verdict: Verdict) -> tuple[tuple[int, ...], tuple[str, ...], str | None]:
    """Return the tokens up to the end of the text, their text, and why it ends there if it does."""
    pieces: list[str] = []
    for count, token in enumerate(verdict.tokens, start=1):
        piece, end = ends.take(token)
        pieces.append(piece)
        if end is not None:
            return tuple(verdict.tokens[:count]), tuple(pieces), end
    return tuple(verdict.tokens), tuple(pieces), None


def _kinds(tree: TokenTree, verdict: Verdict, count: int) -> tuple[Kind, ...]:
    """Name the first ``count`` emitted tokens."""
    last: Kind = "plain"
    if len(tree) > 1:
        leaf = verdict.path[-1] if verdict.path else 0
        last = "recovered" if leaf in tree.lists()[1] else "bonus"
    kinds: list[Kind] = ["accepted"] * len(verdict.path)
    return (*kinds, last)[:count]
