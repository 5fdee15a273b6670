"""Our loop with one thing done in another way: what benchmarks/ablation.py compares it with."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, Unpack
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import AttentionInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama.modeling_llama import eager_attention_forward

from outpace import Decoder
from outpace.bench import Models
from outpace.bench.loop import Loop
from outpace.cache import Session, session
from outpace.decoder import WIDEST, Stream
from outpace.drafters.session_drafter import SessionDrafter
from outpace.models import LanguageModel, attention, runtime
from outpace.models.step import cache_keyword
from outpace.request import Prompt, Settings
from outpace.sampling import Pick
from outpace.types import TokenTree

Change = Callable[[LanguageModel], AbstractContextManager[None]]
"""Has a model run in another way, as long as the context lasts."""


class Variant(Loop):
    """A method of the benchmark, changed.

    Args:
        name: how to call it.
        models: target and drafter.
        method: what is changed: ``plain``, ``draft@5`` …
        held: the class of session that target and drafter keep their text in.
        changes: made of both models while a text is written.
    """

    def __init__(
        self,
        name: str,
        models: Models,
        method: str = "draft@5",
        held: type[Session] = Session,
        changes: Sequence[Change] = (),
    ) -> None:
        _, _, length = method.partition("@")
        super().__init__(method, models, length or 5)
        self.name = name
        self._held, self._changes = held, changes
        before = self.decoder
        self.decoder = _Holding(before.target, before.drafter, lengths=before.lengths)
        self.decoder.held = held

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Change both models, too."""
        drafter = self.decoder.drafter
        with super().ready(), ExitStack() as stack:
            for change in self._changes:
                for model in (self.models.target, *drafter.models):
                    stack.enter_context(change(model))
            if isinstance(drafter, SessionDrafter):
                before, drafter._session = drafter._session, self._held(drafter.model)
                drafter._session.forwards = before.forwards
            yield


class _Holding(Decoder):
    """Keeps every text in a session of another class."""

    held: type[Session] = Session

    def stream(self, prompt: Prompt, **settings: Unpack[Settings]) -> Stream:
        return super().stream(prompt, **{**settings, "session": self.held(self.target)})


class Rebuilt(Session):
    """After a rejection the accepted tokens are computed again, by a further forward."""

    def commit(self, tree: TokenTree, path: Sequence[int]) -> None:
        tokens, _ = tree.lists()
        if len(path) == len(tree) - 1:
            super().commit(tree, path)
            return
        self.abandon()
        self.again([tokens[node] for node in (0, *path)])

    def again(self, tokens: list[int]) -> None:
        """Compute tokens that were computed before."""
        self.append(tokens)


class RebuiltOneByOne(Rebuilt):
    """The same with a forward for each token."""

    def again(self, tokens: list[int]) -> None:
        for token in tokens:
            self.append([token])


class WrittenOneByOne(Session):
    """Keys and values of a round are written token by token."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__(model)
        for layer in self._cache.layers:
            layer.update = partial(_update_one_by_one, layer)  # type: ignore[method-assign]


def _update_one_by_one(
    layer: Any, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, Tensor]:
    if not layer.is_initialized:
        layer.lazy_initialization(key_states, value_states)
    width, owner = key_states.shape[2], layer._aim
    each = owner.slots.split(1 if width <= WIDEST else width)  # a prefill is written as before
    begin = 0
    for slots in each:
        rows = slice(begin, begin + len(slots))
        layer.keys.index_copy_(0, slots, key_states[0, :, rows].transpose(0, 1))
        layer.values.index_copy_(0, slots, value_states[0, :, rows].transpose(0, 1))
        begin = rows.stop
    return tuple(t[: owner.view].transpose(0, 1)[None] for t in (layer.keys, layer.values))


class Cropped(Session):
    """Transformers' growing cache: ``torch.cat`` for every forward, ``crop`` after a rejection.

    Chains only. Masks and attention are the loop's own.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__(model)
        self._grown = DynamicCache(config=model.config)
        self._under_way = 0

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for layer in self._grown.layers for t in (layer.keys, layer.values))

    def reserve(self, length: int) -> None:
        pass  # it grows as it goes

    def rollback(self, length: int, *, roughly: bool = False) -> None:
        self.abandon()
        self._crop(len(self.tokens) - length)
        del self.tokens[length:]

    def append(self, tokens: Sequence[int | Tensor]) -> Tensor:
        ids = torch.tensor([int(token) for token in tokens])
        logits = self._forward(ids, last_only=True)
        self.tokens.extend(tokens)
        return logits[0]

    def draft(self, fresh: Sequence[int], length: int, pick: Pick) -> Tensor:
        chosen = [pick(self.append(fresh)[None], 0)]
        for place in range(1, length):
            chosen.append(pick(self.append([chosen[-1][0]])[None], place))
        return torch.cat(chosen)

    def forward(self, tree: TokenTree) -> Tensor:
        assert tree.is_chain
        self._under_way = len(tree)
        return self._forward(tree.tokens, last_only=False)

    def commit(self, tree: TokenTree, path: Sequence[int]) -> None:
        self._crop(len(tree) - 1 - len(path))
        self._under_way = 0
        tokens, _ = tree.lists()
        self.tokens.extend(tokens[node] for node in (0, *path))

    def abandon(self) -> None:
        self._crop(self._under_way)
        self._under_way = 0

    def _crop(self, count: int) -> None:
        if count > 0:
            self._grown.crop(-count)

    def _forward(self, tokens: Tensor, *, last_only: bool) -> Tensor:
        start, width = len(self.tokens), len(tokens)
        rows = torch.arange(start, start + width)
        held = torch.arange(start + width)
        held[start:] = -1
        causal = torch.ones(width, width, dtype=torch.bool).tril_()
        self.forwards += 1
        with torch.inference_mode():
            out: Any = self.model.model(
                input_ids=tokens[None],
                position_ids=rows[None],
                attention_mask=self.model.step.masks.build(
                    held, torch.stack([rows, rows]), causal, rows
                ),
                use_cache=True,
                logits_to_keep=1 if last_only else 0,
                **{cache_keyword(self.model.model): self._grown},
            )
        return out.logits[0].clone()


@contextmanager
def shapes_as_they_come(_: LanguageModel) -> Iterator[None]:
    """Run forwards as wide as they are, over as many slots as are held."""
    held = patch.object(session, "STEP", 1)
    with patch.object(runtime, "width_for", int), patch.object(session, "bucket", int), held:
        yield


@contextmanager
def repeated(model: LanguageModel) -> Iterator[None]:
    """Repeat the keys and values that query heads share, instead of packing the queries."""
    with patch.object(model.step.masks, "_packed_width", 0):
        yield


@contextmanager
def _attends_by(function: Callable[..., Any], model: LanguageModel) -> Iterator[None]:
    AttentionInterface.register(attention.NAME, function)
    try:
        with repeated(model):
            yield
    finally:
        AttentionInterface.register(attention.NAME, attention.slot_attention)


sdpa: Change = partial(_attends_by, sdpa_attention_forward)
"""Attend by transformers' function of that name, over the same slots and masks."""
written_out: Change = partial(_attends_by, eager_attention_forward)
"""Attend by transformers' ``eager`` function."""
