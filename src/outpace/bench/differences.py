"""Why two texts differ: a near tie that fell the other way in this precision, or a bug.

A forward over several tokens and one over a single token differ in the last bits, and in bfloat16
the two best scores of a position are often equal. On the common beginning of both texts a forward
without a cache, in a wider type, tells the true scores of the two tokens. The difference is
*numerical* if the distance between them is at most twice the deviation of the worse path there, as
that of the path that is wrong always is, and this path deviates no more than twice as much as its
counterpart is seen to: one with a bug deviates far more. (Transformers' bfloat16 rounds its scores;
a path that sums in float32 is nearer to the truth, and may well be the one that is right.) Where
the target forgets, the true scores are those of the wider type forgetting the same.

Scores are those that are compared: after penalties and temperature, with their noise. Where a
filter (top-k, top-p) may have taken the better of the two tokens away in one path, the distance is
how narrowly it passes or misses the filter, if that is less.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..cache import Session
from ..cache.policies import CachePolicy
from ..models import LanguageModel, wrap
from ..noise import Noise, Stream
from ..sampling import Sampling
from .margins import filter_margin
from .sample import Writing

Kind = Literal["numerical", "bug", "approximate", "unclear"]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first difference of a text from the text it is compared with.

    Attributes:
        prompt: its number.
        index: of the first new token that differs.
        expected: the token of the other text; None where that one has ended.
        got: the token of this text; None where this one has ended.
        kind: ``numerical``; ``bug``; ``approximate``, of a method that promises no more; or
            ``unclear``, where the text did not come out the same again or nobody has looked.
        distance: between the true scores of both tokens, or of the better one to the filters.
        deviation: of the paths from the true scores, see :func:`deviation_of`.
    """

    prompt: int
    index: int
    expected: int | None
    got: int | None
    kind: Kind = "unclear"
    distance: float | None = None
    deviation: float | None = None


def first_difference(prompt: int, expected: Sequence[int], got: Sequence[int]) -> Difference | None:
    """Return where two texts part, or None where they are equal."""
    for index, (want, have) in enumerate(zip(expected, got, strict=False)):
        if want != have:
            return Difference(prompt, index, want, have)
    if len(expected) == len(got):
        return None
    end = min(len(expected), len(got))
    last = [text[end] if end < len(text) else None for text in (expected, got)]
    return Difference(prompt, end, last[0], last[1])


def deviation_of(paths: Sequence[float]) -> float:
    """Return how far two paths may be said to deviate: as the worse, or twice as the better does.

    The worse path alone would excuse itself, however wrong it is.
    """
    return min(max(paths), 2 * min(paths))


class Judge:
    """Classifies differences; its wider copy of the target is made when it is first needed.

    Args:
        target: the model of all methods.
        writing: how they write.
        policy: what the target forgets as it writes; None is nothing.
    """

    def __init__(
        self, target: LanguageModel, writing: Writing, policy: CachePolicy | None = None
    ) -> None:
        self._target, self._writing, self._policy = target, writing, policy
        self._wide: Any = None
        self._wrapped: LanguageModel | None = None

    def judge(
        self,
        difference: Difference,
        prefix: Sequence[int],
        seed: int,
        rows: Sequence[Tensor | None],
    ) -> Difference:
        """Return the difference with its kind.

        Args:
            difference: as found.
            prefix: prompt and common new tokens.
            seed: of the noise.
            rows: the logits ``[V]`` of both paths at the position, in the order expected, got;
                None for a path that could not be followed.
        """
        if difference.expected is None or difference.got is None:
            return replace(difference, kind="bug")  # one text ended early: no tie explains that
        if rows[0] is None or rows[1] is None:
            return difference
        true = self._scores(self._true_logits(prefix), prefix)
        paths = [self._scores(row, prefix) for row in rows if row is not None]
        distance = self._distance(true, difference.expected, difference.got, len(prefix), seed)
        deviation = deviation_of([float((path - true).abs().max()) for path in paths])
        kind: Kind = "numerical" if distance <= 2 * deviation else "bug"
        return replace(difference, kind=kind, distance=distance, deviation=deviation)

    def _scores(self, logits: Tensor, prefix: Sequence[int]) -> Tensor:
        """Return the scores after penalties and temperature, before filters and noise."""
        law = Sampling(
            temperature=self._writing.temperature,
            repetition_penalty=self._writing.repetition_penalty,
        )
        ids: Any = torch.tensor([list(prefix)])
        scores: Any = logits.to("cpu", torch.float64)[None]
        return law.processors()(ids, scores)[0]

    def _distance(self, true: Tensor, one: int, other: int, t: int, seed: int) -> float:
        """Return how far two tokens are from changing places at index ``t``."""
        if not self._writing.temperature:
            return float((true[one] - true[other]).abs())
        noise = Noise(seed).gumbel([t], len(true), torch.device("cpu"), Stream.COUPLED)[0]
        noisy = true + noise
        better = max(one, other, key=lambda token: float(noisy[token]))
        margin = filter_margin(true, better, self._writing.top_k, self._writing.top_p)
        return min(float((noisy[one] - noisy[other]).abs()), margin)

    def true_totals(self, prompt: Sequence[int], path: Sequence[int]) -> Tensor:
        """Return ``[V]``, the log-probabilities of a path of new tokens and each next one."""
        rows = self._true_rows([*prompt, *path], len(path) + 1).to("cpu", torch.float64)
        law = torch.log_softmax(rows, dim=-1)
        chosen = torch.tensor(path, dtype=torch.int64)
        return law[-1] + law[:-1].gather(1, chosen[:, None]).sum()

    def _true_logits(self, prefix: Sequence[int]) -> Tensor:
        if self._policy is None:
            return self._true_rows(prefix, 1)[0]
        if self._wrapped is None:
            self._wrapped = wrap(self._widened())
        # forgotten at the same lengths, by a session that has never seen a draft
        return Session(self._wrapped, self._policy).extend(list(prefix))

    @torch.no_grad()
    def _true_rows(self, prefix: Sequence[int], count: int) -> Tensor:
        """Return the last ``count`` rows of logits, ``[count, V]``."""
        ids = torch.tensor([list(prefix)], device=self._target.device)
        wide = self._widened()
        logits: Tensor = wide(input_ids=ids, use_cache=False, logits_to_keep=count).logits
        return logits[0]

    def _widened(self) -> Any:
        if self._wide is None:
            with self._target.stock() as model:
                wide: Any = copy.deepcopy(model)
            dtype = torch.float64 if self._target.dtype == torch.float32 else torch.float32
            self._wide = wide.to(dtype)
        return self._wide
