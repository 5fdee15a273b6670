"""The baselines: transformers' own generate, and its own assisted generation, set up fairly.

Four traps. ``num_assistant_tokens`` given to ``generate`` is ignored, only the draft model's
generation config counts. Its default confidence threshold cuts drafts short, so that every number
of tokens runs alike. The settings must not stay behind after a call. And before version 5.16 the
draft model keeps what the target rejected in its cache: there the baseline is refused.
"""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from ..errors import InvalidArgument
from ..models import LanguageModel
from ..models.quiet import quiet
from ..models.step import cache_keyword
from ..models.vocabulary import check_vocabularies
from .methods import Method, Models
from .sample import Gaps, Sample, Writing
from .workloads import BenchPrompt, spread

ROLLS_BACK = (5, 16)
TUNED_LENGTHS = range(2, 11)
TUNED_THRESHOLDS = (0.0, 0.2, 0.4, 0.6)
TUNING_TOKENS = 64
"""Of each text it is tuned on, at most: longer ones are measured, but not 36 times over."""
TUNING_PROMPTS, TUNED_FINALISTS, TUNED_PROMPTS = 2, 5, 6
"""Prompts all settings are tried on; how many settings come into the second round; on how many."""


class HuggingFace(Method):
    """``generate`` of transformers on the stock model: what every speed-up is measured against."""

    begins_alike = True

    def __init__(self, name: str, models: Models) -> None:
        self.name = name
        self.target = models.target
        self._ends: frozenset[int] = frozenset()

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Give the models their own attention, and settings without an end of text."""
        self._ends = self.target.eos_ids  # those of the generation config, while it is there
        with ExitStack() as stack:
            stack.enter_context(quiet())  # its assisted generation warns of its own arguments
            for model in self._models():
                stack.enter_context(_configured(stack.enter_context(model.stock())))
            yield

    def write(self, prompt: BenchPrompt, writing: Writing) -> Sample:
        """Write one text, or all answers of a conversation, going on with the target's cache."""
        tokenizer: Any = self.target.tokenizer
        torch.manual_seed(writing.seed_for(prompt))
        sample: Sample | None = None
        history, cache = torch.zeros(1, 0, dtype=torch.int64, device=self.target.device), None
        for text in (prompt.text, *prompt.turns):
            first = _First()
            with ExitStack() as stack:
                watched = self._watches(stack)
                began = time.perf_counter()
                history = torch.cat([history, self._ids(text, first=sample is None)], dim=1)
                config = self._config(writing, prompt)
                held = 0 if cache is None else cache.get_seq_length()
                out = self._generate(history, config, first, **self._held(cache))
                sequence = out.sequences if config.return_dict_in_generate else out
                tokens = sequence[0, history.shape[1] :].tolist()
                tokenizer.decode(tokens, skip_special_tokens=True)
                seconds = time.perf_counter() - began
            answer = self._sample(tokens, seconds, began, first, watched, history.shape[1] - held)
            if len(answer.tokens) > writing.max_new_tokens:  # some versions accept past the end
                answer.tokens = answer.tokens[: writing.max_new_tokens]
                answer.answers = [writing.max_new_tokens]
            history = sequence[:, : history.shape[1] + len(answer.tokens)]
            cache = self._kept(out, prompt)
            sample = answer if sample is None else sample.then(answer)
        assert sample is not None
        return sample

    def _sample(
        self,
        tokens: list[int],
        seconds: float,
        began: float,
        first: "_First",
        watched: list["Watch"],
        fresh: int,
    ) -> Sample:
        """Return what came of one answer, whose prefill had ``fresh`` tokens to read."""
        widths = watched[0].over(fresh)
        prefills = int(widths[0] == fresh)  # or it verifies the first draft tokens too
        kv = [kv_bytes(watch.cache) for watch in watched[1:]]
        return Sample(
            tokens,
            seconds,
            first.times[0] - began if first.times else seconds,
            first=first.count,
            forwards=len(widths) - prefills,
            emitted=len(tokens) - prefills,
            drafted=sum(widths) - fresh - (len(widths) - 1),
            accepted=len(tokens) - len(widths),  # every forward adds one of its own
            kv_bytes=self._kv_bytes(watched),
            drafter_kv_bytes=sum(kv),
            drafter_forwards=len(watched[1].widths) if len(watched) > 1 else None,
            answers=[len(tokens)],
            gaps=Gaps.of(first.times),
        )

    def rows(self, prompt: BenchPrompt, writing: Writing) -> tuple[list[int], list[Tensor]]:
        """Write the text again; return its tokens and the logits each was chosen from."""
        torch.manual_seed(writing.seed_for(prompt))
        kept = {"output_logits": True, "return_dict_in_generate": True}
        tokens: list[int] = []
        logits: list[Tensor] = []
        history, cache = torch.zeros(1, 0, dtype=torch.int64, device=self.target.device), None
        for text in (prompt.text, *prompt.turns):
            history = torch.cat([history, self._ids(text, first=not tokens)], dim=1)
            out = self._generate(history, self._config(writing, prompt, kept), **self._held(cache))
            tokens += out.sequences[0, history.shape[1] :].tolist()
            logits += [row[0] for row in out.logits]
            history, cache = out.sequences, self._kept(out, prompt)
        return tokens, logits

    @property
    def settings(self) -> dict[str, Any]:
        """The attention transformers runs the model with."""
        with self.target.stock() as model:
            return {"attention": model.config._attn_implementation}

    @property
    def models_used(self) -> Sequence[LanguageModel]:
        """The models whose weights it needs."""
        return self._models()

    def _ids(self, text: str, *, first: bool = True) -> Tensor:
        tokenizer: Any = self.target.tokenizer
        ids = tokenizer(text, add_special_tokens=first)["input_ids"]
        return torch.tensor([ids], dtype=torch.int64, device=self.target.device)

    def _generate(
        self,
        ids: Tensor,
        config: GenerationConfig,
        streamer: BaseStreamer | None = None,
        **more: Any,
    ) -> Any:
        target: Any = self.target.model
        return target.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=config,
            streamer=streamer,
            **{**self._partners(), **more},
        )

    def _held(self, cache: Any) -> dict[str, Any]:
        """Return what tells it of the keys and values it holds from the answer before."""
        return {} if cache is None else {cache_keyword(self.target.model): cache}

    def _kept(self, out: Any, prompt: BenchPrompt) -> Any:
        """Return the cache to go on with in a conversation."""
        return out[cache_keyword(self.target.model)] if prompt.turns else None

    def _models(self) -> tuple[LanguageModel, ...]:
        return (self.target,)

    def _watches(self, stack: ExitStack) -> list["Watch"]:
        """Return what counts the forwards of each model, until the stack is closed."""
        return [stack.enter_context(Watch.on(one.model)) for one in self._models()]

    def _kv_bytes(self, watched: list["Watch"]) -> int:
        return sum(kv_bytes(watch.cache) for watch in watched)

    def _config(
        self, writing: Writing, prompt: BenchPrompt, more: Mapping[str, Any] = MappingProxyType({})
    ) -> GenerationConfig:
        asked = {**self._options(), **more}
        if prompt.turns:
            asked["return_dict_in_generate"] = True
        eos = None if writing.ignore_eos else sorted(self._ends) or None
        return _generation_config(writing, eos, asked)

    def _options(self) -> dict[str, Any]:
        """Return more of its generation config."""
        return {}

    def _partners(self) -> dict[str, Any]:
        return {}


class _Drafting(HuggingFace):
    """Its ways of drafting, which read a conversation again for every answer.

    Given a cache, transformers' assisted decoding feeds its first forward the whole text once more
    and writes another text (seen in 5.23): a later answer costs it a whole prefill instead.
    """

    def _kept(self, out: Any, prompt: BenchPrompt) -> Any:
        return None


class PromptLookup(_Drafting):
    """Its prompt lookup."""

    def __init__(self, name: str, models: Models, draft_length: int) -> None:
        super().__init__(name, models)
        self._length = draft_length

    def _options(self) -> dict[str, Any]:
        return {"prompt_lookup_num_tokens": self._length}

    @property
    def settings(self) -> dict[str, Any]:
        """Its draft length."""
        return {**super().settings, "draft_length": self._length}


class Assisted(_Drafting):
    """Its assisted generation, drafting the same number of tokens in every round."""

    def __init__(self, name: str, models: Models, draft_length: int) -> None:
        super().__init__(name, models)
        if models.drafter is None:
            raise InvalidArgument(f"method {name!r} needs a draft model: give --drafter")
        if why := cannot_assist(models):
            raise InvalidArgument(f"method {name!r}: {why}: leave it out of --methods")
        check_vocabularies(models.target, models.drafter)
        self.drafter = models.drafter
        self._length, self._threshold = draft_length, 0.0

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Set the draft length where it counts; all is as before afterwards."""
        with super().ready():
            config: Any = self.drafter.model.generation_config  # of this call alone
            config.num_assistant_tokens = self._length
            config.num_assistant_tokens_schedule = "constant"
            config.assistant_confidence_threshold = self._threshold
            yield

    def _models(self) -> tuple[LanguageModel, ...]:
        return (self.target, self.drafter)

    def _partners(self) -> dict[str, Any]:
        return {"assistant_model": self.drafter.model}

    @property
    def settings(self) -> dict[str, Any]:
        """Its draft length and confidence threshold."""
        settings = super().settings
        return {**settings, "draft_length": self._length, "confidence_threshold": self._threshold}


class TunedAssisted(Assisted):
    """Its assisted generation at the best of all draft lengths and thresholds.

    All are tried on prompts of the benchmark itself, and the best few again on more of them: what
    is then measured has seen the questions.
    """

    def __init__(self, name: str, models: Models) -> None:
        super().__init__(name, models, TUNED_LENGTHS[0])
        self._tried = 0

    def tune(self, prompts: list[BenchPrompt], writing: Writing) -> Iterator[str]:
        """Try every pair on a few prompts spread over all, in turn; then the best on more.

        Settings it was told to :meth:`use` are kept.
        """
        if self.is_tuned:
            return
        writing = replace(writing, max_new_tokens=min(writing.max_new_tokens, TUNING_TOKENS))
        grid = list(itertools.product(TUNED_LENGTHS, TUNED_THRESHOLDS))
        first = dict.fromkeys(grid, 0.0)
        yield from self._time(first, spread(prompts, TUNING_PROMPTS), writing)
        second = dict.fromkeys(sorted(grid, key=first.__getitem__)[:TUNED_FINALISTS], 0.0)
        yield from self._time(second, spread(prompts, TUNED_PROMPTS), writing)
        self._length, self._threshold = min(second, key=second.__getitem__)
        self._tried = len(grid)

    @property
    def is_tuned(self) -> bool:
        """Whether there is nothing left to search for."""
        return bool(self._tried)

    def use(self, settings: dict[str, Any]) -> None:
        """Take the settings that were found before."""
        self._length, self._threshold = settings["draft_length"], settings["confidence_threshold"]
        self._tried = settings["settings_tried"]

    def _time(
        self,
        seconds: dict[tuple[int, float], float],
        prompts: list[BenchPrompt],
        writing: Writing,
    ) -> Iterator[str]:
        """Add the time each pair of settings takes; yield a word for every text."""
        for prompt, pair in itertools.product(prompts, seconds):
            self._length, self._threshold = pair
            with self.ready():
                seconds[pair] += self.write(prompt, writing).seconds
            yield f"{self._length} tokens, threshold {self._threshold}"

    @property
    def settings(self) -> dict[str, Any]:
        """What was found to be best."""
        return {**super().settings, "settings_tried": self._tried}


def tuning_steps(prompts: int) -> int:
    """Return how many texts the search of :class:`TunedAssisted` writes."""
    pairs = len(TUNED_LENGTHS) * len(TUNED_THRESHOLDS)
    return pairs * min(prompts, TUNING_PROMPTS) + TUNED_FINALISTS * min(prompts, TUNED_PROMPTS)


def cannot_assist(models: Models) -> str | None:
    """Return why transformers' assisted generation cannot run a pair (rightly), or None."""
    assert models.drafter is not None
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    if version < ROLLS_BACK:
        return (
            f"transformers {transformers.__version__} does not roll back its draft model's cache "
            "after a rejection, so that it drafts nonsense; 5.16 does"
        )
    ours, theirs = (m.config.vocab_size for m in (models.target, models.drafter))
    if ours == theirs:
        return None
    return f"transformers' assisted generation refuses output layers of {ours} and {theirs} rows"


def _generation_config(
    writing: Writing, eos: list[int] | None, more: dict[str, Any]
) -> GenerationConfig:
    law: dict[str, Any] = {"do_sample": False}
    if writing.temperature:
        law = {
            "do_sample": True,
            "temperature": writing.temperature,
            "top_k": writing.top_k or 0,
            "top_p": 1.0 if writing.top_p is None else writing.top_p,
        }
    if writing.repetition_penalty != 1.0:
        law["repetition_penalty"] = writing.repetition_penalty
    settings = {"pad_token_id": 0, "eos_token_id": eos, **law, **more}
    return GenerationConfig(max_new_tokens=writing.max_new_tokens, **settings)


@contextmanager
def _configured(model: PreTrainedModel) -> Iterator[None]:
    """Give a model a generation config of its own, without EOS, and take it away again."""
    before = model.generation_config
    model.generation_config = GenerationConfig(pad_token_id=0)
    try:
        yield
    finally:
        model.generation_config = before


class _First(BaseStreamer):
    """Notes when new tokens come, and how many came first; before them comes the prompt."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.count = 0
        self._puts = 0

    def put(self, value: Tensor) -> None:
        self._puts += 1
        if self._puts > 1:
            self.times.append(time.perf_counter())
        if self._puts == 2:
            self.count = value.numel()

    def end(self) -> None:
        pass


class Watch:
    """Counts the forwards of a model, their widths, and what their cache holds."""

    def __init__(self, cache_name: str = "") -> None:
        self.widths: list[int] = []
        self.cache: Any = None
        self._cache_name = cache_name

    @classmethod
    @contextmanager
    def on(cls, model: nn.Module) -> Iterator["Watch"]:
        """Watch a model as long as the context lasts."""
        watch = cls(cache_keyword(model))
        hook = model.register_forward_hook(watch._note, with_kwargs=True)
        try:
            yield watch
        finally:
            hook.remove()

    def _note(self, _model: nn.Module, _args: Any, kwargs: dict[str, Any], out: Any) -> None:
        self.widths.append(int(kwargs["input_ids"].shape[1]))
        self.cache = out.get(self._cache_name)

    def over(self, prompt: int) -> list[int]:
        """Return the widths of all forwards of a text whose prompt has so many tokens."""
        return self.widths


def kv_bytes(cache: Any) -> int:
    """Return the bytes of keys and values a cache of transformers holds; None is no cache."""
    if cache is None:  # a text too short to draft for
        return 0
    tensors = [t for layer in cache.layers for t in (layer.keys, layer.values)]
    return sum(t.untyped_storage().nbytes() for t in tensors)
