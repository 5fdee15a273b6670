"""The one loop as a method of the benchmark."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

from torch import Tensor

from ..cache.policies import make_policy
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
from ..drafters.sources import Combined
from ..drafters.tree import TreeDrafter
from ..drawing import Drawing
from ..errors import InvalidArgument
from ..lengths.fixed import MAX_LENGTH, FixedLength
from ..models import LanguageModel, load
from ..output import Output
from ..sampling import Sampler
from ..types import Budget, Context, Round, TokenTree, Verdict
from ..verifiers import Verifier
from ..verifiers.coupled import CoupledVerifier
from .methods import Method, Models
from .names import in_precision, model_of, needs_drafter, policies_of, tree_of, with_length
from .precisions import canonical, models_of
from .sample import Gaps, Sample, Writing, depths
from .workloads import BenchPrompt


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
        return self._trees[len(context)]


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
            drafter, own = _drafter(name, models), with_length(name)[1]
            self._own_budget = drafter.budget if own is None else None
            own_budget = self._own_budget is not None and isinstance(draft_length, int)
            # nothing to decide, or decided elsewhere
            decided = isinstance(drafter, NoDrafter) or (drafter.gated and draft_length == "gate")
            lengths = FixedLength() if own_budget or decided else make_lengths(draft_length)
            policy, own_policy = (make_policy(one) for one in policies_of(name))
            if own_policy is not None:
                drafter.hold_by(own_policy)
            decoder = Decoder(models.target, drafter, lengths=lengths, cache_policy=policy)
        self.decoder = decoder
        # of each prompt, if time decided on it: what was drafted after so many tokens
        self._drafted: dict[BenchPrompt, dict[int, TokenTree]] = {}
        self._drafted_now: dict[int, TokenTree] = {}
        self.exact = self.decoder.exact
        same = self.decoder.drafts_exactly and self.decoder.verifier.same_text
        self.same_text = self.exact and same
        policy = self.decoder.cache_policy
        # what goes by keys or attention can go otherwise where these differ in their last bits
        if policy is not None and same and policy.uniform and policy.packing is None:
            self.forgets = policy

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Hand the models to the loop, and forget what earlier texts taught the drafter."""
        self.decoder.drafter.reset()
        with ExitStack() as handed:
            for model in (self.models.target, *self.decoder.drafter.models):
                handed.enter_context(model.attached())
            yield

    def write(self, prompt: BenchPrompt, writing: Writing) -> Sample:
        """Write one text, or all answers of a conversation, in one session."""
        drafter = self.decoder.drafter
        session = self.decoder.session() if prompt.turns else None
        self.rounds, self._drafted_now = [], {}
        sample: Sample | None = None
        history: list[int] = []
        for text in (prompt.text, *prompt.turns):
            before = drafter.forwards
            began = time.perf_counter()
            history += self._ids(text, first=not history)
            stream = self.decoder.stream(
                history,
                max_new_tokens=writing.max_new_tokens,
                temperature=writing.temperature,
                top_k=writing.top_k,
                top_p=writing.top_p,
                repetition_penalty=writing.repetition_penalty,
                seed=writing.seed_for(prompt),
                ignore_eos=writing.ignore_eos,
                session=session,
            )
            rounds = list(stream)
            output = stream.output
            seconds = time.perf_counter() - began
            answer = self._sample(output, rounds, seconds, began, drafter.forwards - before)
            self._keep(rounds, len(history))
            history += output.tokens
            sample = answer if sample is None else sample.then(answer)
            if not self.rounds:
                self.rounds, self.began = rounds, began
        assert sample is not None
        if not (drafter.repeats and self.decoder.lengths.repeats):
            self._drafted[prompt] = self._drafted_now
        return sample

    def _ids(self, text: str, *, first: bool) -> list[int]:
        tokenizer: Any = self.models.target.tokenizer
        return list(tokenizer(text, add_special_tokens=first)["input_ids"])

    def _keep(self, rounds: Sequence[Round], tokens: int) -> None:
        """Note what was drafted after so many tokens."""
        for turn in rounds:
            self._drafted_now[tokens] = turn.tree
            tokens += len(turn.tokens)

    def _sample(
        self, output: Output, rounds: Sequence[Round], seconds: float, began: float, forwards: int
    ) -> Sample:
        """Return what came of one answer, looked into once the clock has stopped."""
        drafter, stats = self.decoder.drafter, output.stats
        offered, kept = depths(rounds)
        return Sample(
            output.tokens,
            seconds,
            rounds[0].times.committed - began,
            first=1,
            forwards=stats.rounds,
            emitted=stats.emitted,
            drafted=stats.drafted,
            accepted=stats.accepted,
            kv_bytes=stats.kv_bytes,
            store_bytes=stats.store_bytes,
            drafter_kv_bytes=drafter.kv_bytes,
            compressions=stats.compressions,
            evicted=stats.evicted_tokens,
            drafter_forwards=forwards if drafter.models else None,
            drafting=stats.drafting,
            verifying=stats.verifying,
            answers=[len(output.tokens)],
            gaps=Gaps.of([turn.times.committed for turn in rounds]),
            offered=offered,
            kept=kept,
        )

    def rows(self, prompt: BenchPrompt, writing: Writing) -> tuple[list[int], list[Tensor]]:
        """Write the text again, as last time; return its tokens and the logits of each."""
        verifier, drafter = self.decoder.verifier, self.decoder.drafter
        self.decoder.verifier = recorder = _Recorder(verifier)
        lengths = self.decoder.lengths
        if prompt in self._drafted:
            self.decoder.drafter = _Again(self._drafted[prompt])
            self.decoder.lengths = FixedLength(MAX_LENGTH)
        try:
            return self.write(prompt, writing).tokens, recorder.rows
        finally:
            self.decoder.verifier, self.decoder.drafter = verifier, drafter
            self.decoder.lengths = lengths

    def drafts(self, prompt: BenchPrompt) -> list[Any] | None:
        """Return what was drafted after how many tokens, where time decided on it."""
        if prompt not in self._drafted:
            return None
        return [[place, *tree.lists()] for place, tree in self._drafted[prompt].items()]

    def recall(self, prompt: BenchPrompt, drafts: list[Any]) -> None:
        """Draft as another process did, when the text is written again."""
        self._drafted[prompt] = {
            place: TokenTree.of(tokens, parents) for place, tokens, parents in drafts
        }

    @property
    def models_used(self) -> Sequence[LanguageModel]:
        """The target and the models the drafter drafts with."""
        return (self.models.target, *self.decoder.drafter.models)

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


def _drafter(name: str, models: Models) -> Drafter:
    method = with_length(name)[0]
    if method == "plain":
        return NoDrafter()
    if needs_drafter(name):
        if models.drafter is None:
            raise InvalidArgument(f"method {name!r} needs a draft model: give --drafter")
        return model_drafter(models.drafter, tree_of(method))
    if lacks_model(method) and models.drafter is not None:
        return with_model(method, models.drafter)
    own = _named(name, models)
    if own is None:
        return make_drafter(method, dtype=models.target.dtype, device=models.target.device)
    kind, _ = with_its_model(method) or ("", method)
    return with_model(kind, own) if kind else ModelDrafter(own)


def load_own(name: str, models: Models) -> list[LanguageModel]:
    """Load what a method runs besides the models of all, each once.

    That is a draft model it names itself, and copies in the precisions its name says. Do so, and
    have them run as they will, before the method is made: a gate measures what drafts cost.

    Raises:
        OutpaceError: one cannot be had.
    """
    of_all = {id(models.target), id(models.drafter)}
    mine = models_of(name, models)
    needed = needs_drafter(name) or (lacks_model(with_length(name)[0]) and mine.drafter is not None)
    found = [mine.target, mine.drafter if needed else None, _named(name, models)]
    return [model for model in found if model is not None and id(model) not in of_all]


def _named(name: str, models: Models) -> LanguageModel | None:
    """Load the draft model that a method names itself, once; None is a method without."""
    model = model_of(with_length(name)[0])
    if model is None:
        return None
    usual = models.drafter_dtype or str(models.target.dtype).removeprefix("torch.")
    dtype = canonical(in_precision(name)[2] or usual)
    key = f"{model} in {dtype}"
    if key not in models.others:
        models.others[key] = load(model, dtype=dtype, device=models.target.device)
    return models.others[key]
