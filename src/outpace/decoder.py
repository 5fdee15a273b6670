"""The loop: draft a tree, run the target once over it, keep what it agrees with, go on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Unpack

import torch
from torch import Tensor

from . import beam
from .beam import BeamOutput, BeamSearch, BeamSettings
from .cache import Session
from .cache.policies import CachePolicy, make_policy
from .clock import Clock, WallClock
from .compose import (
    drafter_by_name,
    make_drafter,
    make_lengths,
    make_shape,
    make_verifier,
    model_drafter,
    with_partner,
)
from .drafters import Drafter
from .drafters.none import NoDrafter
from .drafters.shape import Shape
from .drawing import Drawing
from .errors import InvalidArgument
from .lengths import LengthController
from .lengths.fixed import FixedLength
from .lengths.gate import GateLength
from .models import LanguageModel, load
from .models.choosing import check_runtime
from .output import Output
from .request import Prompt, Request, Settings, prepare
from .types import Context, Kind, Round, Times, TokenTree, Verdict
from .verifiers import Verifier
from .verifiers.coupled import CoupledVerifier

BITWISE = 16
"""Rows of all forwards of a round in a bitwise run."""
WIDEST = 64
"""Nodes of the largest tree a round may have, root included."""


class Decoder:
    """A target model and how to decode it. Combinations are values; there is one loop.

    Args:
        target: the model whose text is written.
        drafter: proposes draft tokens; None is plain decoding.
        verifier: decides on them; None is coupled verification.
        lengths: how much to draft; None is the cost gate, as much as pays. Under a verifier that
            repeats its text only if as much is drafted again it is 5 tokens, or the drafter's own.
        clock: read at the seams of a round.
        cache_policy: which keys and values of the target are forgotten; None is none. With one the
            text is approximate: another model's, that sees less. Drafts do not change it.

    Raises:
        VocabularyMismatch: drafter and target number tokens differently.
        InvalidArgument: a verifier of chains for a drafter of trees.
    """

    def __init__(
        self,
        target: LanguageModel,
        drafter: Drafter | None = None,
        *,
        verifier: Verifier | None = None,
        lengths: LengthController | None = None,
        clock: Clock | None = None,
        cache_policy: CachePolicy | None = None,
    ) -> None:
        self.target = target
        self.cache_policy = make_policy(cache_policy)
        if target.bitwise and self.cache_policy is not None:
            raise InvalidArgument(
                f"a bitwise run with cache policy {cache_policy}: forgetting moves slots, on which "
                "the last bits depend: leave one of them out"
            )
        self.drafter = NoDrafter() if drafter is None else drafter
        self.verifier = CoupledVerifier() if verifier is None else verifier
        if self.verifier.chains_only and self.drafter.branches:
            raise InvalidArgument(
                f"{type(self.verifier).__name__} takes chains only, {type(self.drafter).__name__} "
                "drafts trees: verify with coupled, rejection or sequoia"
            )
        if target.bitwise and self.drafter.branches:
            raise InvalidArgument(
                f"a bitwise run takes chains only, {type(self.drafter).__name__} drafts trees: "
                "leave bitwise out, or draft with a model or prompt-lookup"
            )
        self.lengths = _default_lengths(self.drafter, self.verifier) if lengths is None else lengths
        self.clock = WallClock() if clock is None else clock
        self.drafter.attach(target)
        self.lengths.attach(target, self.drafter)
        self._topk = _wanted_topk(self.drafter)
        if self.cache_policy is not None:
            if not isinstance(self.drafter, NoDrafter):
                _check_budget(self.cache_policy, self.lengths)
            self.session()  # what does not go with the target is refused now

    @classmethod
    def from_pretrained(
        cls,
        target: str | os.PathLike[str] | LanguageModel = "zoo:target",
        *,
        drafter: str | os.PathLike[str] | Drafter | LanguageModel | None = "auto",
        tree: str | Shape | None = None,
        draft_length: int | str | LengthController | None = None,
        dtype: str | torch.dtype | None = None,
        drafter_dtype: str | torch.dtype | None = None,
        device: str | torch.device | None = None,
        runtime: str | None = None,
        bitwise: bool = False,
        verifier: str | Verifier = "coupled",
        clock: Clock | None = None,
        cache_policy: str | CachePolicy | None = None,
        drafter_cache_policy: str | CachePolicy | None = None,
    ) -> Decoder:
        """Load models by name and put a decoder together.

        Args:
            target: a model folder or hub name, or a model that is loaded already; the embedded
                target if none is given.
            drafter: a registered method (``none``, ``ngram``, ``prompt-lookup`` …), with settings
                if they are to be others (``"early-exit(layers=2)"``), a model folder or hub name,
                a model that is loaded already, or a Drafter; ``retokenized:MODEL``,
                ``cascade:MODEL`` and ``bandit:MODEL`` name a method and its draft model (the last
                two have the embedded drafter for the embedded target by themselves); ``auto`` is
                ``prompt-lookup``, but for the embedded target: there it is ``cascade`` with the
                embedded drafter, or that drafter alone where a tree, a draft length, a bitwise run
                or a verifier that goes by its law is asked for; None is ``none``.
            tree: have the draft model draft token trees of this shape, as in
                ``"pruned(depth=8, branch=3, tau=0.03)"``; None is a chain.
            draft_length: a number of tokens, the name of a length controller, or one; None is
                the cost gate: as much as pays, of a tree too.
            dtype: of target and drafter weights; None is bfloat16, or that of a target that is
                loaded already.
            drafter_dtype: of a draft model that is loaded here; None is ``dtype``.
            device: where both run; None is the GPU if there is one, else the CPU, or where a
                target that is loaded already runs.
            runtime: how forwards of the models that are loaded here are run: ``eager``,
                ``graph``, ``compile`` or ``auto``, see :meth:`LanguageModel.use_runtime`; None is
                ``auto``, or what a target that is loaded already has.
            bitwise: run all forwards of the target at one width and over one number of slots, so
                that a draft does not change the last bits of a score: what that holds for is
                said in docs/runtime.md. Chains alone; it is slower.
            verifier: ``coupled``, ``rejection``, ``sequoia``, ``block``, or a Verifier.
            clock: read at the seams of a round.
            cache_policy: which keys and values of the target are forgotten, as in
                ``"streaming(sinks=4, recent=508)"``: text without an end at constant memory, which
                is approximate. None, or ``full``, is none.
            drafter_cache_policy: likewise of a draft model; the text stays exact.

        Raises:
            OutpaceError: a name, value or model that cannot be used; the message says which.
        """
        policy, own_policy = make_policy(cache_policy), make_policy(drafter_cache_policy)
        if runtime is None:
            runtime = target.runtime_name if isinstance(target, LanguageModel) else "auto"
        runtime = check_runtime(runtime)
        lengths = None if draft_length is None else make_lengths(draft_length)
        chosen = make_verifier(verifier)
        shape = make_shape(tree, draft_length)
        if shape is not None and (drafter is None or isinstance(drafter, Drafter)):
            given = "none" if drafter is None else f"a {type(drafter).__name__}"
            raise InvalidArgument(
                f"a tree needs a draft model, the drafter is {given}: give a model as drafter, "
                "or a TreeDrafter with a shape of its own and no tree"
            )
        if drafter is None:
            drafter = NoDrafter()
        elif isinstance(drafter, str):
            named = target.name if isinstance(target, LanguageModel) else target
            asked: dict[str, Any] = {"tree": tree, "draft_length": draft_length}
            drafter = with_partner(drafter, named, verifier=chosen, bitwise=bitwise, **asked)
        if isinstance(drafter, LanguageModel):
            drafter = model_drafter(drafter, shape)
        elif not isinstance(drafter, Drafter):
            made = drafter_by_name(drafter, shape)
            drafter = drafter if made is None else made
        if isinstance(target, LanguageModel):
            dtype, device = dtype or target.dtype, device or target.device
        else:
            dtype = dtype or "bfloat16"
            target = load(target, dtype=dtype, device=device, runtime=runtime)
        if bitwise:
            target.use_runtime(runtime, bitwise=BITWISE)
        if not isinstance(drafter, Drafter):
            own = drafter_dtype or dtype
            drafter = make_drafter(drafter, shape, dtype=own, device=device, runtime=runtime)
        if own_policy is not None:
            drafter.hold_by(own_policy)
        return cls(
            target, drafter, verifier=chosen, lengths=lengths, clock=clock, cache_policy=policy
        )

    @property
    def exact(self) -> bool:
        """Whether the text has the target's own law."""
        return self.cache_policy is None and self.drafts_exactly

    @property
    def drafts_exactly(self) -> bool:
        """Whether drafts leave the law what it is with this cache policy.

        They do not where the target's rows depend on the rows beside them.
        """
        alone = self.target.rows_alone or isinstance(self.drafter, NoDrafter)
        return alone and self.drafter.exact and self.verifier.exact

    def session(self) -> Session:
        """Return an empty session: handed to several requests, it keeps their common beginning."""
        return Session(self.target, self.cache_policy)

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
        request = prepare(
            self.target,
            prompt,
            began=began,
            exact=self.exact,
            cache_policy=self.cache_policy,
            **settings,
        )
        return Stream(request, self.run(request))

    def beam_search(self, prompt: Prompt, **settings: Unpack[BeamSettings]) -> BeamOutput:
        """Find the most probable texts, which is another aim than :meth:`generate` has.

        The drafter and the verifier have no part in it: the beams are the tree.

        Args:
            prompt: text, or token ids.
            settings: see :class:`BeamSettings`.

        Raises:
            OutpaceError: a value or prompt that cannot be used.
        """
        search = self.beams(prompt, **settings)
        for _ in search:
            pass
        return search.output

    def beams(self, prompt: Prompt, **settings: Unpack[BeamSettings]) -> BeamSearch:
        """Search step by step: iterate over the steps; ``.output`` is what there is.

        Args:
            prompt: text, or token ids.
            settings: see :class:`BeamSettings`.

        Raises:
            OutpaceError: a value or prompt that cannot be used (at once, not at the first step).
        """
        if self.cache_policy is not None:
            raise InvalidArgument(
                f"beam search with cache policy {self.cache_policy}: beams share what they hold: "
                "leave one of them out"
            )
        return beam.begin(self.target, prompt, self.clock, **settings)

    def run(self, request: Request) -> Iterator[Round]:
        """The loop itself, over a prepared request: yield its rounds."""
        target, context, sampler = request.session, request.context, request.sampler
        kind = self.verifier.drawing(sampler.greedy)
        drawing = Drawing(kind, sampler, self.target.vocabulary)
        self.lengths.start()
        before = target.compressions, target.evicted
        started = self.clock.read()
        bitwise, left = self.target.bitwise, request.ends.remaining
        # a bitwise run reads as many slots from its beginning to its end
        logits = target.prefill(
            context.tokens, room=(left if bitwise else min(left, 4096)) + WIDEST
        )
        target.serves = context
        self._serve(request, resume=request.resumed)
        drafted = self.clock.read()
        turn, budget = 0, None
        tree = TokenTree.chain(context.tokens[-1], device=logits.device)
        logits = logits[None]
        try:
            while True:
                verdict = self.verifier.verify(tree, logits, sampler)
                _check_root(tree, context, self.drafter)
                extras = self._extras(logits, verdict)
                verified = self.clock.read()
                if turn:
                    target.commit(tree, verdict.path)
                    target.forget()
                pieces, end = request.ends.cut(verdict.tokens)
                tokens = tuple(verdict.tokens[: len(pieces)])
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
                    budget=budget,
                )
                self._finish(request, done)
                yield done
                if end is not None:
                    return
                turn += 1
                started = self.clock.read()
                if target.serves is not context:
                    _take_back(target, context)
                # a round writes one token more than its tree is deep
                if self.drafter.serves is not context:
                    self._serve(request, resume=True)
                budget = self.lengths.next(context).clip(request.ends.remaining - 1)
                if target.room is not None:  # no round goes past where some are forgotten
                    budget = budget.clip(target.room - 1)
                if bitwise:
                    budget = budget.clip(bitwise - 1)
                if budget.nodes:
                    tree = self.drafter.propose(context, budget, drawing)
                    self.verifier.check(tree)
                else:  # what nobody asks for costs nothing
                    tree = TokenTree.chain(context.tokens[-1])
                drafted = self.clock.read()
                logits = target.forward(tree)
        finally:
            target.abandon()
            request.stats.compressions = target.compressions - before[0]
            request.stats.evicted_tokens = target.evicted - before[1]
            request.stats.kv_bytes = target.nbytes + self.drafter.kv_bytes
            request.stats.store_bytes = self.drafter.store_bytes

    def _serve(self, request: Request, *, resume: bool) -> None:
        self.drafter.look(request.session)
        self.drafter.start(request.context, resume=resume)
        self.drafter.serves = request.context

    def _finish(self, request: Request, done: Round) -> None:
        """Let those who learn from rounds learn, and count."""
        self.drafter.observe(request.context, done)
        self.lengths.observe(done)
        stats = request.stats
        stats.add(done)
        stats.total = done.times.committed - request.began
        if done.index == 0:
            stats.ttft = stats.total

    def _extras(self, logits: Tensor, verdict: Verdict) -> dict[str, Tensor]:
        if not self._topk:
            return {}
        kept = [0, *verdict.path]
        everywhere = "topk-all" in (what for what, _ in self._topk)
        rows = logits if everywhere else logits[kept]
        most = min(max(k for _, k in self._topk), rows.shape[-1])
        best = torch.topk(rows, most, dim=-1).indices
        on_path = best[kept] if everywhere else best
        found = {"topk": on_path, "topk-all": best}
        return {f"{what}:{k}": found[what][:, :k] for what, k in self._topk}


class Stream:
    """The rounds of one text; made by :meth:`Decoder.stream`."""

    def __init__(self, request: Request, rounds: Iterator[Round]) -> None:
        self._request = request
        self._rounds = rounds
        self._pieces: list[Sequence[str]] = []

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Round:
        turn = next(self._rounds)
        self._pieces.append(turn.pieces)
        return turn

    @property
    def output(self) -> Output:
        """What is written so far; the whole output after the last round."""
        request = self._request
        text = "".join(chain.from_iterable(self._pieces))
        return Output(text, request.context.output, request.stats)


def _check_budget(policy: CachePolicy, lengths: LengthController) -> None:
    """Refuse to draft more tokens at once than a cache keeps of the last ones."""
    drafted = lengths.length if isinstance(lengths, FixedLength) else 0
    if policy.size is not None and policy.size < policy.always + drafted:
        raise InvalidArgument(
            f"cache policy {policy} keeps {policy.size} tokens, {policy.always} of them the first, "
            f"and {drafted} are drafted at once: keep more, or draft less"
        )


def _default_lengths(drafter: Drafter, verifier: Verifier) -> LengthController:
    """Return the gate, but where it has nothing to decide, or would decide what is written.

    Under a rejection verifier a seed repeats its text only if as much is drafted again; the gate
    goes by measured times.
    """
    nothing = isinstance(drafter, NoDrafter) or drafter.gated
    return GateLength() if verifier.same_text and not nothing else FixedLength()


def _take_back(session: Session, context: Context) -> None:
    """Hold this text again, after another stream has used the session in between."""
    if len(context) > 1:
        session.prefill(context.tokens[:-1])
    else:
        session.clear()
    session.serves = context


def _check_root(tree: TokenTree, context: Context, drafter: Drafter) -> None:
    root = tree.lists()[0][0]  # on the host since the verification
    if root != context.tokens[-1]:
        raise InvalidArgument(
            f"{type(drafter).__name__} drafted a tree that begins with token {root}, the text ends "
            f"with {context.tokens[-1]}: check it with outpace.testing.check_drafter"
        )


def _wanted_topk(drafter: Drafter) -> list[tuple[str, int]]:
    wanted = []
    for name in drafter.wants:
        what, _, number = name.partition(":")
        if what not in {"topk", "topk-all"} or not number.isdigit():
            raise InvalidArgument(
                f"{type(drafter).__name__} wants {name!r} from the target: it can have 'topk:K' "
                "(at the root and the accepted nodes) and 'topk-all:K' (at every node)"
            )
        wanted.append((what, int(number)))
    return wanted


def _kinds(tree: TokenTree, verdict: Verdict, count: int) -> tuple[Kind, ...]:
    """Name the first ``count`` emitted tokens."""
    last: Kind = "plain"
    if len(tree) > 1:
        leaf = verdict.path[-1] if verdict.path else 0
        last = "recovered" if leaf in tree.lists()[1] else "bonus"
    kinds: list[Kind] = ["accepted"] * len(verdict.path)
    return (*kinds, last)[:count]
