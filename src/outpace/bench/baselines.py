"""The baselines: transformers' own generate, and its own assisted generation, set up fairly.

Three traps. ``num_assistant_tokens`` given to ``generate`` is ignored, only the draft model's
generation config counts. Its default confidence threshold cuts drafts short, so that every number
of tokens runs alike. And the settings must not stay behind after a call.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from ..errors import InvalidArgument
from ..models import LanguageModel
from .methods import Method, Models, Sample, Writing
from .workloads import BenchPrompt

TUNED_LENGTHS = range(2, 11)
TUNED_THRESHOLDS = (0.0, 0.2, 0.4, 0.6)
TUNING_PROMPTS = 2


class HuggingFace(Method):
    """``generate`` of transformers on the stock model: what every speed-up is measured against."""

    def __init__(self, name: str, models: Models) -> None:
        self.name = name
        self.target = models.target

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Give the models their own attention, and settings without an end of text."""
        with ExitStack() as stack:
            for model in self._models():
                stack.enter_context(_configured(stack.enter_context(model.stock())))
            yield

    def write(self, prompt: BenchPrompt, writing: Writing) -> Sample:
        """Write one text."""
        tokenizer: Any = self.target.tokenizer
        torch.manual_seed(writing.seed_for(prompt))
        first = _First()
        with ExitStack() as stack:
            watched = [stack.enter_context(_Watch.on(m.model)) for m in self._models()]
            began = time.perf_counter()
            ids = torch.tensor([tokenizer(prompt.text)["input_ids"]], device=self.target.device)
            out = self._generate(ids, writing, streamer=first)
            tokens = out[0, ids.shape[1] :].tolist()
            tokenizer.decode(tokens, skip_special_tokens=True)
            seconds = time.perf_counter() - began
        widths = watched[0].widths
        prefills = int(widths[0] == ids.shape[1])  # or it verifies the first draft tokens too
        return Sample(
            tokens,
            seconds,
            first.at - began,
            forwards=len(widths) - prefills,
            emitted=len(tokens) - prefills,
            drafted=sum(widths) - ids.shape[1] - (len(widths) - 1),
            accepted=len(tokens) - len(widths),  # every forward adds one of its own
            kv_bytes=sum(watch.kv_bytes for watch in watched),
            drafter_forwards=len(watched[1].widths) if len(watched) > 1 else None,
        )

    def rows(self, prompt: BenchPrompt, writing: Writing) -> tuple[list[int], list[Tensor]]:
        """Write the text again; return its tokens and the logits each was chosen from."""
        tokenizer: Any = self.target.tokenizer
        torch.manual_seed(writing.seed_for(prompt))
        ids = torch.tensor([tokenizer(prompt.text)["input_ids"]], device=self.target.device)
        out = self._generate(ids, writing, output_logits=True, return_dict_in_generate=True)
        return out.sequences[0, ids.shape[1] :].tolist(), [row[0] for row in out.logits]

    def _generate(self, ids: Tensor, writing: Writing, **wanted: Any) -> Any:
        target: Any = self.target.model
        return target.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=_generation_config(writing),
            **wanted,
            **self._options(),
        )

    def _models(self) -> tuple[LanguageModel, ...]:
        return (self.target,)

    def _options(self) -> dict[str, Any]:
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
        return {"draft_length": self._length}


class Assisted(HuggingFace):
    """Its assisted generation, drafting the same number of tokens in every round."""

    def __init__(self, name: str, models: Models, draft_length: int) -> None:
        super().__init__(name, models)
        if models.drafter is None:
            raise InvalidArgument(f"method {name!r} needs a draft model: give --drafter")
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

    def _options(self) -> dict[str, Any]:
        return {"assistant_model": self.drafter.model}

    @property
    def settings(self) -> dict[str, Any]:
        """Its draft length and confidence threshold."""
        return {"draft_length": self._length, "confidence_threshold": self._threshold}


class TunedAssisted(Assisted):
    """Its assisted generation at the best of all draft lengths and thresholds.

    They are tried on prompts of the benchmark itself: the baseline has every advantage.
    """

    def __init__(self, name: str, models: Models) -> None:
        super().__init__(name, models, TUNED_LENGTHS[0])
        self._tried = 0

    def tune(self, prompts: list[BenchPrompt], writing: Writing) -> Iterator[str]:
        """Try every pair on a few prompts spread over all, in turn."""
        step = max(1, len(prompts) // TUNING_PROMPTS)
        chosen = prompts[step // 2 :: step][:TUNING_PROMPTS]
        grid = list(itertools.product(TUNED_LENGTHS, TUNED_THRESHOLDS))
        seconds = dict.fromkeys(grid, 0.0)
        for prompt, pair in itertools.product(chosen, grid):
            self._length, self._threshold = pair
            with self.ready():
                seconds[pair] += self.write(prompt, writing).seconds
            yield f"{self._length} tokens, threshold {self._threshold}"
        self._length, self._threshold = min(grid, key=seconds.__getitem__)
        self._tried = len(grid)

    @property
    def settings(self) -> dict[str, Any]:
        """What was found to be best."""
        return {**super().settings, "settings_tried": self._tried}


def tuning_steps(prompts: int) -> int:
    """Return how many texts the search of :class:`TunedAssisted` writes."""
    return min(prompts, TUNING_PROMPTS) * len(TUNED_LENGTHS) * len(TUNED_THRESHOLDS)


def _generation_config(writing: Writing) -> GenerationConfig:
    law: dict[str, Any] = {"do_sample": False}
    if writing.temperature:
        law = {"do_sample": True, "temperature": writing.temperature, "top_k": 0, "top_p": 1.0}
    return GenerationConfig(max_new_tokens=writing.max_new_tokens, pad_token_id=0, **law)


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
    """Notes when the first new token is there; the first thing it is handed is the prompt."""

    def __init__(self) -> None:
        self.at = 0.0
        self._puts = 0

    def put(self, value: Tensor) -> None:
        self._puts += 1
        if self._puts == 2:
            self.at = time.perf_counter()

    def end(self) -> None:
        pass


class _Watch:
    """Counts the forwards of a model, their widths, and what their cache holds."""

    def __init__(self) -> None:
        self.widths: list[int] = []
        self._cache: Any = None

    @classmethod
    @contextmanager
    def on(cls, model: nn.Module) -> Iterator["_Watch"]:
        watch = cls()
        hook = model.register_forward_hook(watch._note, with_kwargs=True)
        try:
            yield watch
        finally:
            hook.remove()

    def _note(self, _model: nn.Module, _args: Any, kwargs: dict[str, Any], out: Any) -> None:
        self.widths.append(int(kwargs["input_ids"].shape[1]))
        self._cache = out.past_key_values

    @property
    def kv_bytes(self) -> int:
        tensors = [t for layer in self._cache.layers for t in (layer.keys, layer.values)]
        return sum(t.untyped_storage().nbytes() for t in tensors)
