"""A cache policy at work in a session: at which lengths, on which slots, at which positions."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..models import LanguageModel
from ..models.kv import SlotCache
from ..models.rotary import Rotation, rotation_of
from .places import Places
from .policies import CachePolicy, Held
from .slots import SPARE, Slots


class Forgetting:
    """What one session forgets.

    Within the model's context positions stay what they were, with gaps. Where the next block would
    not fit it any more, all that is held moves up to the beginning, and its keys are turned by the
    difference: positions are those in the cache, as in StreamingLLM (arXiv 2309.17453). A key that
    is forgotten before the context is through again is turned once; sinks never move.

    Args:
        policy: says what is kept.
        model: whose keys and values they are.

    Attributes:
        floor: the length at the last boundary; what was held before it cannot be had again.
        next: the next boundary; None for never.
        offset: by how much positions lie before the places in the text.
        compressions: boundaries at which something was forgotten.
        evicted: tokens that were forgotten; where layers and heads differ, on average.

    Raises:
        InvalidArgument: the policy is made for another model, or keeps more than its context.
    """

    def __init__(self, policy: CachePolicy, model: LanguageModel) -> None:
        self.policy, self._model = policy, model
        config = model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        policy.check(model.layers, int(heads))
        grouped = any(len(policy.groups(layer, int(heads))) > 1 for layer in range(model.layers))
        if policy.observes != 0 and grouped:
            raise InvalidArgument(
                f"cache policy {policy}: it goes by attention and has heads that hold different "
                "numbers of tokens, which do not go together: give one of the two"
            )
        self._rotation: Rotation | None = None
        limit, size = model.context_length, policy.size
        if limit is not None and size is not None:
            self._rotation = rotation_of(model)
            needed = size + policy.block + SPARE
            if self._rotation is not None and needed > limit:
                raise InvalidArgument(
                    f"cache policy {policy}: it needs {needed} positions with a block and a draft, "
                    f"{model.name} has {limit}: keep less"
                )
        self.compressions = 0
        self.evicted = 0.0
        self.restart()

    def restart(self) -> None:
        """Begin anew: nothing is held."""
        self.floor = self.offset = 0
        self.next = self.policy.due(0)
        self._places = None if self.policy.uniform else Places(self.policy, self._model)

    def copy(self, model: LanguageModel) -> Forgetting:
        """Return the same, to go on with apart, of a model of these layers or the first ones."""
        twin = copy(self)
        twin._model = model
        twin._places = None if self._places is None else self._places.copy(model)
        return twin

    @property
    def unbounded(self) -> bool:
        """Whether a text may be longer than the model's context."""
        return self._model.context_length is None or self._rotation is not None

    def begin(self, length: int) -> tuple[int, list[int]] | None:
        """Go to the last boundary of a text at once, where places alone decide what is left there.

        Args:
            length: of the text.

        Returns:
            The boundary and the tokens that are held there; None where there is no such short cut,
            or no boundary.
        """
        boundary, floor = self.policy.due(0), 0
        while boundary is not None and boundary <= length:
            floor, boundary = boundary, self.policy.due(boundary)
        if not self.policy.uniform or not floor:
            return None
        layers = int(self._model.config.num_hidden_layers)
        indices = torch.arange(floor)[:, None]
        kept = self.policy.kept(Held(0, layers, (0,), floor, indices, lambda: indices))
        if kept is None:
            return None
        self.compressions += 1
        self.evicted += floor - len(kept)
        self.floor, self.next = floor, boundary
        return floor, kept.tolist()

    def room(self, length: int) -> int | None:
        """Return how many tokens may come before the next boundary; None is any number."""
        return None if self.next is None else self.next - length

    def loses(self, length: int, now: int, *, roughly: bool = False) -> bool:
        """Return whether what is held of a text is not what a shorter one would hold.

        Args:
            length: of the shorter one.
            now: of the text.
            roughly: attention that the tokens in between have paid may count.
        """
        if length < self.floor:
            return True
        window = self.policy.observes
        if window == 0 or length >= now or roughly:
            return False
        return window is None or self.next is None or now > self.next - window

    @property
    def observes(self) -> bool:
        """Whether attention is to be handed to :meth:`observe`."""
        return self.policy.observes != 0

    def observe(
        self,
        seen: Sequence[Tensor],
        rows: Sequence[int],
        length: int,
        slots: Slots,
        cache: SlotCache,
    ) -> None:
        """Add up the attention of tokens that are held now.

        Args:
            seen: of each layer ``[H, W, S]`` float32: query heads, rows of the forward, places.
            rows: those of the tokens, in order, the last of them the last of the text.
            length: of the text.
            slots: of what is held, the tokens in it.
            cache: keys and values.
        """
        assert self._places is not None
        window, end = self.policy.observes, self.next
        if window is not None and end is not None:
            late = max(0, end - window - (length - len(rows)))
            rows = rows[late:]
        self._places.observe(seen, rows, slots, cache)

    def forget(self, length: int, slots: Slots, held: Tensor, cache: SlotCache) -> None:
        """Forget what the policy does not keep of a text of this length, all of it computed.

        Args:
            length: of the text.
            slots: of what is held.
            held: the position in each slot, -1 where there is none; brought up to date.
            cache: keys and values.
        """
        # a drafter's text may have gone past a boundary, and another one: each is seen to
        while self.next is not None and self.next <= length:
            if self._places is None:
                gone = float(self._forget_tokens(self.next, slots, held))
            else:
                gone = self._places.forget(self.next, slots, held, cache)
            if gone:
                self.compressions += 1
                self.evicted += gone
            self.next = self.policy.due(self.next)
        self.floor = length
        limit = self._model.context_length
        if self._rotation is None or limit is None:
            return
        if length - self.offset + self.policy.block + SPARE > limit:
            self._move_up(length, slots, held, cache, self._rotation)

    def _forget_tokens(self, length: int, slots: Slots, held: Tensor) -> int:
        """All layers and heads alike: slots are free again, and nothing moves."""
        indices = torch.tensor(slots.indices)[:, None]
        kept = self.policy.kept(Held(0, self._model.layers, (0,), length, indices, lambda: indices))
        if kept is None:
            return 0
        gone = slots.keep(kept.tolist())
        held[torch.tensor(gone, device=held.device)] = -1
        return len(gone)

    def _move_up(
        self, length: int, slots: Slots, held: Tensor, cache: SlotCache, rotation: Rotation
    ) -> None:
        """Give what is held the first positions."""
        if self._places is not None:
            self._places.move_up(rotation, cache)
        else:
            rows = torch.tensor(slots.slots, device=held.device)
            by = torch.arange(len(slots)) - torch.tensor(slots.positions)
            for number in range(self._model.layers):
                keys = cache.layer(number).keys
                assert keys is not None
                keys[rows] = rotation.turn(number, keys[rows], by.to(held.device))
        slots.positions[:] = range(len(slots))
        held[torch.tensor(slots.slots, device=held.device)] = torch.arange(
            len(slots), device=held.device
        )
        self.offset = length - len(slots)
