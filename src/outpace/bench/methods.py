"""Methods of the benchmark: whoever can continue a text, timed in the same way."""

import hashlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from .. import zoo
from ..calls import is_call, split
from ..compose import (
    lacks_model,
    make_drafter,
    make_lengths,
    model_drafter,
    with_its_model,
    with_model,
)
from ..decoder import Decoder
from ..drafters import Drafter
from ..drafters.model import ModelDrafter
from ..drafters.none import NoDrafter
from ..drafters.shape import Shape
from ..drafters.shape_names import parse_shape
from ..drafters.sources import Combined
from ..drafters.tree import DEFAULT_SHAPE, TreeDrafter
from ..drawing import Drawing
from ..errors import InvalidArgument
from ..lengths.fixed import MAX_LENGTH, FixedLength
from ..models import LanguageModel, load
from ..recipe import Recipe
from ..sampling import Sampler
from ..types import Budget, Context, TokenTree, Verdict
from ..verifiers import Verifier
from ..verifiers.coupled import CoupledVerifier
from .differences import Difference, Judge
from .workloads import BenchPrompt


@dataclass(frozen=True, slots=True)
class Models:
    """What is measured: loaded once, shared by all methods."""

    target: LanguageModel
    drafter: LanguageModel | None
    others: dict[str, LanguageModel] = field(default_factory=dict)
    """Draft models that methods name themselves, each loaded once."""
    recipe: Recipe | None = None
    """What the method ``recipe`` is."""


@dataclass(frozen=True, slots=True)
class Writing:
    """How every method writes: EOS is ignored, so that all texts have the same length."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0

    def seed_for(self, prompt: BenchPrompt) -> int:
        """Return the seed of a prompt: another one for every text."""
        digest = hashlib.sha256(prompt.text.encode()).digest()
        return (self.seed + int.from_bytes(digest[:4], "little")) % 2**31


@dataclass(slots=True)
class Sample:
    """One text by one method. Times in seconds, from the text of the prompt to the new text.

    Attributes:
        tokens: the new ones.
        seconds: all of it, tokenising in and out.
        ttft: until the first token.
        first: how many tokens came with the first one.
        forwards: of the target, those that only prefill apart.
        emitted: tokens those forwards wrote.
        drafted: draft tokens they verified.
        accepted: of those.
        kv_bytes: keys and values at the end, of target and drafter.
        store_bytes: what the drafter has learnt, or reads to draft, at the end.
        drafter_forwards: of the draft model, where there is one.
        drafting: seconds spent drafting, where it is known.
        verifying: seconds of the target's forwards and the verification, likewise.
    """

    tokens: list[int]
    seconds: float
    ttft: float
    first: int
    forwards: int
    emitted: int
    drafted: int
    accepted: int
    kv_bytes: int
    store_bytes: int = 0
    drafter_forwards: int | None = None
    drafting: float | None = None
    verifying: float | None = None

    @property
    def tpot(self) -> float | None:
        """Time per output token after those that came first; None where there are none."""
        later = len(self.tokens) - self.first
        return (self.seconds - self.ttft) / later if later > 0 else None

    @property
    def tokens_per_second(self) -> float:
        """New tokens over the whole time."""
        return len(self.tokens) / self.seconds


class Method(ABC):
    """One way to continue a text.

    Attributes:
        name: as it was asked for.
        exact: whether its text has the target's own law.
        same_text: whether our own plain decoding writes the same text, also when sampling.
        compared_with: the method whose text it should write, if its aim is another one than that
            of the reference.
    """

    name: str
    exact: bool = True
    same_text: bool = False
    compared_with: str | None = None

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Get ready to write one text, outside of what is timed."""
        yield

    @abstractmethod
    def write(self, prompt: BenchPrompt, writing: Writing) -> Sample:
        """Write one text."""

    @abstractmethod
    def rows(self, prompt: BenchPrompt, writing: Writing) -> tuple[list[int], list[Tensor]]:
        """Write the text again; return its tokens and the logits ``[V]`` each was chosen from."""

    def explain(
        self,
        difference: Difference,
        reference: "Method",
        prompt: BenchPrompt,
        writing: Writing,
        judge: Judge,
    ) -> Difference | None:
        """Say why its text differs, where the scores at one position do not tell; else None."""
        return None

    def prepare(self, prompts: list[BenchPrompt], writing: Writing) -> Iterator[str]:
        """Build what must be there before the first text; yield a word for every step done."""
        return iter(())

    def tune(self, prompts: list[BenchPrompt], writing: Writing) -> Iterator[str]:
        """Search for the best settings; yield a word for every step done."""
        return iter(())

    @property
    def settings(self) -> dict[str, Any]:
        """What was set or found, for the record."""
        return {}


class _Recorder(CoupledVerifier):
    """Keeps the logits of the nodes on the way."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self.rows: list[Tensor] = []

    def verify(self, tree: TokenTree, logits: Tensor, sampler: Sampler) -> Verdict:
        verdict = self._verifier.verify(tree, logits, sampler)
        self.rows += logits[[0, *verdict.path]].clone().unbind()
        return verdict


class _Again(Drafter):
    """Drafts what was drafted before at the same place of the text."""

    branches = True

    def __init__(self, trees: Mapping[int, TokenTree]) -> None:
        self._trees = trees

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        return self._trees[len(context.output)]


class Loop(Method):
    """A drafter of ours, through the one loop.

    Args:
        name: of the method; a drafter's, where no decoder is given.
        models: what it runs on.
        draft_length: of every round, or a length controller by name.
        decoder: one that is put together already, on these models.
    """

    def __init__(
        self, name: str, models: Models, draft_length: int | str, decoder: Decoder | None = None
    ) -> None:
        self.name = name
        self.models = models
        self._length = draft_length
        self._own_budget: Budget | None = None
        if decoder is None:
            method, own = with_length(name)
            drafter = _drafter(method, models)
            self._own_budget = drafter.budget if own is None else None
            own_budget = self._own_budget is not None and isinstance(draft_length, int)
            # nothing to decide, or decided elsewhere
            decided = isinstance(drafter, NoDrafter) or (drafter.gated and draft_length == "gate")
            lengths = FixedLength() if own_budget or decided else make_lengths(draft_length)
            decoder = Decoder(models.target, drafter, lengths=lengths)
        self.decoder = decoder
        # of each prompt, if time decided on it: what was drafted after so many tokens
        self._drafted: dict[str, dict[int, TokenTree]] = {}
        self.exact = self.decoder.exact
        self.same_text = self.exact and self.decoder.verifier.same_text

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Hand the models to the loop, and forget what earlier texts taught the drafter."""
        self.decoder.drafter.reset()
        with ExitStack() as handed:
            for model in (self.models.target, *self.decoder.drafter.models):
                handed.enter_context(model.attached())
            yield

    def write(self, prompt: BenchPrompt, writing: Writing) -> Sample:
        """Write one text."""
        drafter = self.decoder.drafter
        before = drafter.forwards
        began = time.perf_counter()
        stream = self.decoder.stream(
            prompt.text,
            max_new_tokens=writing.max_new_tokens,
            temperature=writing.temperature,
            seed=writing.seed_for(prompt),
            ignore_eos=True,
        )
        trees, written = {}, 0
        for turn in stream:
            trees[written] = turn.tree
            written += len(turn.tokens)
        output = stream.output
        seconds = time.perf_counter() - began
        if not (drafter.repeats and self.decoder.lengths.repeats):
            self._drafted[prompt.text] = trees
        stats = output.stats
        return Sample(
            output.tokens,
            seconds,
            stats.ttft,
            first=1,
            forwards=stats.rounds,
            emitted=stats.emitted,
            drafted=stats.drafted,
            accepted=stats.accepted,
            kv_bytes=stats.kv_bytes,
            store_bytes=stats.store_bytes,
            drafter_forwards=drafter.forwards - before if drafter.models else None,
            drafting=stats.drafting,
            verifying=stats.verifying,
        )

    def rows(self, prompt: BenchPrompt, writing: Writing) -> tuple[list[int], list[Tensor]]:
        """Write the text again, as last time; return its tokens and the logits of each."""
        verifier, drafter = self.decoder.verifier, self.decoder.drafter
        self.decoder.verifier = recorder = _Recorder(verifier)
        lengths = self.decoder.lengths
        if prompt.text in self._drafted:
            self.decoder.drafter = _Again(self._drafted[prompt.text])
            self.decoder.lengths = FixedLength(MAX_LENGTH)
        try:
            return self.write(prompt, writing).tokens, recorder.rows
        finally:
            self.decoder.verifier, self.decoder.drafter = verifier, drafter
            self.decoder.lengths = lengths

    @property
    def settings(self) -> dict[str, Any]:
        """Its draft length, the shape of its trees, or the budget the drafter has of its own."""
        drafter = self.decoder.drafter
        if isinstance(drafter, NoDrafter):
            return {}
        if isinstance(drafter, TreeDrafter):
            return {"tree": asdict(drafter.shape), "plans": drafter.plans}
        if isinstance(drafter, Combined):
            return {
                "sources": [source.name for source in drafter.sources],
                "models": [model.name for model in drafter.models],
            }
        budget = self._own_budget
        if budget is not None and isinstance(self._length, int):
            return {"budget": {"nodes": budget.nodes, "depth": budget.depth}}
        return {"draft_length": self._length}


def _drafter(method: str, models: Models) -> Drafter:
    if method == "plain":
        return NoDrafter()
    if needs_drafter(method):
        if models.drafter is None:
            raise InvalidArgument(f"method {method!r} needs a draft model: give --drafter")
        return model_drafter(models.drafter, tree_of(method))
    settings: dict[str, Any] = {"dtype": models.target.dtype, "device": models.target.device}
    if lacks_model(method) and models.drafter is not None:
        return with_model(method, models.drafter)
    kind, model = with_its_model(method) or ("", method)
    if not kind and not names_a_model(method):
        return make_drafter(method, **settings)
    if model not in models.others:
        models.others[model] = load(model, **settings)
    return with_model(kind, models.others[model]) if kind else ModelDrafter(models.others[model])


def tree_of(method: str) -> Shape | None:
    """Return the shape of ``tree`` or ``tree:SHAPE``; None for a method without trees.

    Raises:
        InvalidArgument: no such shape.
    """
    name, colon, shape = method.partition(":")
    if name != "tree":
        return None
    return parse_shape(shape if colon else DEFAULT_SHAPE)


def needs_drafter(method: str) -> bool:
    """Return whether a method drafts with the model that ``--drafter`` names."""
    return with_length(method)[0].partition(":")[0] in {
        "draft",
        "tree",
        "hf-assisted",
        "hf-assisted-tuned",
    }


def names_a_model(method: str) -> bool:
    """Return whether a method is a draft model's folder or an embedded one."""
    if is_call(method) or with_its_model(method):
        return False
    return method.startswith(zoo.PREFIX) or os.sep in method


def with_length(name: str) -> tuple[str, str | None]:
    """Return the method of ``NAME`` or ``NAME@LENGTH``, and the length or None."""
    method, *own = split(name, "@")
    return method, "@".join(own) if own else None
