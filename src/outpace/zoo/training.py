"""A training run that can be stopped anywhere: schedule, optimisers, checkpoints, curve."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SAVE_EVERY = 300.0
"""Seconds between checkpoints."""
VALIDATE_EVERY = 200
"""Steps between validations."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A share of the tokens of a run, trained in rows of one length."""

    share: float
    length: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, in what rows, and how fast a run learns.

    The rate rises over the first ``warm_up`` of the tokens, stays, and falls to zero in a straight
    line over the last ``decay``.
    """

    tokens: int
    phases: Sequence[Phase]
    batch: int = 8192
    micro_batch: int = 2048
    matrix_rate: float = 5e-3
    table_rate: float = 4e-3
    warm_up: float = 0.01
    decay: float = 0.6
    seed: int = 0

    def rate(self, tokens: int) -> float:
        """Return the factor of the learning rates after ``tokens``: 0 to 1."""
        done = tokens / self.tokens
        return max(0.0, min(1.0, (done + 1e-3) / self.warm_up, (1.0 - done) / self.decay))

    def length(self, tokens: int) -> int:
        """Return the row length after ``tokens``."""
        end = 0.0
        for phase in self.phases:
            end += phase.share
            if tokens < end * self.tokens:
                return phase.length
        return self.phases[-1].length


def optimizers(model: nn.Module, plan: Plan) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the layers and AdamW for embeddings, head and norms.

    Muon: an orthogonalised momentum step, scaled to the size of an Adam step (2502.16982).
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and ".layers." in name else others).append(parameter)
    return [
        torch.optim.Muon(
            matrices, lr=plan.matrix_rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(
            others, lr=plan.table_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        ),
    ]


class Training:
    """One run over one or several models that see the same rows.

    Args:
        folder: of the checkpoint and of the curve, ``curve.jsonl``.
        models: by name; each has its own optimisers.
        rows: ``(first, count, length) -> int64 [count, length + 1]``.
        losses: a function of such rows: one loss (nats a token) for each model.
        validate: called now and then: figures for the curve.
    """

    def __init__(
        self,
        folder: Path,
        models: Mapping[str, nn.Module],
        plan: Plan,
        rows: Callable[[int, int, int], Tensor],
        losses: Callable[[Tensor], Mapping[str, Tensor]],
        validate: Callable[[], Mapping[str, float]],
    ) -> None:
        self.folder, self.models, self.plan = folder, models, plan
        self.rows, self.losses, self.validate = rows, losses, validate
        self.optimizers = {name: optimizers(model, plan) for name, model in models.items()}
        self.tokens = 0
        self.step = 0
        self.read: dict[int, int] = {}
        self.seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    def run(self, report: Callable[[str], None], *, seconds: float | None = None) -> bool:
        """Train to the end of the plan, or for about ``seconds``; return whether it is finished.

        Ctrl-C saves before it goes on to the caller.
        """
        started = saved = mark = time.monotonic()
        try:
            while self.tokens < self.plan.tokens:
                figures = self._step()
                now = time.monotonic()
                self.seconds, mark = self.seconds + now - mark, now
                if self.step % VALIDATE_EVERY == 0 or self.tokens >= self.plan.tokens:
                    figures |= self.validate()
                if self.step % 10 == 0 or len(figures) > len(self.models):
                    self._log(figures, report)
                if now - saved > SAVE_EVERY:
                    self.save()
                    saved = now
                if seconds is not None and now - started > seconds:
                    break
        finally:
            self.save()
        return self.tokens >= self.plan.tokens

    def save(self) -> None:
        """Write the checkpoint; the one before it stays until the new one is whole."""
        state = {
            "tokens": self.tokens,
            "step": self.step,
            "read": self.read,
            "seconds": self.seconds,
            "models": {name: model.state_dict() for name, model in self.models.items()},
            "optimizers": {
                name: [one.state_dict() for one in ones] for name, ones in self.optimizers.items()
            },
        }
        new = self.folder / "checkpoint.new"
        torch.save(state, new)
        os.replace(new, self.folder / "checkpoint.pt")

    def _resume(self) -> None:
        file = self.folder / "checkpoint.pt"
        if not file.is_file():
            return
        state = torch.load(file, weights_only=True)
        self.tokens, self.step = state["tokens"], state["step"]
        self.read, self.seconds = state["read"], state["seconds"]
        for name, model in self.models.items():
            model.load_state_dict(state["models"][name])
            for one, kept in zip(self.optimizers[name], state["optimizers"][name], strict=True):
                one.load_state_dict(kept)

    def _step(self) -> dict[str, float]:
        length = self.plan.length(self.tokens)
        rows = self.plan.micro_batch // length
        parts = self.plan.batch // (rows * length)
        factor = self.plan.rate(self.tokens)
        totals = dict.fromkeys(self.models, 0.0)
        for _ in range(parts):
            first = self.read.get(length, 0)
            self.read[length] = first + rows
            losses = self.losses(self.rows(first, rows, length))
            # no two models share a parameter, so the sum gives each the gradient of its own loss
            (torch.stack(list(losses.values())).sum() / parts).backward()
            for name, loss in losses.items():
                totals[name] += float(loss.detach()) / parts
        for name, model in self.models.items():
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for one in self.optimizers[name]:
                for group in one.param_groups:
                    group.setdefault("full_rate", group["lr"])
                    group["lr"] = group["full_rate"] * factor
                one.step()
                one.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += parts * rows * length
        return totals

    def _log(self, figures: Mapping[str, float], report: Callable[[str], None]) -> None:
        record: dict[str, Any] = {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 1),
            "length": self.plan.length(self.tokens),
            **{name: round(value, 4) for name, value in figures.items()},
        }
        with (self.folder / "curve.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        left = (self.plan.tokens - self.tokens) * self.seconds / max(1, self.tokens)
        shown = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
        report(
            f"{self.tokens / 1e6:.2f} of {self.plan.tokens / 1e6:.1f} M tokens, "
            f"{self.tokens / self.seconds:.0f} a second, {left / 60:.0f} min left: {shown}"
        )
