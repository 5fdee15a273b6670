"""The loop inside transformers' own ``generate``: ``model.generate(custom_generate=...)``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from .cache import Session
from .compose import make_lengths, make_shape
from .decoder import Decoder
from .drafters import Drafter
from .drafters.shape import Shape
from .errors import InvalidArgument
from .lengths import LengthController
from .models import wrap
from .noise import Noise
from .output import Output, Stats
from .request import Request
from .sampling import Sampler
from .stopping import Ends
from .types import Context, Round
from .verifiers import Verifier

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, StoppingCriteriaList
    from transformers.generation.streamers import BaseStreamer

# What generate hands over that the loop replaces or that changes nothing.
_REPLACED = frozenset({"use_cache", "cache_position", "logits_to_keep"})


class CustomGenerate:
    """Hand this to ``model.generate(**inputs, custom_generate=CustomGenerate(...))``.

    The generation config is honoured: processors, sampling, EOS ids, lengths and stopping
    criteria, each asked after every token (generate itself refuses ``stop_strings=`` for
    callables: pass a StopStringCriteria as ``stopping_criteria``). The seed comes from torch's
    generator, so ``torch.manual_seed`` makes a sampled text repeat. The model keeps its own
    attention outside of the call.

    Args:
        drafter: a registered method, a model folder or hub name, or a Drafter.
        tree: have the draft model draft token trees of this shape; None is a chain.
        draft_length: a number of tokens, the name of a length controller, or one; None is the
            cost gate.
        verifier: ``coupled``, ``rejection``, ``sequoia``, ``block``, or a Verifier.
        on_round: called with every round.
        streamer: gets the tokens as they come, as transformers' streamers do (generate itself
            drops ``streamer=`` for callables).
    """

    def __init__(
        self,
        drafter: str | os.PathLike[str] | Drafter = "prompt-lookup",
        *,
        tree: str | Shape | None = None,
        draft_length: int | str | LengthController | None = None,
        verifier: str | Verifier = "coupled",
        on_round: Callable[[Round], None] | None = None,
        streamer: BaseStreamer | None = None,
    ) -> None:
        if isinstance(drafter, str) and drafter.startswith("retokenized"):
            raise InvalidArgument(
                f"drafter {drafter!r} goes by way of text, and generate hands no tokenizer over: "
                "make a Decoder of the model's folder instead"
            )
        self._drafter = drafter
        self._lengths = None if draft_length is None else make_lengths(draft_length)
        self._shape = make_shape(tree, draft_length)
        self._verifier = verifier
        self._on_round = on_round
        self._streamer = streamer
        self._decoder: Decoder | None = None
        self.last: Output | None = None
        """The output of the last call, without text; its stats hold the figures."""

    def __call__(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **model_kwargs: Any,
    ) -> Any:
        """Return ids ``[1, T + new]``, or transformers' output object where one is asked for.

        Raises:
            InvalidArgument: a batch, padding, or an option the loop has no counterpart for.
            UnsupportedModel: the model does not pass the probe.
        """
        _refuse(input_ids, generation_config, model_kwargs)
        greedy = not generation_config.do_sample
        # before anything is loaded, which may draw from the generator too
        seed = 0 if greedy else int(torch.randint(2**62, ()))
        decoder = self._decoder_for(model)
        prompt = input_ids[0].tolist()
        context = Context(prompt, input_ids.device)
        ends = _CriteriaEnds(
            stopping_criteria,
            context,
            _room(generation_config, decoder, prompt),
            _eos(generation_config),
        )
        request = Request(
            began=decoder.clock.read(),
            context=context,
            sampler=Sampler(context, list(logits_processor), greedy=greedy, noise=Noise(seed)),
            ends=ends,
            session=Session(decoder.target),
            resumed=False,
            stats=Stats(seed=seed, exact=decoder.exact),
        )
        if self._streamer is not None:
            self._streamer.put(input_ids.cpu())
        with decoder.target.attached():
            for turn in decoder.run(request):
                self._tell(turn)
        if self._streamer is not None:
            self._streamer.end()
        self.last = Output("", context.output, request.stats)
        ids = torch.tensor([context.tokens], dtype=input_ids.dtype, device=input_ids.device)
        if generation_config.return_dict_in_generate:
            from transformers.generation.utils import GenerateDecoderOnlyOutput

            return GenerateDecoderOnlyOutput(sequences=cast(torch.LongTensor, ids))
        return ids

    def _decoder_for(self, model: PreTrainedModel) -> Decoder:
        """The decoder of this model, made (and the model probed) at its first call."""
        if self._decoder is None or self._decoder.target.model is not model:
            self._decoder = Decoder.from_pretrained(
                wrap(model),
                drafter=self._drafter,
                tree=self._shape,
                draft_length=self._lengths,
                verifier=self._verifier,
                dtype=model.dtype,
                device=model.device,
            )
        return self._decoder

    def _tell(self, turn: Round) -> None:
        if self._on_round is not None:
            self._on_round(turn)
        if self._streamer is not None:
            for token in turn.tokens:
                self._streamer.put(torch.tensor([token]))


class _CriteriaEnds(Ends):
    """transformers' stopping criteria, asked after every token in turn."""

    def __init__(
        self,
        criteria: StoppingCriteriaList,
        context: Context,
        remaining: int,
        eos: frozenset[int],
    ) -> None:
        self._criteria, self._eos = criteria, eos
        # a text of its own: the loop's grows round by round, criteria look token by token
        self._text = Context(context.tokens, context.device)
        self._remaining = remaining

    @property
    def remaining(self) -> int:
        """How many more tokens may be written."""
        return self._remaining

    def take(self, token: int) -> tuple[str, str | None]:
        """Take the next token and ask every criterion."""
        self._text.extend([token])
        self._remaining -= 1
        stop = bool(torch.as_tensor(self._criteria(self._text.ids(), None)).all())
        if stop and token in self._eos:
            return "", "eos"
        if self._remaining < 1:
            return "", "length"
        return "", "stop" if stop else None


def _eos(config: GenerationConfig) -> frozenset[int]:
    ids = config.eos_token_id
    return frozenset([ids] if isinstance(ids, int) else ids or ())


def _room(config: GenerationConfig, decoder: Decoder, prompt: list[int]) -> int:
    """Return how many tokens may be written."""
    limit = decoder.target.context_length
    wanted: int | None = config.max_length
    if limit is not None and (wanted is None or wanted > limit):
        if len(prompt) >= limit:
            raise InvalidArgument(
                f"the prompt has {len(prompt)} tokens, the model takes {limit} with the new ones: "
                "shorten the prompt"
            )
        warnings.warn(
            f"max_length {wanted} is past the model's context of {limit}: the text ends there",
            stacklevel=2,
        )
        return limit - len(prompt)
    assert wanted is not None, "generate fills max_length in"
    return wanted - len(prompt)


def _refuse(input_ids: Tensor, config: GenerationConfig, model_kwargs: dict[str, Any]) -> None:
    """Raise InvalidArgument for what a single sequence through the loop cannot honour."""
    if input_ids.shape[0] != 1:
        raise InvalidArgument(
            f"a batch of {input_ids.shape[0]} sequences: CustomGenerate writes one at a time "
            "(num_return_sequences=1, num_beams=1, one prompt a call)"
        )
    mask = model_kwargs.pop("attention_mask", None)
    if mask is not None and not bool((mask == 1).all()):
        raise InvalidArgument("the prompt is padded: give CustomGenerate a prompt without padding")
    if config.num_beams and config.num_beams > 1:
        raise InvalidArgument(f"num_beams={config.num_beams}: CustomGenerate takes num_beams=1")
    for name in ("cache", "past_key_values"):  # by the version of transformers
        cache = model_kwargs.pop(name, None)
        if cache is not None and cache.get_seq_length():
            raise InvalidArgument(
                f"{name} with tokens in it: CustomGenerate keeps its own cache; leave it out"
            )
    for wanted in ("output_scores", "output_logits", "output_attentions", "output_hidden_states"):
        if getattr(config, wanted, False):
            raise InvalidArgument(f"{wanted}=True: CustomGenerate returns the sequence alone")
    positions = model_kwargs.pop("position_ids", None)
    usual = torch.arange(input_ids.shape[1], device=input_ids.device)
    if positions is not None and not torch.equal(positions.flatten(), usual):
        raise InvalidArgument(
            "position_ids of your own: CustomGenerate counts from 0; leave them out"
        )
    others = sorted(k for k, v in model_kwargs.items() if k not in _REPLACED and v is not None)
    if others:
        raise InvalidArgument(
            f"model input {', '.join(others)}: CustomGenerate takes input_ids alone"
        )
