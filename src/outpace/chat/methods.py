"""Who answers: the methods of a chat, their decoders and the models these share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..cache.policies import make_policy
from ..compose import drafter_by_name, make_drafter, make_lengths, make_shape, with_partner
from ..decoder import Decoder
from ..drafters import Drafter
from ..drafters.ngram import NgramDrafter
from ..errors import InvalidArgument, UnknownName
from ..models import LanguageModel, load
from ..recipe import Recipe
from ..registry import unknown_among

PLAIN = "target"
DRAFTING = "speculative"
METHODS = (PLAIN, DRAFTING, "ngram", "drafter")
"""In the order in which they answer: what the others are compared with comes first. Of several
answers the first one of this list goes into the conversation."""
_WARM = 16
"""Tokens a new decoder writes before it is asked: the first forwards take longer than others."""


@dataclass(frozen=True, slots=True)
class NgramStorage:
    """What the method ``ngram`` counts.

    Attributes:
        order: n; contexts have up to n - 1 tokens.
        multilevel: back off from longer to shorter contexts.
        fillers: how many of the target's best tokens are counted at each position.
        keep: one store for all messages, instead of a new one for each.
    """

    order: int = 3
    multilevel: bool = True
    fillers: int = 3
    keep: bool = False

    def drafter(self) -> Drafter:
        """Return a drafter that counts so.

        Raises:
            InvalidArgument: a value out of range.
        """
        return NgramDrafter(
            self.order, multilevel=self.multilevel, fillers=self.fillers, keep=self.keep
        )


class Methods:
    """The methods: ``target``, ``speculative``, ``ngram`` and ``drafter``.

    In words: plain decoding, what the recipe says, n-gram assisted decoding, and the draft model
    alone, whose text is its own.

    Args:
        recipe: target, drafter, trees, draft length, verifier, precisions.
        load: loads models, as :func:`outpace.models.load`.

    Attributes:
        target: the model that answers.
        enabled: those that are asked, in the order of :data:`METHODS`.
        storage: what ``ngram`` counts.

    Raises:
        OutpaceError: a value, name or model that cannot be used.
    """

    def __init__(self, recipe: Recipe, *, load: Callable[..., LanguageModel] = load) -> None:
        self._load = load
        self._models: dict[tuple[str, str], LanguageModel] = {}
        self._decoders: dict[str, Decoder] = {}
        self._made_of: tuple[object, ...] = ()
        self.storage = NgramStorage()
        self.enabled: tuple[str, ...] = ()
        self.target: LanguageModel
        self.use(recipe)

    def use(self, recipe: Recipe) -> None:
        """Decode as another recipe says; nothing is changed if that cannot be.

        What is loaded already is not loaded again; what is no longer needed is given back.

        Raises:
            OutpaceError: a value, name or model that cannot be used.
        """
        name = _check(recipe)
        known = dict(self._models)
        try:
            target = self._model(recipe.target, dtype=recipe.dtype, recipe=recipe)
            drafting, made_of = self._drafting(name, recipe, target)
            decoders = {DRAFTING: drafting}
            for name in (PLAIN, "ngram", "drafter"):
                if name in self._decoders and self._stays(name, recipe, drafting):
                    decoders[name] = self._decoders[name]
                elif name in self.enabled:
                    decoders[name] = self._made(name, recipe, drafting)
        except BaseException:
            self._models = known
            raise
        self.recipe, self.target = recipe, target
        self._decoders, self._made_of = decoders, made_of
        used = {id(one) for one in self.models}
        self._models = {key: one for key, one in self._models.items() if id(one) in used}

    def enable(self, names: Sequence[str]) -> None:
        """Ask these methods, and no others.

        Raises:
            UnknownName: no such method.
            OutpaceError: one of them cannot be had.
        """
        for name in names:
            check_method(name)
        for name in names:
            self[name]
        self.enabled = tuple(name for name in METHODS if name in names)

    def count(self, storage: NgramStorage) -> None:
        """Have ``ngram`` count in another way, from nothing.

        Raises:
            InvalidArgument: a value out of range.
        """
        drafter = storage.drafter()
        if "ngram" in self._decoders:
            self._decoders["ngram"] = _ngram(drafter, self.recipe, self._decoders[DRAFTING])
        self.storage = storage

    def __getitem__(self, name: str) -> Decoder:
        """Return the decoder of a method, made now if need be.

        Raises:
            OutpaceError: it cannot be had.
        """
        if name not in self._decoders:
            self._decoders[name] = self._made(name, self.recipe, self._decoders[DRAFTING])
        return self._decoders[name]

    @property
    def drafter_name(self) -> str:
        """The drafter of ``speculative``: what ``auto`` stands for here."""
        return str(self._made_of[0])

    @property
    def models(self) -> list[LanguageModel]:
        """All models, the target first, each once."""
        found = [self.target]
        for decoder in self._decoders.values():
            found += [decoder.target, *decoder.drafter.models]
        return list({id(one): one for one in found}.values())

    def _stays(self, name: str, recipe: Recipe, drafting: Decoder) -> bool:
        """Return whether a method's decoder is the same under another recipe."""
        decoder = self._decoders[name]
        if name == "drafter":
            return decoder.target in drafting.drafter.models
        same = decoder.target is drafting.target
        same = same and str(decoder.cache_policy) == str(drafting.cache_policy)
        return same and (name == PLAIN or recipe.draft_length == self.recipe.draft_length)

    def _made(self, name: str, recipe: Recipe, drafting: Decoder) -> Decoder:
        if name == PLAIN:
            return _warmed(Decoder(drafting.target, cache_policy=drafting.cache_policy))
        if name == "ngram":
            return _ngram(self.storage.drafter(), recipe, drafting)
        models = [one for one in drafting.drafter.models if one.tokenizer is not None]
        if not models:
            raise InvalidArgument(
                f"drafter {recipe.drafter!r} has no model that could write by itself: "
                "give a draft model"
            )
        return _warmed(Decoder(models[0]))

    def _drafting(
        self, name: str, recipe: Recipe, target: LanguageModel
    ) -> tuple[Decoder, tuple[object, ...]]:
        """Return the decoder of a recipe and its drafter's name, and what the drafter is made of.

        One that only drafts another length has the same drafter, with all that it holds.
        """
        own = recipe.drafter_dtype or recipe.dtype
        policy = recipe.drafter_cache_policy
        made_of = (name, recipe.tree, own, policy, recipe.device, recipe.runtime, id(target))
        parts = replace(recipe, drafter=name, tree=None)
        if made_of == self._made_of:
            parts = replace(parts, drafter_cache_policy=None)  # it has it already
            return parts.decoder(target=target, drafter=self[DRAFTING].drafter), made_of

        def loaded(model: str, *, dtype: str, **_: Any) -> LanguageModel:
            return self._model(model, dtype=dtype, recipe=recipe)

        shape = make_shape(recipe.tree, recipe.draft_length)
        drafter = make_drafter(name, shape, dtype=own, load=loaded)
        return _warmed(parts.decoder(target=target, drafter=drafter)), made_of

    def _model(self, name: str, *, dtype: str, recipe: Recipe) -> LanguageModel:
        key = (name, f"{dtype} {recipe.device} {recipe.runtime}")
        if key not in self._models:
            self._models[key] = self._load(
                name, dtype=dtype, device=recipe.device, runtime=recipe.runtime
            )
        return self._models[key]


def _check(recipe: Recipe) -> str:
    """Return the name of a recipe's drafter; refuse what cannot be before models are loaded."""
    asked: dict[str, Any] = {"tree": recipe.tree, "draft_length": recipe.draft_length}
    name = with_partner(recipe.drafter, recipe.target, verifier=recipe.verifier, **asked)
    if recipe.draft_length is not None:
        make_lengths(recipe.draft_length)
    drafter_by_name(name, make_shape(recipe.tree, recipe.draft_length))
    make_policy(recipe.cache_policy)
    make_policy(recipe.drafter_cache_policy)
    return name


def check_method(name: str) -> None:
    """Raise UnknownName for what is no method of a chat."""
    if name not in METHODS:
        raise UnknownName(unknown_among("method", name, METHODS))


def _ngram(drafter: Drafter, recipe: Recipe, drafting: Decoder) -> Decoder:
    length = recipe.draft_length
    lengths = None if length is None else make_lengths(length)
    policy = drafting.cache_policy
    return _warmed(Decoder(drafting.target, drafter, lengths=lengths, cache_policy=policy))


def _warmed(decoder: Decoder) -> Decoder:
    """Have a new decoder write a little; what its drafter learns from it is forgotten."""
    room = decoder.target.context_length
    count = _WARM if room is None else min(_WARM, room - 1)
    if count > 0:
        decoder.generate([0], max_new_tokens=count, ignore_eos=True)
    decoder.drafter.reset()
    return decoder
