"""The baselines: transformers' own generate, and its own assisted generation, set up fairly.

Four traps. ``num_assistant_tokens`` given to ``generate`` is ignored, only the draft model's
generation config counts. Its default confidence threshold cuts drafts short, so that every number
of tokens runs alike. The settings must not stay behind after a call. And before version 5.16 the
draft model keeps what the target rejected in its cache: there the baseline is refused.
"""

import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
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
from ..models.vocabulary import check_vocabularies
from .methods import Method, Models, Sample, Writing
from .workloads import BenchPrompt, spread

ROLLS_BACK = (5, 16)
TUNED_LENGTHS = range(2, 11)
TUNED_THRESHOLDS = (0.0, 0.2, 0.4, 0.6)
TUNING_PROMPTS, TUNED_FINALISTS, TUNED_PROMPTS = 2, 5, 6
"""Prompts all settings are tried on; how many settings come into the second round; on how many."""


class HuggingFace(Method):
    """``generate`` of transformers on the stock model: what every speed-up is measured against."""

    def __init__(self, name: str, models: Models) -> None:
        self.name = name
        self.target = models.target

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Give the models their own attention, and settings without an end of text."""
        with ExitStack() as stack:
            stack.enter_context(quiet())  # its assisted generation warns of its own arguments
            for model in self._models():
                stack.enter_context(_configured(stack.enter_context(model.stock())))
            yield

    def write(self, prompt: BenchPrompt, writing: Writing) -> Sample:
        """Write one text."""
        tokenizer: Any = self.target.tokenizer
        torch.manual_seed(writing.seed_for(prompt))
        first = _First()
        with ExitStack() as stack:
            watched = self._watches(stack)
            began = time.perf_counter()
            ids = self._ids(prompt)
            out = self._generate(ids, self._config(writing), first)
            tokens = out[0, ids.shape[1] :].tolist()
            tokenizer.decode(tokens, skip_special_tokens=True)
            seconds = time.perf_counter() - began
        widths = watched[0].over(ids.shape[1])
        prefills = int(widths[0] == ids.shape[1])  # or it verifies the first draft tokens too
        return Sample(
            tokens[: writing.max_new_tokens],  # some versions accept past the end
            seconds,
            first.at - began,
            first=first.count,
            forwards=len(widths) - prefills,
            emitted=len(tokens) - prefills,
            drafted=sum(widths) - ids.shape[1] - (len(widths) - 1),
            accepted=len(tokens) - len(widths),  # every forward adds one of its own
            kv_bytes=self._kv_bytes(watched),
            drafter_forwards=len(watched[1].widths) if len(watched) > 1 else None,
        )

    def rows(self, prompt: BenchPrompt, writing: Writing) -> tuple[list[int], list[Tensor]]:
        """Write the text again; return its tokens and the logits each was chosen from."""
        torch.manual_seed(writing.seed_for(prompt))
        ids = self._ids(prompt)
        kept = {"output_logits": True, "return_dict_in_generate": True}
        out = self._generate(ids, self._config(writing, kept))
        return out.sequences[0, ids.shape[1] :].tolist(), [row[0] for row in out.logits]

    @property
    def settings(self) -> dict[str, Any]:
        """The attention transformers runs the model with."""
        with self.target.stock() as model:
            return {"attention": model.config._attn_implementation}

    def _ids(self, prompt: BenchPrompt) -> Tensor:
        tokenizer: Any = self.target.tokenizer
        return torch.tensor([tokenizer(prompt.text)["input_ids"]], device=self.target.device)

    def _generate(
        self, ids: Tensor, config: GenerationConfig, streamer: BaseStreamer | None = None
    ) -> Any:
        target: Any = self.target.model
        return target.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=config,
            streamer=streamer,
            **self._partners(),
        )

    def _models(self) -> tuple[LanguageModel, ...]:
        return (self.target,)

    def _watches(self, stack: ExitStack) -> list["Watch"]:
        """Return what counts the forwards of each model, until the stack is closed."""
        return [stack.enter_context(Watch.on(one.model)) for one in self._models()]

    def _kv_bytes(self, watched: list["Watch"]) -> int:
        return sum(kv_bytes(watch.cache) for watch in watched)

    def _config(
        self, writing: Writing, more: Mapping[str, Any] = MappingProxyType({})
    ) -> GenerationConfig:
        return _generation_config(writing, {**self._options(), **more})

    def _options(self) -> dict[str, Any]:
        """Return more of its generation config."""
        return {}

    def _partners(self) -> dict[str, Any]:
        return {}


class PromptLookup(HuggingFace):
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


class Assisted(HuggingFace):
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
        """Try every pair on a few prompts spread over all, in turn; then the best on more."""
        grid = list(itertools.product(TUNED_LENGTHS, TUNED_THRESHOLDS))
        first = dict.fromkeys(grid, 0.0)
        yield from self._time(first, spread(prompts, TUNING_PROMPTS), writing)
        second = dict.fromkeys(sorted(grid, key=first.__getitem__)[:TUNED_FINALISTS], 0.0)
        yield from self._time(second, spread(prompts, TUNED_PROMPTS), writing)
        self._length, self._threshold = min(second, key=second.__getitem__)
        self._tried = len(grid)

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


def _generation_config(writing: Writing, more: dict[str, Any]) -> GenerationConfig:
    law: dict[str, Any] = {"do_sample": False}
    if writing.temperature:
        law = {"do_sample": True, "temperature": writing.temperature, "top_k": 0, "top_p": 1.0}
    return GenerationConfig(max_new_tokens=writing.max_new_tokens, pad_token_id=0, **law, **more)


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
    """Notes when the first new tokens are there, and how many; before them comes the prompt."""

    def __init__(self) -> None:
        self.at = 0.0
        self.count = 0
        self._puts = 0

    def put(self, value: Tensor) -> None:
        self._puts += 1
        if self._puts == 2:
            self.at = time.perf_counter()
            self.count = value.numel()

    def end(self) -> None:
        pass


class Watch:
    """Counts the forwards of a model, their widths, and what their cache holds."""

    def __init__(self) -> None:
        self.widths: list[int] = []
        self.cache: Any = None

    @classmethod
    @contextmanager
    def on(cls, model: nn.Module) -> Iterator["Watch"]:
        """Watch a model as long as the context lasts."""
        watch = cls()
        hook = model.register_forward_hook(watch._note, with_kwargs=True)
        try:
            yield watch
        finally:
            hook.remove()

    def _note(self, _model: nn.Module, _args: Any, kwargs: dict[str, Any], out: Any) -> None:
        self.widths.append(int(kwargs["input_ids"].shape[1]))
        self.cache = out.past_key_values

    def over(self, prompt: int) -> list[int]:
        """Return the widths of all forwards of a text whose prompt has so many tokens."""
        return self.widths


def kv_bytes(cache: Any) -> int:
    """Return the bytes of keys and values a cache of transformers holds; None is no cache."""
    if cache is None:  # a text too short to draft for
        return 0
    tensors = [t for layer in cache.layers for t in (layer.keys, layer.values)]
    return sum(t.untyped_storage().nbytes() for t in tensors)
