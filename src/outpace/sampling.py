"""Scores, processors and noise: how a token is chosen, the same way for plain and drafted text.

Coupled choice: the token at index t of the sequence is ``argmax_v score_t(v) + g(seed, t, v)``
with Gumbel noise g from a counter-based generator, so it depends on the text before t and on
nothing else: not on the drafter, the tree, the round or the node. Greedy decoding is g = 0.
(The Gumbel-max trick; sharing its noise between models as in arXiv 2408.07978.)
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .errors import InvalidArgument, StatefulProcessor
from .types import Context, Draw, TokenTree

if TYPE_CHECKING:
    from transformers import LogitsProcessorList

_MASK64 = (1 << 64) - 1
# Odd constants, far apart in their bits: the golden ratio's (Weyl step) and one for streams.
_G = 0x9E3779B97F4A7C15
_D = 0xD1342543DE82EF95
# Multipliers of splitmix64's finaliser.
_M1 = 0xBF58476D1CE4E5B9
_M2 = 0x94D049BB133111EB


class Stream(IntEnum):
    """What a piece of noise is for. One noise never serves two purposes: that biases the law."""

    COUPLED = 0
    ACCEPT = 1
    RESIDUAL = 2
    DRAFT = 3  # see draft_stream


SIBLINGS = 64
"""More than a node has children: a round drafts fewer tokens."""


def draft_stream(depth: int, index: int = 0) -> int:
    """Return the stream of the ``index``-th independent draft below a node ``depth`` levels down.

    Its noise is taken at the ``t`` where the round starts, not where the draft token would stand: a
    place can be drafted again in the next round, and by then its first draft may have had a say,
    in block verification or through a draft length that follows how the rounds went.
    """
    return Stream.DRAFT + depth * SIBLINGS + index


def _signed(value: int) -> int:
    """Return a 64-bit pattern as the int64 that has it."""
    return value - (1 << 64) if value >> 63 else value


def _mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * _M1) & _MASK64
    x = ((x ^ (x >> 27)) * _M2) & _MASK64
    return x ^ (x >> 31)


def noise_key(seed: int, stream: int, t: int) -> int:
    """Return the 64-bit key of the noise row for sequence index ``t``."""
    # The finaliser maps 0 to 0, so the stream counts from one: seed 0 at t = 0 is a row like any.
    return _mix(((t * _G) & _MASK64) ^ _mix((seed * _G + (stream + 1) * _D) & _MASK64))


@lru_cache(maxsize=16)
def _counters(size: int, device: torch.device) -> Tensor:
    """``[size]`` int64: v·G, wrapped."""
    return torch.arange(size, device=device) * _signed(_G)


def _logical_shift(x: Tensor, bits: int) -> Tensor:
    # torch shifts arithmetically: mask the copies of the sign bit away
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def hash_rows(keys: Tensor, size: int) -> Tensor:
    """Return ``[N, size]`` int64 in [0, 2³²): 32 hashed bits per key ``[N]`` and counter."""
    x = keys[:, None] + _counters(size, keys.device)[None, :]
    x = (x ^ _logical_shift(x, 30)).mul_(_signed(_M1))
    x = (x ^ _logical_shift(x, 27)).mul_(_signed(_M2))
    x = x ^ _logical_shift(x, 31)
    return _logical_shift(x, 32)


class Noise:
    """Counter-based noise: every value is a pure function of (seed, stream, t, v)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def gumbel(self, ts: Sequence[int], size: int, device: torch.device, stream: int) -> Tensor:
        """Return float32 ``[len(ts), size]`` Gumbel noise for the sequence indices ``ts``."""
        keys = [_signed(noise_key(self.seed, stream, t)) for t in ts]
        bits = hash_rows(torch.tensor(keys, dtype=torch.int64, device=device), size)
        # 32 bits, centred, in float64: log1p keeps the tail that 24-bit uniforms cut off, and
        # neither logarithm can meet 0.
        uniform = bits.to(torch.float64).add_(0.5).mul_(2.0**-32)
        exponential = uniform.neg_().log1p_().neg_()
        return exponential.log_().neg_().to(torch.float32)

    def uniform(self, t: int, index: int, stream: int) -> float:
        """Return one number in (0, 1)."""
        bits = _mix((noise_key(self.seed, stream, t) + index * _G) & _MASK64) >> 32
        return (bits + 0.5) * 2.0**-32

    def accept(self, probability: float, t: int, index: int = 0) -> bool:
        """Return True with this probability; no test of a text shares both ``t`` and ``index``."""
        return self.uniform(t, index, Stream.ACCEPT) < probability

    def draw(self, probabilities: Tensor, t: int) -> int:
        """Draw from ``[V]`` (need not sum to one): the token after the last accepted draft."""
        noise = self.gumbel([t], probabilities.shape[-1], probabilities.device, Stream.RESIDUAL)
        return int(torch.argmax(probabilities.log() + noise[0]))


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings of the target's law; the defaults are greedy decoding.

    Attributes:
        temperature: 0 is greedy.
        top_k: keep the k best tokens; None keeps all.
        top_p: keep the fewest best tokens whose probabilities reach this sum.
        min_p: drop tokens less probable than this share of the best one.
        typical_p: locally typical sampling (arXiv 2202.00666).
        repetition_penalty: over prompt and output (arXiv 1909.05858); 1 is none.
        no_repeat_ngram_size: no n-gram of this size twice; 0 is off.
        bad_words: token sequences that must not appear.
        seed: of the noise; None draws one, which the output records.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words: tuple[tuple[int, ...], ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check every type and range; raise InvalidArgument with the value and the remedy."""
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            right = isinstance(value, kind) and not isinstance(value, bool)
            optional = value is None and name not in _REQUIRED
            article = "a whole number" if kind is Integral else "a number"
            _need(right or optional, f"{name.replace('_', ' ')} {value!r}: give {article}")
            if value is not None:  # numpy's numbers are none to the processors
                object.__setattr__(self, name, int(value) if kind is Integral else float(value))
        _need(
            0 <= self.temperature < math.inf,
            f"temperature {self.temperature}: give 0 (greedy) or more",
        )
        _need(self.top_k is None or self.top_k >= 1, f"top-k {self.top_k}: give 1 or more")
        _need(
            self.top_p is None or 0 < self.top_p <= 1,
            f"top-p {self.top_p}: give a number above 0 and at most 1",
        )
        _need(
            self.min_p is None or 0 <= self.min_p <= 1, f"min-p {self.min_p}: give a number 0 to 1"
        )
        _need(
            self.typical_p is None or 0 < self.typical_p <= 1,
            f"typical-p {self.typical_p}: give a number above 0 and at most 1",
        )
        _need(
            0 < self.repetition_penalty < math.inf,
            f"repetition penalty {self.repetition_penalty}: give a number above 0 (1 is none)",
        )
        _need(
            self.no_repeat_ngram_size >= 0,
            f"no-repeat-ngram size {self.no_repeat_ngram_size}: give 0 (off) or more",
        )
        _need(all(self.bad_words), "bad words: an empty token sequence; leave it out")
        _need(
            self.seed is None or -(2**63) <= self.seed < 2**64,
            f"seed {self.seed}: give a whole number that fits in 64 bits",
        )

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is taken."""
        return self.temperature == 0

    def processors(self) -> LogitsProcessorList:
        """Return transformers' processors for these settings, in the order its generate uses."""
        import transformers as hf

        chosen: list[Any] = []
        if self.repetition_penalty != 1:
            chosen.append(hf.RepetitionPenaltyLogitsProcessor(self.repetition_penalty))
        if self.no_repeat_ngram_size:
            chosen.append(hf.NoRepeatNGramLogitsProcessor(self.no_repeat_ngram_size))
        if self.bad_words:
            chosen.append(hf.NoBadWordsLogitsProcessor([list(w) for w in self.bad_words]))
        if self.greedy:
            return hf.LogitsProcessorList(chosen)
        if self.temperature != 1:
            chosen.append(hf.TemperatureLogitsWarper(float(self.temperature)))
        if self.top_k is not None:
            chosen.append(hf.TopKLogitsWarper(self.top_k))
        if self.top_p is not None and self.top_p < 1:
            chosen.append(hf.TopPLogitsWarper(float(self.top_p)))
        if self.min_p is not None:
            chosen.append(hf.MinPLogitsWarper(float(self.min_p)))
        if self.typical_p is not None and self.typical_p < 1:
            chosen.append(hf.TypicalLogitsWarper(float(self.typical_p)))
        return hf.LogitsProcessorList(chosen)


_KINDS: Mapping[str, type] = {
    "temperature": Real,
    "top_k": Integral,
    "top_p": Real,
    "min_p": Real,
    "typical_p": Real,
    "repetition_penalty": Real,
    "no_repeat_ngram_size": Integral,
    "seed": Integral,
}
_REQUIRED = frozenset({"temperature", "repetition_penalty", "no_repeat_ngram_size"})


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidArgument(message)


def fresh_seed() -> int:
    """Draw a seed for a run that was given none."""
    return secrets.randbits(31)


_STATEFUL = ("Watermark", "ClassifierFreeGuidance")


def refuse_stateful(processors: Sequence[object]) -> None:
    """Raise StatefulProcessor for processors that remember earlier calls.

    Watermarks and classifier-free guidance keep a state from call to call; the nodes of a tree
    are scored out of order, so they would be wrong in silence.
    """
    for processor in processors:
        name = type(processor).__name__
        if any(word in name for word in _STATEFUL):
            raise StatefulProcessor(
                f"{name} remembers earlier calls and cannot score draft tokens: "
                "generate without it, or with transformers' own generate"
            )


class Sampler:
    """The law of the next token, for one request: processors, noise and the text so far.

    Args:
        context: prompt and output; paths handed to the methods continue it.
        processors: applied to float32 logits with the node's own path as context.
        greedy: take the best score; otherwise add noise (coupled) or sample.
        noise: the generator.
    """

    def __init__(
        self,
        context: Context,
        processors: Sequence[Any],
        *,
        greedy: bool,
        noise: Noise,
    ) -> None:
        refuse_stateful(processors)
        self.context = context
        self.greedy = greedy
        self.noise = noise
        self._processors = processors
        self._rows: dict[int, Tensor] = {}

    @property
    def is_argmax(self) -> bool:
        """Whether the choice is the argmax of the raw logits: greedy, no processors."""
        return self.greedy and not self._processors

    def scores(self, logits: Tensor, path: Sequence[int | Tensor] = ()) -> Tensor:
        """Return the processed float32 scores ``[V]`` of ``logits [V]`` after ``path``."""
        if not self._processors:
            return logits.to(torch.float32)
        return self._process(logits[None], [path])[0]

    def choose(self, logits: Tensor, path: Sequence[int | Tensor] = ()) -> Tensor:
        """Return the coupled choice after ``path`` as a 0-d tensor on the logits' device."""
        scores = self.scores(logits, path)
        if not self.greedy:
            t = len(self.context) + len(path)
            scores = scores + self._gumbel([t], scores, Stream.COUPLED)[0]
        return torch.argmax(scores)

    def choose_all(self, tree: TokenTree, logits: Tensor) -> Tensor:
        """Return the coupled choice at every node, ``[N]``, without a look from the host.

        Where processors need each node's path, trees other than chains cost a host transfer.
        """
        if self.is_argmax:
            return torch.argmax(logits, dim=-1)
        scores = self.scores_of(logits, _paths(tree) if self._processors else ())
        if not self.greedy:
            depths = range(len(tree)) if tree.is_chain else tree.depths().tolist()
            ts = [len(self.context) + depth for depth in depths]
            scores = scores + self._gumbel(ts, scores, Stream.COUPLED)
        return torch.argmax(scores, dim=-1)

    def scores_of(self, logits: Tensor, paths: Sequence[Sequence[int | Tensor]]) -> Tensor:
        """Return the processed float32 scores ``[n, V]`` of rows, each after its own path.

        Rows whose paths are of one length go through the processors together.
        """
        if not self._processors:
            return logits.to(torch.float32)
        rows: dict[int, list[int]] = {}
        for row, path in enumerate(paths):
            rows.setdefault(len(path), []).append(row)
        if len(rows) == 1:
            return self._process(logits, paths)
        done = torch.empty(logits.shape, dtype=torch.float32, device=logits.device)
        for alike in rows.values():
            done[alike] = self._process(logits[alike], [paths[row] for row in alike])
        return done

    def _process(self, logits: Tensor, paths: Sequence[Sequence[int | Tensor]]) -> Tensor:
        """Return scores ``[n, V]`` of rows whose paths are of one length."""
        ids = self.context.ids(paths[0])
        if len(paths) > 1:  # a copy: each row has an end of its own
            ids = ids.expand(len(paths), -1).clone()
            for row, path in enumerate(paths[1:], start=1):
                for place, token in enumerate(path, start=len(self.context)):
                    ids[row, place] = token
        scores = logits.to(torch.float32)
        for processor in self._processors:
            scores = processor(ids, scores)
        return scores

    def gumbel(self, t: int, like: Tensor, stream: int) -> Tensor:
        """Return the noise ``[V]`` of one place in the text."""
        return self._gumbel([t], like, stream)[0]

    def draft_gumbel(self, depth: int, like: Tensor, index: int = 0) -> Tensor:
        """Return the noise ``[V]`` that draws children ``depth`` levels down: this round's own."""
        return self.gumbel(len(self.context), like, draft_stream(depth, index))

    def probabilities(self, logits: Tensor, path: Sequence[int | Tensor] = ()) -> Tensor:
        """Return the law after ``path``, float64 ``[V]``; greedy puts all on the best token."""
        scores = self.scores(logits, path)
        if self.greedy:
            law = torch.zeros_like(scores, dtype=torch.float64)
            law[torch.argmax(scores)] = 1.0
            return law
        return torch.softmax(scores.to(torch.float64), dim=-1)

    def draw_iid(
        self, logits: Tensor, path: Sequence[int | Tensor] = (), *, index: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Draw a draft token from the law after ``path``, independent of the coupled noise.

        Returns:
            The token, 0-d, and the log-probabilities ``[V]`` it was drawn from.
        """
        log_q = torch.log_softmax(self.scores(logits, path), dim=-1)
        noise = self.draft_gumbel(len(path), log_q, index)
        return torch.argmax(log_q + noise), log_q

    def _gumbel(self, ts: Sequence[int], like: Tensor, stream: int) -> Tensor:
        size = like.shape[-1]
        if stream != Stream.COUPLED or len(ts) > 1:
            return self.noise.gumbel(ts, size, like.device, stream)
        # drafter and target share this noise, round after round until the place is decided
        (t,) = ts
        row = self._rows.get(t)
        if row is None or row.shape[-1] != size or row.device != like.device:
            row = self.noise.gumbel(ts, size, like.device, stream)
            decided = len(self.context)
            self._rows = {place: kept for place, kept in self._rows.items() if place >= decided}
            self._rows[t] = row
        return row


def _paths(tree: TokenTree) -> list[list[int | Tensor]]:
    """Return for every node the tokens from the root's child down to the node itself."""
    if tree.is_chain:
        drafted = list(tree.tokens[1:].unbind())
        return [list(drafted[:depth]) for depth in range(len(tree))]
    tokens, parents = tree.lists()
    paths: list[list[int | Tensor]] = [[]]
    for node in range(1, len(tree)):
        paths.append([*paths[parents[node]], tokens[node]])
    return paths


@dataclass(frozen=True, slots=True)
class Children:
    """What was drawn below the nodes of a level.

    Attributes:
        tokens: ``[n, b]`` int64, in the order they were drawn.
        scores: ``[n, b]`` float32, the logarithm of how sure the drafter is of each.
        best: ``[n]``, how sure it is of the best one: a probability.
        log_q: ``[n, V]`` the law they were drawn from, or None.
    """

    tokens: Tensor
    scores: Tensor
    best: Tensor
    log_q: Tensor | None


@dataclass(frozen=True, slots=True)
class Drawing:
    """How a drafter chooses from its own logits so that the verifier can treat the tree.

    Attributes:
        kind: the draw the verifier accepts from a drafter with a law.
        sampler: the target's sampler: same processors, same noise, same context.
        vocabulary: how many rows the target's logits have; None where it does not matter.
    """

    kind: Draw
    sampler: Sampler
    vocabulary: int | None = None

    def choose(self, logits: Tensor, path: Sequence[int | Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return the draft token after ``path`` (0-d tensor) and its law ``[V]`` if one is due."""
        if self.kind == "iid":
            return self.sampler.draw_iid(logits, path)
        return self.sampler.choose(logits, path), None

    def without_law(self) -> Drawing:
        """The same for a drafter that may drop what it drew: no law is left to reject by."""
        if self.kind in {"iid", "without_replacement"}:
            return replace(self, kind="deterministic")
        return self

    def children(
        self, logits: Tensor, paths: Sequence[Sequence[int | Tensor]], count: int
    ) -> Children:
        """Draw ``count`` children for every node of a level.

        Args:
            logits: ``[n, V_drafter]``.
            paths: the draft tokens on the way to each node, itself included; all of one length.
            count: how many; fewer where the vocabulary is smaller.
        """
        rows = fit(logits, self.vocabulary)
        scores = self.sampler.scores_of(rows, paths)
        count = min(count, scores.shape[-1])
        depth = len(paths[0])
        log_q = None
        if self.kind == "deterministic" or self.kind == "coupled":
            if self.kind == "coupled" and not self.sampler.greedy:
                t = len(self.sampler.context) + depth
                scores = scores + self.sampler.gumbel(t, scores, Stream.COUPLED)
            sure = torch.log_softmax(scores, dim=-1)
            values, tokens = torch.topk(sure, count, dim=-1)
            return Children(tokens, values, values[:, 0].exp(), None)
        log_q = torch.log_softmax(scores, dim=-1)
        if self.kind == "without_replacement":
            # the best of log q + Gumbel noise, best first, are draws without replacement
            noise = self.sampler.draft_gumbel(depth, log_q)
            tokens = torch.topk(log_q + noise, count, dim=-1).indices
        else:
            drawn = [
                torch.argmax(log_q + self.sampler.draft_gumbel(depth, log_q, j), dim=-1)
                for j in range(count)
            ]
            tokens = torch.stack(drawn, dim=-1)
        return Children(tokens, log_q.gather(-1, tokens), log_q.max(-1).values.exp(), log_q)


def fit(logits: Tensor, vocabulary: int | None) -> Tensor:
    """Cut or pad ``[..., V]`` to another vocabulary; what is past the smaller one is padding."""
    surplus = 0 if vocabulary is None else vocabulary - logits.shape[-1]
    if surplus > 0:
        return torch.nn.functional.pad(logits, (0, surplus), value=float("-inf"))
    return logits[..., :vocabulary]
