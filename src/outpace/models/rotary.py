"""Rotary positions: turning keys that are in the cache from one position to another.

A model with rotary positions (RoPE, arXiv 2104.09864) stores the key of a token at position p as
R(p) k. Rotations compose, so the key at p + δ is R(δ) times the stored one, and nothing of the
model has to run again: what positions relative to the cache need (StreamingLLM, arXiv 2309.17453).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..errors import UnsupportedModel
from .language_model import LENGTH_DEPENDENT_ROPE, LanguageModel
from .runtime import EagerRuntime, Inputs

_TOKENS = 16
_REACH = 2048  # the check's positions are below: beyond, the model's own angles are less exact

# Allowed deviation of a turned key, see _deviation. A wrong rotation is off by 0.9 and more; in
# low precision rounding is 0.01, and an expert chosen differently for one token up to a tenth.
_TOLERANCE = {torch.float32: 2e-3, torch.float64: 2e-3}
_ROUGH = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class _Planes:
    """The planes in which a layer's keys are turned, P of them.

    Attributes:
        first: which P dimensions of a key are the planes' first axes.
        second: which are their second axes, in the same order.
        frequencies: ``[P]`` float64, radians a position from the first axis towards the second.
    """

    first: slice
    second: slice
    frequencies: Tensor

    def turn(self, keys: Tensor, by: Tensor) -> Tensor:
        """Return ``keys [n, H_kv, D]``, ``by [n]`` or ``[n, H_kv]`` positions further."""
        exact = torch.promote_types(keys.dtype, torch.float32)
        # The angles in float64: at thousands of positions float32 has lost four of its digits.
        angles = by.to(torch.float64)[..., None] * self.frequencies.to(keys.device)
        if by.dim() == 1:
            angles = angles[:, None]
        cos, sin = angles.cos().to(exact), angles.sin().to(exact)
        one, other = keys[..., self.first].to(exact), keys[..., self.second].to(exact)
        turned = keys.clone()
        # Without the factor some scalings have on cos and sin: it is in the keys already.
        turned[..., self.first] = (one * cos).addcmul_(other, sin, value=-1)
        turned[..., self.second] = (other * cos).addcmul_(one, sin)
        return turned

    def lengths(self, keys: Tensor) -> Tensor:
        """Return ``[n, H_kv, D]``: of each number its plane's length, of one in none its own."""
        lengths = keys.abs()
        both = torch.hypot(keys[..., self.first], keys[..., self.second])
        lengths[..., self.first] = lengths[..., self.second] = both
        return lengths


class Rotation:
    """How a model's keys are turned; made once per model, by :func:`rotation_of`.

    Args:
        layers: of each layer the planes in which its keys are turned; None where it has none.
    """

    def __init__(self, layers: Sequence[_Planes | None]) -> None:
        self._layers = tuple(layers)

    def turn(self, layer: int, keys: Tensor, by: Tensor) -> Tensor:
        """Return keys as the model would have made them at other positions.

        Turn a key once, by the whole distance: each time rounds it again, and a thousand turns by
        one leave nothing of it in bfloat16.

        Args:
            layer: the layer the keys are of.
            keys: ``[n, H_kv, D]`` of any float dtype, as they are in the cache.
            by: ``[n]`` or ``[n, H_kv]`` int64 on the same device, how many positions further each
                goes; negative is back.

        Returns:
            ``[n, H_kv, D]`` of the keys' dtype, computed in float32; the keys themselves where
            the layer does not turn any.
        """
        planes = self._layers[layer]
        return keys if planes is None else planes.turn(keys, by)


_Twice = tuple[Tensor, Tensor]
"""Of 16 tokens at p and at p + δ, ``[16, H_kv, D]`` each."""

_FOUND: WeakKeyDictionary[LanguageModel, Rotation | None] = WeakKeyDictionary()


def rotation_of(model: LanguageModel) -> Rotation | None:
    """Return how a model's keys are turned, checked by running it; found once.

    Returns:
        None for a model whose positions are not in its keys by a rotation: learned ones, as in
        GPT-2, or none.

    Raises:
        UnsupportedModel: the angles depend on the length of the sequence, or no known way to turn
            its keys gives what the model itself makes at other positions.
    """
    if model not in _FOUND:
        _FOUND[model] = _find(model)
    return _FOUND[model]


def _find(model: LanguageModel) -> Rotation | None:
    """Return how the keys are turned, uncached."""
    _refuse_length_dependent(model)
    keys, values, by = _same_tokens_twice(model)
    frequencies = _frequencies(model)
    tolerance = _ROUGH if model.is_quantized else _TOLERANCE.get(model.dtype, _ROUGH)
    layers: list[_Planes | None] = []
    for layer, (old, new) in enumerate(keys):
        planes, deviation = _best(old, new, by, frequencies)
        if not deviation <= tolerance:
            if not frequencies and not _same_length(old, new, tolerance):
                return None  # the token and its position were added before, as learned ones are
            raise _refusal(
                model,
                f"in layer {layer} the best known rotation is off by {deviation:.2g} of their "
                f"size (allowed {tolerance:g})",
            )
        layers.append(planes)
    for layer, (old, new) in enumerate(values):
        if not _deviation(old, new, by, None) <= tolerance:
            # Compressed keys and values (latent attention) lie there with positions of their own.
            raise _refusal(model, f"in layer {layer} what it keeps as values has positions too")
    return Rotation(layers) if any(layers) else None


def _refusal(model: LanguageModel, why: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{model.name} ({model.config.model_type}): its keys cannot be moved to other positions, "
        f"{why}: keep their positions as they are"
    )


def _refuse_length_dependent(model: LanguageModel) -> None:
    rope: Any = getattr(model.config, "rope_parameters", None) or {}
    for given in (rope, *rope.values()):  # one for the model, or one for each kind of layer
        kind = given.get("rope_type") if isinstance(given, dict) else None
        if kind in LENGTH_DEPENDENT_ROPE:
            raise _refusal(model, f"{kind} rotary scaling changes with the length of the text")


@torch.inference_mode()
def _same_tokens_twice(model: LanguageModel) -> tuple[list[_Twice], list[_Twice], Tensor]:
    """Run tokens at positions p and at p + δ.

    Each row sees itself alone, as a text of one token would. So the hidden states are the same
    wherever it is, in every layer and down to the last bits, and keys differ by what the position
    does to them: a check of all layers that low precision does not blur.

    Returns:
        Keys, values, of each layer those at p and those at p + δ, and δ ``[16]``.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.vocabulary, (_TOKENS,), generator=generator)
    reach = min(model.context_length or _REACH, _REACH)
    positions = torch.randint(reach, (2, _TOKENS), generator=generator)
    rows = 2 * _TOKENS
    view = rows + 1
    where = torch.stack([positions.flatten(), torch.arange(rows)]).to(model.device)
    alone = torch.eye(rows, dtype=torch.bool, device=model.device)
    held = torch.full((view,), -1, dtype=torch.int64, device=model.device)
    cache = model.new_cache(view)
    with model.attached():
        EagerRuntime(model.step).run(
            Inputs(tokens.repeat(2).to(model.device), where, alone, held, cache, view, True)
        )
    keys, values = ([(a[:_TOKENS], a[_TOKENS:rows]) for a in every] for every in cache.tensors)
    by = positions[1] - positions[0]
    return keys, values, by.to(model.device)


def _frequencies(model: LanguageModel) -> list[Tensor]:
    """Return what a model has as radians a position, ``[P]`` float64 each; usually one."""
    found: dict[tuple[float, ...], Tensor] = {}
    for name, buffer in model.model.named_buffers():
        if name.endswith("inv_freq") and not name.endswith("original_inv_freq"):
            one = buffer.detach().flatten().to(torch.float64)
        elif name.endswith("embed_positions") and buffer.dim() == 2:
            # GPT-J, CodeGen: a table of sines and cosines. Not read from its entries, which a
            # model in half precision has rounded.
            width = buffer.shape[1]
            even = torch.arange(0, width, 2, dtype=torch.float64, device=buffer.device)
            one = 1e4 ** (-even / width)
        else:
            continue
        found.setdefault(tuple(one.tolist()), one.clone())
    return list(found.values())


def _ways(frequencies: Tensor, width: int) -> Iterator[_Planes]:
    """Yield the ways keys of D = ``width`` numbers may be turned by P frequencies.

    The rotated part is the first 2P numbers, or the last (latent attention); its planes are
    (i, P + i), in halves, or (2i, 2i + 1), interleaved; and NanoChat turns the other way.
    """
    pairs = frequencies.shape[0]
    rest = width - 2 * pairs
    for start in sorted({0, rest}) if rest >= 0 else ():
        middle, end = start + pairs, start + 2 * pairs
        for first, second in (
            (slice(start, middle), slice(middle, end)),
            (slice(start, end, 2), slice(start + 1, end, 2)),
        ):
            for sense in (1, -1):
                yield _Planes(first, second, sense * frequencies)


def _best(
    old: Tensor, new: Tensor, by: Tensor, frequencies: Sequence[Tensor]
) -> tuple[_Planes | None, float]:
    """Return the way that turns ``old`` into ``new`` best, None is not at all, and how well."""
    best: _Planes | None = None
    least = _deviation(old, new, by, None)
    for one in frequencies:
        for planes in _ways(one, old.shape[-1]):
            deviation = _deviation(old, new, by, planes)
            if not least <= deviation:  # also where the least is no number
                best, least = planes, deviation
    return best, least


def _deviation(old: Tensor, new: Tensor, by: Tensor, planes: _Planes | None) -> float:
    """Return how far turned keys are from the real ones, in the dimension where it is most.

    Over tokens and heads, as a share of the planes' length: of the dimension, not of the whole
    key, as models with biased keys have dimensions a hundred times as large as the others.
    """
    old, new = old.float(), new.float()
    lengths, wrong = new.abs(), old - new
    if planes is not None:
        lengths, wrong = planes.lengths(new), planes.turn(old, by) - new
    size, off = (each.square().mean(dim=(0, 1)).sqrt() for each in (lengths, wrong))
    least = 1e-2 * new.square().mean().sqrt()  # a dimension of zeros and noise says nothing
    return float((off / size.clamp(min=float(least) + 1e-30)).max())


def _same_length(old: Tensor, new: Tensor, tolerance: float) -> bool:
    """Whether keys have the same length at other positions, as after any rotation."""
    before, after = old.float().norm(dim=-1), new.float().norm(dim=-1)
    return bool(((after - before).abs() <= tolerance * before).all())
