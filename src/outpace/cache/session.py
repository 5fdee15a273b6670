"""One sequence held in the slot cache of one model: prefill, round, commit, rollback."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models import LanguageModel
from ..models.observing import observed
from ..sampling import Pick
from ..transfer import at_hand, sent
from ..types import Context, TokenTree, causal
from .forgetting import Forgetting
from .policies import CachePolicy, FullPolicy
from .room import capacity, most_slots
from .slots import Slots, bucket

STEP = 64
"""Slots by which a view grows on a CPU."""


@dataclass(frozen=True, slots=True)
class _Round:
    """The nodes computed since the last commit.

    Attributes:
        where: positions and slots on the device, ``[2, M]``.
        ancestors: bool ``[M, M]``.
    """

    slots: list[int]
    positions: list[int]
    where: Tensor
    ancestors: Tensor


class Session:
    """The keys and values of one sequence; only what changed is ever computed.

    A target's session holds committed tokens only. A drafter appends its own draft tokens as if
    they were committed and rolls back to what the target accepted.

    With a cache policy the keys and values of some tokens are forgotten at certain lengths. The
    tokens themselves are not, so that what a text goes on from is known; what would need a
    forgotten one again is computed from the beginning.

    Args:
        model: whose keys and values these are.
        policy: what is forgotten; None is nothing.

    Attributes:
        serves: the text the loop runs on it now; streams that share a session take turns.

    Raises:
        InvalidArgument: the policy does not go with the model.
    """

    def __init__(self, model: LanguageModel, policy: CachePolicy | None = None) -> None:
        self.model = model
        self.policy = FullPolicy() if policy is None else policy
        self._forgetting = (
            None if isinstance(self.policy, FullPolicy) else Forgetting(self.policy, model)
        )
        self.tokens: list[int | Tensor] = []
        self._slots = Slots()
        self._cache = model.new_cache(bucket(1))
        self._held = _nothing_held(self._cache.capacity, model.device)
        self._round: _Round | None = None
        self._seen: list[Tensor] = []  # attention of the last forward
        self._torn = False  # bookkeeping under change: an interrupt may leave it half done
        self.forwards = 0
        self.serves: Context | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def indices(self) -> list[int]:
        """Which of the tokens are held; where layers and heads differ, by the longest of them."""
        return list(self._slots.indices)

    @property
    def limit(self) -> int | None:
        """How many tokens a text may have; None is any number."""
        if self._forgetting is not None and self._forgetting.unbounded:
            return None
        return self.model.context_length

    @property
    def room(self) -> int | None:
        """How many tokens may come before some are forgotten; None is any number.

        A round that wrote more would see what a shorter one does not.
        """
        return None if self._forgetting is None else self._forgetting.room(len(self))

    @property
    def forgets(self) -> bool:
        """Whether it has a policy."""
        return self._forgetting is not None

    @property
    def observes(self) -> bool:
        """Whether the policy goes by attention, so that every token has to be computed alone."""
        return self._forgetting is not None and self._forgetting.observes

    @property
    def compressions(self) -> int:
        """How often tokens were forgotten."""
        return 0 if self._forgetting is None else self._forgetting.compressions

    @property
    def evicted(self) -> float:
        """How many tokens were forgotten; where layers and heads differ, on average."""
        return 0.0 if self._forgetting is None else self._forgetting.evicted

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return self._cache.nbytes

    def reserve(self, length: int) -> None:
        """Make room for ``length`` slots at once rather than by doubling."""
        slots = length + 1  # rows that only fill a static width lie in the last
        if slots > self._cache.capacity:
            size = capacity(slots, self.policy)
            grown = _nothing_held(size, self._held.device)
            grown[: self._held.shape[0]] = self._held
            self._held = grown
            self._cache.grow(size)

    def clear(self) -> None:
        """Forget everything; the memory is kept."""
        self.rollback(0)

    def rollback(self, length: int, *, roughly: bool = False) -> None:
        """Forget all tokens past the first ``length``, and a round that never came to its end.

        Where a policy has forgotten earlier ones meanwhile, nothing is held afterwards. Nor where
        it goes by the attention of those that go now.

        Args:
            length: how many tokens stay.
            roughly: their attention may go on to count: a drafter's own draft tokens.
        """
        self.abandon()
        if self._forgetting is not None and self._forgetting.loses(
            length, len(self), roughly=roughly
        ):
            self._lose()
        if length < len(self):
            self._torn = True
            gone = self._slots.rollback(len(self._slots) - (len(self) - length))
            del self.tokens[length:]
            first, last = gone[0], gone[-1] + 1
            if last - first == len(gone) and gone == list(range(first, last)):
                self._held[first:last].fill_(-1)
            else:
                self._held[torch.tensor(gone, device=self._held.device)] = -1
            self._torn = False

    def adopt(self, other: "Session") -> None:
        """Hold what another session holds, keys and values copied; nothing is computed.

        Args:
            other: between two rounds, of a model whose layers have the same sizes; this one may
                have fewer of them. A session that forgets in its own way holds nothing afterwards.
        """
        assert other._round is None, "a round is kept or abandoned before it is copied"
        if str(self.policy) not in {"full", str(other.policy)}:
            self.clear()
            return
        self.abandon()
        top = other._slots.top
        self.reserve(top)
        self._torn = True
        forgetting = other._forgetting
        self._forgetting = None if forgetting is None else forgetting.copy(self.model)
        self._slots = other._slots.copy()
        self.tokens = list(other.tokens)
        self._held.fill_(-1)
        self._held[:top] = other._held[:top]
        self._cache.adopt(other._cache, top)
        self._torn = False

    def follow(self, other: "Session", length: int) -> None:
        """Hold the first ``length`` tokens of another session as it computed them, but forget.

        What is held already is the beginning of it; of the rest keys and values are copied.
        Nothing is computed.

        Args:
            other: between two rounds, of a model whose layers have the same sizes, without a
                policy of its own.
            length: at most what it holds.
        """
        assert other._forgetting is None, "what another session has forgotten cannot be had"
        if self._forgetting is not None and not len(self):
            self._skip(other, length)
        while len(self) < length:
            count = length - len(self)
            if self.room is not None:
                count = min(count, self.room)
            self._copy(other, range(len(self), len(self) + count))
            self.forget()

    def _skip(self, other: "Session", length: int) -> None:
        """Begin with what would be left at the last boundary, where places alone decide on it."""
        assert self._forgetting is not None
        start = self._forgetting.begin(length)
        if start is not None:
            floor, indices = start
            self._copy(other, indices)
            self.tokens = list(other.tokens[:floor])
            self._slots.length = floor

    def _copy(self, other: "Session", indices: Sequence[int]) -> None:
        """Copy tokens of another session, which follow what is held."""
        device, count = self.model.device, len(indices)
        lie, slots = [other._slots.slots[one] for one in indices], self._slots.take(count)
        self.reserve(self._slots.top)
        where = self._where(list(indices), slots)
        self._torn = True
        source = torch.tensor(lie, dtype=torch.int64, device=device)
        with torch.inference_mode():
            self._cache.copy(other._cache, source, where[1])
        self._held.index_copy_(0, where[1], where[0])
        self._slots.commit(slots, list(indices), list(indices))
        self.tokens.extend(other.tokens[one] for one in indices)
        self._torn = False

    def match(self, tokens: Sequence[int]) -> int:
        """Return how many of ``tokens`` are held already, from the start."""
        count = 0
        for ours, given in zip(self.tokens, tokens, strict=False):
            if int(ours) != given:
                break
            count += 1
        return count

    def prefill(self, tokens: Sequence[int], *, room: int = 0) -> Tensor:
        """Hold exactly ``tokens``; compute only what is not held. Return the last logits ``[V]``.

        Args:
            tokens: the whole sequence.
            room: how many more slots will be needed.
        """
        self.reserve(min(len(tokens) + room, most_slots(self.policy)))
        # the last token is always computed: its logits are wanted
        self.rollback(min(self.match(tokens), len(tokens) - 1))
        return self.extend(list(tokens[len(self) :]))

    def extend(self, tokens: Sequence[int]) -> Tensor:
        """Compute a chain of any length that follows what is held; return the last logits."""
        start = 0
        while True:
            rest = len(tokens) - start
            size = next((chunk for chunk in self.model.chunks if chunk <= rest), rest)
            if self.room is not None:
                size = min(size, max(1, self.room))
            logits = self.append(tokens[start : start + size])
            self.forget()
            start += size
            if size == rest:
                return logits

    def forget(self) -> None:
        """Forget what the policy does not keep, if the text has come to a boundary.

        All that is held must be a part of the text by now.
        """
        room = self.room
        if room is None or room > 0:
            return
        assert self._forgetting is not None
        self._torn = True
        with torch.inference_mode():  # as forwards write, so that both may
            self._forgetting.forget(len(self), self._slots, self._held, self._cache)
        self._fit()
        self._torn = False

    def _fit(self) -> None:
        """Have as many positions as there are slots."""
        capacity = self._cache.capacity
        if self._held.shape[0] != capacity:
            fitting = _nothing_held(capacity, self._held.device)
            kept = min(capacity, self._held.shape[0])
            fitting[:kept] = self._held[:kept]
            self._held = fitting

    def _lose(self) -> None:
        """Hold nothing, as if from the beginning."""
        assert self._forgetting is not None
        self._torn = True
        self.abandon()

    def append(self, tokens: Sequence[int | Tensor]) -> Tensor:
        """Compute a chain of tokens that follow what is held; return the last logits ``[V]``."""
        count, start = len(tokens), self._next
        device = self.model.device
        logits = self._compute(
            _column(tokens, device),
            list(range(start, start + count)),
            causal(count, device),
            last_only=True,
        )
        done, self._round = self._round, None
        assert done is not None
        self._commit(tokens, done.slots, done.positions, done.where)
        self._observe(range(count))
        return logits[0]

    def draft(self, fresh: Sequence[int], length: int, pick: Pick) -> Tensor:
        """Compute ``fresh`` tokens and go on with tokens of the model's own choice.

        All but the last of these are held in the end.

        Args:
            fresh: what follows the tokens held; one at least.
            length: how many to choose.
            pick: how.

        Returns:
            The tokens chosen, ``[length]`` int64.
        """
        device, count, start = self.model.device, len(fresh), self._next
        steps = count + length - 1
        slots, positions = self._slots.take(steps), list(range(start, start + steps))
        where = self._where(positions, slots)
        self._round = _Round(slots, positions, where, causal(steps, device))
        self.reserve(self._slots.top)
        self.forwards += length
        chosen = self.model.chain(
            sent(fresh, device),
            where,
            self._held,
            self._cache,
            self._view(),
            length,
            pick,
        )
        self._round = None
        known = at_hand(chosen) or chosen.unbind()
        self._commit([*fresh, *known[:-1]], slots, positions, where)
        return chosen

    def forward(self, tree: TokenTree) -> Tensor:
        """Compute all nodes of a tree; node 0 follows what is held. Return logits ``[N, V]``."""
        start = self._next
        depths = range(len(tree)) if tree.is_chain else tree.depths().tolist()
        positions = [start + depth for depth in depths]
        device = self.model.device  # a tree without a law may lie on the host
        return self._compute(
            tree.tokens.to(device), positions, tree.ancestors().to(device), last_only=False
        )

    def branch(self, tokens: Tensor, parents: Sequence[int], depth: int) -> Tensor:
        """Compute one level of a tree below what is held; return logits ``[n, V]``.

        Levels are computed one after the other; :meth:`keep` or :meth:`abandon` ends the round,
        :meth:`prune` and :meth:`settle` make it smaller while it goes on.

        Args:
            tokens: ``[n]`` int64.
            parents: the node each one hangs below, counted over the levels so far; -1 is the last
                token held.
            depth: how far below that token the level lies, from 1.
        """
        count, device = len(tokens), self.model.device
        seen = torch.eye(count, dtype=torch.bool, device=device)
        if self._round is not None:
            # one more row, of nobody: parent -1 finds it
            above = F.pad(self._round.ancestors, (0, 0, 0, 1))
            places = sent(parents, device)
            seen = torch.cat([above[places], seen], dim=1)
        positions = [self._next + depth - 1] * count
        return self._compute(tokens, positions, seen, last_only=False)

    def commit(self, tree: TokenTree, path: Sequence[int]) -> None:
        """Keep node 0 and the nodes of ``path``; the slots of all others are free again."""
        tokens, _ = tree.lists()
        kept = [0, *path]
        self.keep(kept, [tokens[node] for node in kept])

    def keep(self, nodes: Sequence[int], tokens: Sequence[int | Tensor]) -> None:
        """Hold these nodes of the round, a path, as ``tokens``; free the slots of all others."""
        assert self._round is not None, "a round is kept once, after its forwards"
        slots, positions, where = self._round.slots, self._round.positions, self._round.where
        self._round = None
        if len(nodes) == len(slots):
            self._commit(tokens, slots, positions, where)
            self._observe(nodes)
            return
        lie, at = [slots[node] for node in nodes], [positions[node] for node in nodes]
        if nodes:
            first = nodes[-1] == len(nodes) - 1  # those of a chain: no need to tell the device
            self._commit(tokens, lie, at, where[:, : len(nodes)] if first else self._where(at, lie))
            self._observe(nodes)
        chosen = set(nodes)
        self._torn = True
        self._slots.free([slot for node, slot in enumerate(slots) if node not in chosen])
        self._torn = False

    @property
    def _next(self) -> int:
        """The position of the next token."""
        return len(self) - (0 if self._forgetting is None else self._forgetting.offset)

    @property
    def nodes(self) -> int:
        """How many nodes the round under way has."""
        return 0 if self._round is None else len(self._round.slots)

    def prune(self, nodes: Sequence[int]) -> None:
        """Go on with these nodes of the round alone, numbered anew; free the slots of all others.

        Args:
            nodes: ascending, each with all of its ancestors.
        """
        assert self._round is not None, "a round begins with a forward"
        if len(nodes) == len(self._round.slots):
            return
        before = self._round
        left = sent(nodes, self.model.device)
        chosen = set(nodes)
        self._torn = True
        self._round = _Round(
            [before.slots[node] for node in nodes],
            [before.positions[node] for node in nodes],
            before.where[:, left],
            before.ancestors[left][:, left],
        )
        self._slots.free([slot for node, slot in enumerate(before.slots) if node not in chosen])
        self._torn = False

    def settle(self, tokens: Sequence[int]) -> None:
        """Hold the first nodes of the round as ``tokens``; the round goes on below them.

        Args:
            tokens: of those nodes, a path from the first node that is above all other nodes.
        """
        assert self._round is not None, "a round begins with a forward"
        count, before = len(tokens), self._round
        if not count:
            return
        self._torn = True
        self._round = _Round(
            before.slots[count:],
            before.positions[count:],
            before.where[:, count:],
            before.ancestors[count:, count:],
        )
        self._commit(
            tokens, before.slots[:count], before.positions[:count], before.where[:, :count]
        )

    def abandon(self) -> None:
        """Free the slots of a round that never came to its commit (an error, an interrupt)."""
        if self._torn:  # Ctrl-C came in the middle of a change: nothing held can be trusted
            self._slots, self._round, self.tokens = Slots(), None, []
            if self._forgetting is not None:
                self._forgetting.restart()
                self._cache = self.model.new_cache(bucket(1))
                self._fit()
            self._held.fill_(-1)
            self._torn = False
        elif self._round is not None:
            self._torn = True
            self._slots.free(self._round.slots)
            self._round = None
            self._torn = False

    def _view(self) -> int:
        """Return how many slots the next forward reads; the last one is nobody's."""
        if self.model.bitwise:
            return self._cache.capacity
        if self.model.device.type == "cpu":  # nothing is captured for a view
            return min(-(-(self._slots.top + 1) // STEP) * STEP, self._cache.capacity)
        return bucket(self._slots.top + 1)

    def _where(self, positions: list[int], slots: list[int]) -> Tensor:
        """Return positions and slots on the device, ``[2, N]``."""
        return sent([positions, slots], self.model.device)

    def _compute(
        self, tokens: Tensor, positions: list[int], seen: Tensor, *, last_only: bool
    ) -> Tensor:
        """Run the model over more nodes of the round; ``seen [n, M]`` says which nodes they see."""
        before, slots = self._round, self._slots.take(len(positions))
        ancestors = seen
        if before is not None:
            slots, positions = [*before.slots, *slots], [*before.positions, *positions]
            ancestors = torch.cat([F.pad(before.ancestors, (0, len(seen))), seen])
        self._round = _Round(slots, positions, self._where(positions, slots), ancestors)
        self.reserve(self._slots.top)
        self.forwards += 1
        with self._watched():
            return self.model.forward(
                tokens,
                self._round.where,
                seen,
                self._held,
                self._cache,
                self._view(),
                last_only=last_only,
            )

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Keep the attention of a forward, for a policy that goes by it."""
        self._seen = []
        if self._forgetting is None or not self._forgetting.observes:
            yield
            return
        seen: dict[int, Tensor] = {}
        with observed(lambda layer, weights: seen.__setitem__(layer, weights)):
            yield
        self._seen = [seen[layer] for layer in sorted(seen)]

    def _observe(self, nodes: Sequence[int]) -> None:
        """Hand the attention of the nodes that are kept to the policy; of the others, nothing."""
        if self._seen and self._forgetting is not None:
            seen, self._seen = self._seen, []
            self._forgetting.observe(seen, nodes, len(self), self._slots, self._cache)

    def _commit(
        self, tokens: Sequence[int | Tensor], slots: list[int], positions: list[int], where: Tensor
    ) -> None:
        self._torn = True
        self._held.index_copy_(0, where[1], where[0])
        # not those after the last one held: that may be one that came earlier
        indices = range(len(self), len(self) + len(slots))
        self._slots.commit(slots, positions, indices)
        self.tokens.extend(tokens)
        self._torn = False


def _nothing_held(capacity: int, device: torch.device) -> Tensor:
    """Return ``[capacity]`` of -1, which may be written to in torch's inference mode or outside."""
    with torch.inference_mode(False):
        return torch.full((capacity,), -1, dtype=torch.int64, device=device)


def _column(tokens: Sequence[int | Tensor], device: torch.device) -> Tensor:
    """Return ``[N]`` int64 on ``device`` from ids and 0-d tensors, without a host transfer."""
    if len(tokens) == 1 and isinstance(tokens[0], Tensor):
        return tokens[0].reshape(1)
    if any(isinstance(token, Tensor) for token in tokens):
        return torch.stack([torch.as_tensor(token, device=device) for token in tokens])
    return sent([int(token) for token in tokens], device)
