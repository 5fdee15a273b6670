"""What the tests of forgetting share: an oracle, a policy that tells, and random rounds.

The oracle is the stock model with its own attention and transformers' own cache, fed token by
token. At the lengths at which a policy forgot something, its keys and values are cut down to the
tokens that were kept; a single query needs no mask, so layers and heads may hold what they like.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

import architectures
from outpace.cache import Session
from outpace.cache.policies import CachePolicy, Held
from outpace.models import LanguageModel, wrap
from outpace.models.rotary import rotation_of
from outpace.models.step import cache_keyword
from outpace.testing import tiny_model
from outpace.types import TokenTree

SPARE = 64
Kept = dict[tuple[int, int], Tensor]
"""Of a length and a layer the tokens ``[k, H]`` that were kept there."""


class Telling(CachePolicy):
    """A policy that writes down what it keeps, and what it was shown."""

    def __init__(self, policy: CachePolicy) -> None:
        self.policy = policy
        self.uniform, self.observes = policy.uniform, policy.observes
        self.kept_at: Kept = {}
        self.shown: dict[tuple[int, int], Tensor] = {}

    @property
    def size(self) -> int | None:
        return self.policy.size

    @property
    def block(self) -> int:
        return self.policy.block

    def due(self, length: int) -> int | None:
        return self.policy.due(length)

    def groups(self, layer: int, heads: int) -> Sequence[Sequence[int]]:
        return self.policy.groups(layer, heads)

    def kept(self, held: Held) -> Tensor | None:
        places = self.policy.kept(held)
        if held.attention is not None:
            self.shown[held.length, held.layer] = held.attention.clone()
        if places is not None:
            wide = places[:, None].expand(-1, len(held.heads)) if places.dim() == 1 else places
            self.kept_at[held.length, held.layer] = held.indices.gather(0, wide)
        else:
            self.kept_at.pop((held.length, held.layer), None)
        return places

    def until(self, length: int) -> Kept:
        """What was kept of a text of this length."""
        return {at: kept for at, kept in self.kept_at.items() if at[0] <= length}

    def __str__(self) -> str:
        return str(self.policy)


class Oracle:
    """The stock model over what is kept.

    Args:
        model: whose own attention is used.
        policy: at which lengths it forgets, and whether in all layers alike.
        kept: which tokens are left there.
        turns: past the context what is held moves up and keys are turned; if not, a mistake.
        attention: transformers' attention; ``eager`` gives the weights to ``watch``.
        watch: told of the length, the layer, the tokens held ``[n, H]`` and the weights ``[H, n]``.
    """

    def __init__(
        self,
        model: LanguageModel,
        policy: CachePolicy,
        kept: Kept,
        *,
        turns: bool = True,
        attention: str = "sdpa",
        watch: Callable[[int, int, Tensor, Tensor], None] | None = None,
    ) -> None:
        self.model, self.policy, self.kept, self.turns = model, policy, kept, turns
        self.attention, self.watch = attention, watch
        self.layers = int(model.config.num_hidden_layers)
        self.lengths = {length for length, _ in kept}
        limit, size = model.context_length, policy.size
        known = None if limit is None or size is None else rotation_of(model)
        self.rotation = known

    @torch.no_grad()
    def run(self, tokens: Sequence[int]) -> Tensor:
        """Return logits ``[T, V]`` of a text."""
        stock = self.model.model
        before = stock.config._attn_implementation
        stock.set_attn_implementation(self.attention)
        cache, offset, rows = DynamicCache(), 0, []
        held: list[Tensor] = [torch.zeros(0, 1, dtype=torch.int64)] * self.layers
        where = list(held)  # positions, likewise
        try:
            length = self.policy.due(0)
            # until something is forgotten it is any text
            length = len(tokens) if length is None else min(length, len(tokens))
            if self.watch is not None:
                length = 1
            start = 0
            while start < len(tokens):
                end = length if start == 0 else start + 1
                fresh = torch.arange(start, end)
                out = stock(
                    input_ids=torch.tensor([tokens[start:end]]),
                    position_ids=(fresh - offset)[None],
                    use_cache=True,
                    output_attentions=self.watch is not None,
                    **{cache_keyword(stock): cache},
                )
                rows.append(out.logits[0].float())
                for layer in range(self.layers):
                    heads = cache.layers[layer].keys.shape[1]
                    column = fresh[:, None].expand(-1, heads)
                    held[layer] = torch.cat([held[layer].expand(-1, heads), column])
                    where[layer] = torch.cat([where[layer].expand(-1, heads), column - offset])
                    if self.watch is not None:
                        self.watch(end, layer, held[layer], out.attentions[layer][0, :, 0])
                start = end
                if self.policy.due(start - 1) == start:
                    self._cut(start, cache, held, where)
                    offset = self._turn(start, offset, cache, held, where)
        finally:
            stock.set_attn_implementation(before)
        return torch.cat(rows)

    def _cut(
        self, length: int, cache: DynamicCache, held: list[Tensor], where: list[Tensor]
    ) -> None:
        for layer in range(self.layers):
            left = self.kept.get((length, 0 if self.policy.uniform else layer))
            if left is None:
                continue
            heads = held[layer].shape[1]
            left = left.expand(-1, heads)
            places = torch.stack(
                [
                    torch.tensor([held[layer][:, head].tolist().index(one) for one in column])
                    for head, column in enumerate(left.T.tolist())
                ],
                dim=1,
            )
            held[layer], where[layer] = left, where[layer].gather(0, places)
            for name in ("keys", "values"):
                old = getattr(cache.layers[layer], name)  # [1, H, n, D]
                index = places.T[None, :, :, None].expand(-1, -1, -1, old.shape[3])
                setattr(cache.layers[layer], name, old.gather(2, index))

    def _turn(
        self,
        length: int,
        offset: int,
        cache: DynamicCache,
        held: list[Tensor],
        where: list[Tensor],
    ) -> int:
        limit = self.model.context_length
        if self.rotation is None or limit is None:
            return offset
        if length - offset + self.policy.block + SPARE <= limit:
            return offset
        longest = max(len(one) for one in held)
        for layer in range(self.layers):
            now = torch.arange(longest - len(held[layer]), longest)[:, None]
            by = now - where[layer]
            where[layer] = now.expand_as(by)
            if self.turns:
                keys = cache.layers[layer].keys
                turned = self.rotation.turn(layer, keys[0].transpose(0, 1), by)
                cache.layers[layer].keys = turned.transpose(0, 1)[None]
        return length - longest


def random_tree(chance: random.Random, vocabulary: int, nodes: int, depth: int) -> TokenTree:
    """A tree or a chain of at most so many nodes, no deeper than this."""
    tokens, parents, depths = [chance.randrange(3, vocabulary)], [-1], [0]
    chain = chance.random() < 0.3
    for _ in range(chance.randint(0, nodes - 1)):
        above = len(tokens) - 1 if chain else chance.randrange(len(tokens))
        if depths[above] < depth:
            tokens.append(chance.randrange(3, vocabulary))
            parents.append(above)
            depths.append(depths[above] + 1)
    return TokenTree(torch.tensor(tokens), torch.tensor(parents))


def random_path(chance: random.Random, tree: TokenTree) -> list[int]:
    """Some nodes from a child of the root downwards, in order."""
    parents = tree.lists()[1]
    path, node = [], 0
    while chance.random() < 0.8:
        below = [child for child, parent in enumerate(parents) if parent == node]
        if not below:
            break
        node = chance.choice(below)
        path.append(node)
    return path


class Rounds:
    """Random rounds on a session, and the logits of all tokens it has computed.

    Args:
        session: of a model with a policy.
        seed: of the rounds.
        backs: whether it is rolled back now and then, and once below what was forgotten.

    Attributes:
        rows: logits ``[V]`` of each token that is held and was computed in a round.
        backs: how often the session went back.
        restarts: how often it began anew.
    """

    def __init__(self, session: Session, seed: int = 0, *, backs: bool = True) -> None:
        self.session, self.chance = session, random.Random(seed)
        self.rows: dict[int, Tensor] = {}
        self.floor = 0
        self.may_go_back, self.backs, self.restarts = backs, 0, 0

    @property
    def tokens(self) -> list[int]:
        """The text."""
        return [int(token) for token in self.session.tokens]

    def run(self, length: int) -> None:
        """Go on until the text has this length."""
        session, vocabulary = self.session, self.session.model.vocabulary
        if not len(session):
            self.prefill([self.chance.randrange(3, vocabulary) for _ in range(7)])
        while len(session) < length:
            self.round(vocabulary)
            if not self.may_go_back:
                continue
            if not self.restarts and self.floor > 8 and len(session) > 0.7 * length:
                self.restart()
            elif self.chance.random() < 0.2:
                self.back_to(self.chance.randint(max(self.floor, 1), len(session)))

    def prefill(self, tokens: list[int]) -> None:
        """Hold a text; its last row is known."""
        logits = self.session.prefill(tokens)
        self.rows[len(tokens) - 1] = logits.clone()
        self._see_floor()

    def round(self, vocabulary: int) -> None:
        """One round."""
        session = self.session
        most = 6 if session.room is None else min(6, session.room - 1)
        tree = random_tree(self.chance, vocabulary, 9, most)
        logits, start = session.forward(tree), len(session)
        path = random_path(self.chance, tree)
        session.commit(tree, path)
        for place, node in enumerate([0, *path]):
            self.rows[start + place] = logits[node].clone()
        session.forget()
        self._see_floor()

    def back_to(self, length: int) -> None:
        """Roll back to a length that is held, or for that matter begin anew."""
        before = self.tokens
        self.backs += 1
        self.session.rollback(length)
        if len(self.session) < length:
            self.prefill(before[:length])
        self.rows = {at: row for at, row in self.rows.items() if at < length}

    def restart(self) -> None:
        """Roll back below the last boundary: all is lost, and the text is held anew."""
        length = self.floor - 3
        before = self.tokens
        self.session.rollback(length)
        assert len(self.session) == len(self.session.indices) == 0
        self.restarts += 1
        self.rows, self.floor = {}, 0
        self.prefill(before[:length])

    def _see_floor(self) -> None:
        due, length = self.session.policy.due, len(self.session)
        for one in range(self.floor + 1, length + 1):
            if due(one - 1) == one:
                self.floor = one


def deviation(rows: dict[int, Tensor], own: Tensor) -> float:
    """How far logits are from the oracle's at most, as a share of their scale."""
    places = sorted(rows)
    ours = torch.stack([rows[place].float() for place in places])
    return float((ours - own[places]).abs().max() / own.abs().max())


def built(name: str) -> LanguageModel:
    """A random model of a family; ``small`` is a Llama of 160 positions."""
    if name == "small":
        return tiny_model(context_length=160)
    return wrap(architectures.build(name), name=name)
