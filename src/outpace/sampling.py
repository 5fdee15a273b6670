"""Scores and processors: how a token is chosen, the same way for plain and drafted text.

Coupled choice: the token at index t of the sequence is ``argmax_v score_t(v) + g(seed, t, v)``
with Gumbel noise g from a counter-based generator, so it depends on the text before t and on
nothing else: not on the drafter, the tree, the round or the node. Greedy decoding is g = 0.
(The Gumbel-max trick; sharing its noise between models as in arXiv 2408.07978.)
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .errors import InvalidArgument, StatefulProcessor
from .noise import Noise, Stream, draft_stream
from .types import Context, TokenTree

if TYPE_CHECKING:
    from transformers import LogitsProcessorList


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


# transformers' processors to which a row of a batch is a text like any. Others (one that allows
# tokens by the number of the prompt, say) get one row at a time.
_ROWWISE = frozenset(
    {
        "MinPLogitsWarper",
        "NoBadWordsLogitsProcessor",
        "NoRepeatNGramLogitsProcessor",
        "RepetitionPenaltyLogitsProcessor",
        "TemperatureLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
        "TypicalLogitsWarper",
    }
)
_TEMPERATURE = "TemperatureLogitsWarper"
ROWS_AT_ONCE, NOISE_AT_ONCE = 16, 65_536
"""Rows of noise, and numbers in them, that are made at a time."""
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


def best(scores: Tensor) -> Tensor:
    """Return the first best token of each row of ``[n, V]``, ``[n]`` int64."""
    if scores.device.type != "cpu":
        return torch.argmax(scores, dim=-1)
    if scores.dtype is torch.float32:  # numpy is ten times as fast as torch at this
        return torch.from_numpy(scores.numpy().argmax(-1))
    return torch.max(scores, dim=-1).indices  # torch's argmax is slow in bfloat16


@dataclass(frozen=True, slots=True)
class Pick:
    """How each token of a chain is chosen where that takes no look at the tokens before it.

    Attributes:
        temperature: the scores are divided by it.
        noise: float32 ``[K, V]``, added to the scores of each place; None is greedy.
    """

    temperature: float = 1.0
    noise: Tensor | None = None

    def __call__(self, logits: Tensor, place: int) -> Tensor:
        """Return the token ``[1]`` chosen from ``logits [1, V]`` at a place of the chain."""
        if self.noise is None:
            return best(logits)
        scores = logits.to(torch.float32) / self.temperature
        return best(scores + self.noise[place])


class Sampler:
    """The law of the next token, for one request: processors, noise and the text so far.

    Args:
        context: prompt and output; paths handed to the methods continue it.
        processors: applied to float32 logits with the node's own path as context.
        greedy: take the best score; otherwise add noise (coupled) or sample.
        noise: the generator.

    Attributes:
        temperature: where a choice asks for nothing but logits, this and noise; else None.
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
        self._rowwise = all(type(one).__name__ in _ROWWISE for one in processors)
        self._rows: dict[int, Tensor] = {}
        self.temperature: float | None = None
        names = [type(one).__name__ for one in processors]
        if not greedy and names in ([], [_TEMPERATURE]):
            self.temperature = float(processors[0].temperature) if processors else 1.0

    def pick(self, count: int, size: int, device: torch.device) -> Pick | None:
        """Return the coupled choice of the next ``count`` tokens, greedy or by temperature.

        None where it asks for more than logits of the vocabulary's ``size``.
        """
        if self.is_argmax:
            return Pick()
        if self.temperature is None:
            return None
        return Pick(self.temperature, self._rows_from(len(self.context), count, size, device))

    def over(self, context: Context) -> Sampler:
        """Return the same law over another text that begins with this one."""
        twin = copy(self)
        twin.context = context
        return twin

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
            scores = scores + self.gumbel(t, scores, Stream.COUPLED)
        return torch.argmax(scores)

    def choose_all(self, tree: TokenTree, logits: Tensor) -> Tensor:
        """Return the coupled choice at every node, ``[N]``, without a look from the host.

        Where processors need each node's path, trees other than chains cost a host transfer.
        """
        if self.is_argmax:
            return best(logits)
        if self.temperature is not None:
            deepest = len(tree) if tree.is_chain else tree.deepest() + 1
            noise = self._rows_from(len(self.context), deepest, logits.shape[-1], logits.device)
            noise = noise if tree.is_chain else noise[tree.depths()]
            return best(logits.to(torch.float32) / self.temperature + noise)
        scores = self.scores_of(logits, _paths(tree) if self._processors else ())
        if not self.greedy:
            depths = tree.depths()
            ts = range(len(self.context), len(self.context) + tree.deepest() + 1)
            noise = self.noise.gumbel(ts, scores.shape[-1], scores.device, Stream.COUPLED)
            scores = scores + noise[depths]
        return torch.argmax(scores, dim=-1)

    def scores_of(self, logits: Tensor, paths: Sequence[Sequence[int | Tensor]]) -> Tensor:
        """Return the processed float32 scores ``[n, V]`` of rows, each after its own path.

        Rows whose paths are of one length go through the processors together, if these are known
        to treat each row by itself.
        """
        if not self._processors:
            return logits.to(torch.float32)
        if not self._rowwise:
            pairs = zip(logits, paths, strict=True)
            return torch.stack([self.scores(row, path) for row, path in pairs])
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
        if len(paths) > 1:
            before = ids[:, : len(self.context)].expand(len(paths), -1)
            ids = torch.cat([before, _stacked(paths, ids.device)], dim=1)
        scores = logits.to(torch.float32)
        for processor in self._processors:
            scores = processor(ids, scores)
        return scores

    def gumbel(self, t: int, like: Tensor, stream: int) -> Tensor:
        """Return the noise ``[V]`` of one place in the text."""
        size, device = like.shape[-1], like.device
        if stream != Stream.COUPLED:
            return self.noise.gumbel([t], size, device, stream)[0]
        return self._coupled(t, size, device)

    def _rows_from(self, t: int, count: int, size: int, device: torch.device) -> Tensor:
        """Return the noise ``[count, V]`` of the places from ``t`` on."""
        rows = [self._coupled(place, size, device) for place in range(t, t + count)]
        return rows[0][None] if count == 1 else torch.stack(rows)

    def _coupled(self, t: int, size: int, device: torch.device) -> Tensor:
        # drafter and target share this noise, round after round until the place is decided
        row = self._rows.get(t)
        if row is None or row.shape[-1] != size or row.device != device:
            # rows made together cost little more than one: on small vocabularies calls dominate
            ts = range(t, t + max(1, min(ROWS_AT_ONCE, NOISE_AT_ONCE // size)))
            rows = self.noise.gumbel(ts, size, device, Stream.COUPLED)
            decided = len(self.context)
            self._rows = {place: kept for place, kept in self._rows.items() if place >= decided}
            self._rows.update(zip(ts, rows.unbind(), strict=True))
            row = self._rows[t]
        return row

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


def _stacked(paths: Sequence[Sequence[int | Tensor]], device: torch.device) -> Tensor:
    """Return paths of one length as ``[n, d]``."""
    if any(isinstance(token, Tensor) for path in paths for token in path):
        return torch.stack([torch.stack([torch.as_tensor(t) for t in path]) for path in paths])
    return torch.tensor(paths, dtype=torch.int64).reshape(len(paths), -1).to(device)


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
