"""The load-time probe: a model is used only if one forward over a tree equals plain forwards."""

import torch
from torch import Tensor

from ..errors import UnsupportedModel
from .kv import Shape
from .language_model import LanguageModel
from .runtime import EagerRuntime, Inputs, Runtime

_LENGTH = 24
_FORK = 16  # the prompt's length; two branches of 4 follow, in one forward
_BRANCH = 4
_SLOTS = 32

# Allowed deviation, in standard deviations of a row of logits. Wrong positions or masks are off
# by tenths and more in fp32; low precision rounds differently at different widths.
_TOLERANCE = {torch.float32: 2e-3, torch.float64: 2e-3, torch.float16: 0.15, torch.bfloat16: 0.3}


def probe(model: LanguageModel) -> None:
    """Check a model on 24 tokens in permuted slots, the last eight of them two branches.

    Raises:
        UnsupportedModel: with the model's name and what went wrong.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.vocabulary, (_LENGTH,), generator=generator).to(model.device)
    slots = torch.randperm(_SLOTS - 1, generator=generator)[:_LENGTH].to(model.device)
    try:
        plain = _plain(model, tokens)
        ours = _tree(model, tokens, slots)
    except torch.OutOfMemoryError:
        raise  # this says nothing about the model
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{_label(model)}: {error}") from error
    except Exception as error:
        # Whatever a model of unknown make raises here is the reason it cannot be used.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnsupportedModel(f"{_label(model)} failed the load-time probe: {reason}") from error
    deviation = _deviation(plain, ours)
    tolerance = _TOLERANCE.get(model.dtype, 0.3)
    if not deviation <= tolerance:
        raise UnsupportedModel(
            f"{_label(model)} failed the load-time probe: one forward over a token tree differs "
            f"from plain forwards by {deviation:.2g} standard deviations (allowed {tolerance:g}), "
            "as with position biases that count slots (ALiBi) or linear attention: "
            "use transformers' own generate for this model"
        )


def agreement(model: LanguageModel, runtime: Runtime) -> tuple[float, float]:
    """Return how far a runtime's logits are from the eager ones, and how far they may be.

    Both in standard deviations of a row of logits; over a prefill and two branches, slots out of
    order.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.vocabulary, (_LENGTH,), generator=generator).to(model.device)
    slots = torch.randperm(_SLOTS - 1, generator=generator)[:_LENGTH].to(model.device)
    eager, other = (_tree(model, tokens, slots, one) for one in (EagerRuntime(model.step), runtime))
    return _deviation(eager, other), _TOLERANCE.get(model.dtype, 0.3)


def layer_shapes(model: LanguageModel) -> list[Shape]:
    """Return heads and width of every layer's keys and values, by a forward over one token."""
    cache = model.new_cache(_SLOTS)
    one = torch.zeros(1, 1, dtype=torch.int64, device=model.device)
    held = torch.full((_SLOTS,), -1, device=model.device)
    where = torch.cat([one, one])
    with model.attached():
        EagerRuntime(model.step).run(
            Inputs(one[0], where, one == 0, held, cache, _SLOTS, last_only=True)
        )
    return cache.shapes


def _label(model: LanguageModel) -> str:
    return f"{model.name} ({model.config.model_type})"


def _branches(tokens: Tensor) -> tuple[Tensor, Tensor]:
    return tokens[: _FORK + _BRANCH], torch.cat([tokens[:_FORK], tokens[_FORK + _BRANCH :]])


def _plain(model: LanguageModel, tokens: Tensor) -> Tensor:
    """Logits ``[8, V]`` of both branches by stock forwards without a cache."""
    rows = [model.stock_logits(branch[None])[0, _FORK:] for branch in _branches(tokens)]
    return torch.cat(rows).float()


def _tree(
    model: LanguageModel, tokens: Tensor, slots: Tensor, runtime: Runtime | None = None
) -> Tensor:
    """The same logits by a prefill and one forward over both branches, slots out of order."""
    device = model.device
    cache = model.new_cache(_SLOTS)
    held = torch.full((_SLOTS,), -1, dtype=torch.int64, device=device)
    positions = torch.arange(_FORK, device=device)
    causal = torch.ones(_FORK, _FORK, dtype=torch.bool, device=device).tril()
    first = torch.stack([positions, slots[:_FORK]])
    one = torch.ones(_BRANCH, _BRANCH, dtype=torch.bool, device=device).tril()
    both = torch.block_diag(one, one).bool()
    depths = torch.arange(_FORK, _FORK + _BRANCH, device=device).repeat(2)
    second = torch.stack([depths, slots[_FORK:]])

    def forward(tokens: Tensor, where: Tensor, seen: Tensor, *, last_only: bool) -> Tensor:
        if runtime is None:
            return model.forward(tokens, where, seen, held, cache, _SLOTS, last_only=last_only)
        return runtime.run(Inputs(tokens, where, seen, held, cache, _SLOTS, last_only))

    with model.attached():
        forward(tokens[:_FORK], first, causal, last_only=True)
        held[slots[:_FORK]] = positions
        return forward(tokens[_FORK:], second, both, last_only=False).float()


def _deviation(plain: Tensor, ours: Tensor) -> float:
    scale = plain.std(dim=-1, keepdim=True).clamp(min=1e-6)
    return float(((plain - ours).abs() / scale).max())
