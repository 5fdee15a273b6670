"""Beam search over the slot cache: all beams in one forward a step, nothing reordered or copied.

The living beams are the leaves of a token tree. Nodes that no beam goes through any more are
dropped, and what all beams share is committed, so that a step costs the same however long the
texts become. The search itself is that of transformers' ``generate(num_beams=…)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..cache import Session
from ..clock import Clock
from ..models import LanguageModel
from ..request import Prompt, Request, prepare
from ..stopping import Stopping
from .output import BeamOutput, BeamStats, BeamStep, Hypothesis
from .rules import BeamRules, Penalty, Stop
from .tree import BeamTree


def begin(
    target: LanguageModel,
    prompt: Prompt,
    clock: Clock,
    *,
    num_beams: int = 4,
    length_penalty: float | None = None,
    early_stopping: Stop = False,
    penalty: Penalty = "power",
    num_return_sequences: int = 1,
    top_k: int | None = None,
    max_new_tokens: int = 128,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    bad_words: Sequence[str | Sequence[int]] = (),
    stop: str | Sequence[str] | None = None,
    ignore_eos: bool = False,
    session: Session | None = None,
) -> BeamSearch:
    """Check everything and return a search that is ready to run."""
    began = clock.read()
    rules = BeamRules(
        num_beams, length_penalty, early_stopping, penalty, num_return_sequences, top_k
    )
    request = prepare(
        target,
        prompt,
        began=began,
        exact=True,
        max_new_tokens=max_new_tokens,
        repetition_penalty=repetition_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        bad_words=bad_words,
        stop=stop,
        ignore_eos=ignore_eos,
        session=session,
    )
    return BeamSearch(request, rules, clock)


@dataclass(frozen=True, slots=True)
class _Beam:
    """A text that still grows.

    Attributes:
        path: the nodes below what all beams share; the last one is not computed yet.
        log_prob: of its new tokens.
        ends: looks for stop strings in it; None where there are none to find.
    """

    path: tuple[int, ...]
    log_prob: float
    ends: Stopping | None


@dataclass(frozen=True, slots=True)
class _Found:
    """A text: finished, or the beam it is so far."""

    node: int
    log_prob: float
    score: float
    end: str | None


class BeamSearch:
    """The steps of one beam search; made by :meth:`Decoder.beams`.

    Iterate over it for the steps; ``output`` is what there is so far.

    Args:
        request: what to continue.
        rules: how.
        clock: read after each step.
    """

    def __init__(self, request: Request, rules: BeamRules, clock: Clock) -> None:
        ends = request.ends
        assert isinstance(ends, Stopping), "prepare makes no other"
        self.rules = rules
        self.tree = BeamTree([request.context.tokens[-1]])
        self.stats = BeamStats()
        self._request, self._clock = request, clock
        self._ends = ends
        self._living = [_Beam((), 0.0, ends.fork() if ends.stop else None)]
        self._finished: list[_Found] = []
        self._shared: list[int] = []  # nodes all beams go through: committed
        self._computed: list[int] = []  # nodes of the session's round, in its order
        self._steps = self._run()

    def __iter__(self) -> BeamSearch:
        return self

    def __next__(self) -> BeamStep:
        return next(self._steps)

    @property
    def output(self) -> BeamOutput:
        """The texts found so far, best first: of a search that is not over also unfinished ones."""
        texts = [
            Hypothesis(
                self._text(one.node),
                self.tree.text(one.node),
                one.score,
                one.log_prob,
                one.end,
                one.node,
            )
            for one in self._found()[: self.rules.num_return_sequences]
        ]
        count = len(texts[0].tokens) if texts else 0
        return BeamOutput(texts, replace(self.stats, new_tokens=count), self.tree)

    def _found(self) -> list[_Found]:
        """Return what there is to return, best first."""
        found = list(self._finished)
        if not (self.stats.over and found):
            length = self.stats.steps
            found += [
                _Found(node, beam.log_prob, self.rules.score(beam.log_prob, length), None)
                for beam in self._living
                if (node := self._node(beam))
            ]
        return sorted(found, key=lambda one: -one.score)

    def _run(self) -> Iterator[BeamStep]:
        session, context, stats = self._request.session, self._request.context, self.stats
        room = min(self._request.ends.remaining, 4096) + 2 * self.rules.num_beams
        logits = session.prefill(context.tokens, room=room)[None]
        session.serves = context
        try:
            while not stats.over:
                finished = self._grow(logits)
                if not stats.over:
                    self._tidy()
                stats.total = self._clock.read() - self._request.began
                stats.ttft = stats.ttft or stats.total
                living = () if stats.over else tuple(self._node(beam) for beam in self._living)
                yield BeamStep(stats.steps - 1, living, finished, len(self._computed))
                if not stats.over:
                    logits = self._forward()
        finally:
            if session.serves is context:  # or another text has taken it over in between
                if stats.over:
                    self._keep_best()
                session.abandon()
            stats.kv_bytes = session.nbytes

    def _grow(self, logits: Tensor) -> tuple[int, ...]:
        """Make every beam one token longer, given ``logits [n, V]``; return where texts ended."""
        rules, length = self.rules, self.stats.steps + 1
        grown: list[_Beam] = []
        ended: list[_Found] = []
        for rank, (log_prob, place, token) in enumerate(self._offered(logits)):
            beam = self._living[place]
            ends, end = self._end(beam, token, length)
            if end is None and len(grown) < rules.num_beams:
                node = self.tree.add(self._node(beam), token, log_prob)
                grown.append(_Beam((*beam.path, node), log_prob, ends))
            elif end is not None and rank < rules.num_beams:
                # one that ends is a text only where it would have been a beam
                node = self.tree.add(self._node(beam), token, log_prob)
                ended.append(_Found(node, log_prob, rules.score(log_prob, length), end))
        best = sorted([*self._finished, *ended], key=lambda one: -one.score)[: rules.num_beams]
        kept = tuple(one.node for one in best if one in ended)
        self.tree.finished.update((one.node, one.score) for one in ended if one.node in kept)
        self._finished = best
        if grown:
            self._living = grown
        if grown or ended:
            self.stats.steps = length
        self.stats.over = not grown or rules.is_over(
            [one.score for one in best], grown[0].log_prob, length, self._ends.remaining
        )
        return kept

    def totals(self, logits: Tensor) -> Tensor:
        """Return the log-probabilities ``[n, V]`` of all continuations of the living beams."""
        sampler = self._request.sampler
        paths = [[self.tree.tokens[node] for node in beam.path] for beam in self._living]
        if self.rules.num_beams == 1:  # greedy decoding, where processors see the logits
            law = torch.log_softmax(sampler.scores_of(logits, paths), dim=-1)
        else:
            law = sampler.scores_of(torch.log_softmax(logits.to(torch.float32), dim=-1), paths)
        so_far = torch.tensor([beam.log_prob for beam in self._living], dtype=torch.float32)
        return law + so_far.to(law.device)[:, None]

    def texts(self) -> list[list[int]]:
        """Return the new tokens of the living beams."""
        return [self.tree.text(self._node(beam)) for beam in self._living]

    def _offered(self, logits: Tensor) -> list[tuple[float, int, int]]:
        """Return the best continuations of all beams: log-probability, beam, token."""
        rules, ends, scores = self.rules, self._ends, self.totals(logits)
        width = scores.shape[-1]
        tokens = torch.arange(width, device=scores.device).expand_as(scores)
        if rules.top_k is not None and rules.top_k < width:
            scores, tokens = torch.topk(scores, rules.top_k, dim=-1)
        count = min(rules.offers(len(ends.eos | ends.stop_ids)), scores.numel())
        best, where = torch.topk(scores.flatten(), count)
        chosen = (best.double(), where // scores.shape[-1], tokens.flatten()[where])
        # one transfer to the host; float64 holds all of it
        rows = torch.stack([column.double() for column in chosen], dim=-1).tolist()
        return [
            (log_prob, int(place), int(token))
            for log_prob, place, token in rows
            if log_prob > -math.inf  # a banned token
        ]

    def _end(self, beam: _Beam, token: int, length: int) -> tuple[Stopping | None, str | None]:
        if beam.ends is None:
            return None, self._ends.end_at(token, length)
        ends = beam.ends.fork()
        return ends, ends.take(token)[1]

    def _tidy(self) -> None:
        """Drop the nodes no beam goes through, and commit those that all beams share."""
        session, paths = self._request.session, [beam.path[:-1] for beam in self._living]
        alive = {node for path in paths for node in path}
        kept = [place for place, node in enumerate(self._computed) if node in alive]
        if self._computed:
            session.prune(kept)
        self._computed = [self._computed[place] for place in kept]
        levels = zip(*paths, strict=True)
        count = next((n for n, level in enumerate(levels) if len(set(level)) > 1), len(paths[0]))
        if count:
            shared = self._computed[:count]
            tokens = [self.tree.tokens[node] for node in shared]
            session.settle(tokens)
            self._request.context.extend(tokens)
            self._shared += shared
            self._computed = self._computed[count:]
            self._living = [replace(beam, path=beam.path[count:]) for beam in self._living]

    def _forward(self) -> Tensor:
        """Compute the last token of every beam; return logits ``[n, V]``."""
        session, context = self._request.session, self._request.context
        if session.serves is not context or session.nodes != len(self._computed):
            self._take_back()
        paths = [beam.path for beam in self._living]
        return self._level([path[-1] for path in paths], len(paths[0]))

    def _level(self, nodes: Sequence[int], depth: int) -> Tensor:
        places = {node: place for place, node in enumerate(self._computed)}
        session = self._request.session
        logits = session.branch(
            torch.tensor([self.tree.tokens[node] for node in nodes]).to(session.model.device),
            [places.get(self.tree.parents[node], -1) for node in nodes],
            depth,
        )
        self._computed += nodes
        self.stats.forwards += 1
        self.stats.computed += len(nodes)
        self.stats.widest = max(self.stats.widest, len(self._computed))
        return logits

    def _take_back(self) -> None:
        """Compute again what the beams need, after another text has used the session."""
        session, context = self._request.session, self._request.context
        session.prefill(context.tokens)
        session.serves = context
        self._computed = []
        paths = [beam.path[:-1] for beam in self._living]
        for depth, level in enumerate(zip(*paths, strict=True), start=1):
            self._level(list(dict.fromkeys(level)), depth)

    def _keep_best(self) -> None:
        """Hold the prompt and as much of the best text as is computed and not dropped."""
        session, context = self._request.session, self._request.context
        found = self._found()
        path = self.tree.path(found[0].node) if found else []
        pairs = enumerate(zip(path, self._shared, strict=False))
        same = next((n for n, (one, other) in pairs if one != other), len(self._shared))
        if same < len(self._shared) or not session.nodes:
            session.rollback(context.prompt_length + min(same, len(path)))
            return
        places = {node: place for place, node in enumerate(self._computed)}
        kept = [node for node in path[same:] if node in places]
        session.keep([places[node] for node in kept], [self.tree.tokens[node] for node in kept])

    def _node(self, beam: _Beam) -> int:
        """Return the node at which a beam ends."""
        return beam.path[-1] if beam.path else 0

    def _text(self, node: int) -> str:
        ends = self._ends.fork()
        return "".join(ends.take(token)[0] for token in self.tree.text(node))
