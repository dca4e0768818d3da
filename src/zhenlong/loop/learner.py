"""One optimiser step: forward and backward over micro-batches, whole-step normalisation, clipping, AdamW.

Not included: data parallelism. The normalising count is an argument, so that a stage that splits a step over ranks can
pass the count over all ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from zhenlong.errors import UserError
from zhenlong.loop.ledger import FlopEstimator
from zhenlong.loop.options import TrainingOptions
from zhenlong.loop.precision import autocast
from zhenlong.loop.schedule import SchedulePhase, learning_rate, schedule_phase

B = TypeVar("B")
Number = Tensor | float
MetricSum = Number | tuple[Number, Number]


@dataclass(frozen=True)
class StepLoss:
    """What a loss function returns for one micro-batch: sums, which the learner divides by the step's count.

    `total` is the sum of the loss over tokens, responses or pairs: a scalar with a gradient. Each metric is a sum over
    the same items, or a tuple (sum, its own count).
    """

    total: Tensor
    metrics: Mapping[str, MetricSum] = field(default_factory=dict)


class NonFiniteError(UserError):
    """The loss or gradient is not finite. The weights are still those from before the step."""


@dataclass
class _TrainedModule:
    """A trained module with its own peak learning rate and its own gradient clipping."""

    module: nn.Module
    lr: float
    parameters: dict[str, nn.Parameter]
    name: str


class Learner:
    """Trains the parameters of `model` that require a gradient.

    `total_steps` is the number of updates that the schedule spans. `extra_modules` are trained too, each with its own
    peak learning rate under the same schedule and its own gradient clipping: `{"critic": (critic, 1e-5)}`. A parameter
    shared by an extra module and the model is trained once, as the model's. All modules are set to train mode.
    `dtype` is the precision of matrix products, `run.dtype` in a stage.
    """

    def __init__(
        self,
        model: nn.Module,
        options: TrainingOptions,
        total_steps: int,
        extra_modules: Mapping[str, tuple[nn.Module, float]] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.options, self.total_steps, self.dtype = options, total_steps, dtype
        self.updates = 0
        assigned: set[int] = set()
        named = {"model": (model, options.lr), **(extra_modules or {})}
        self._trained_modules = {
            name: _trained_module(name, module, lr, assigned) for name, (module, lr) in named.items()
        }
        if not self._trained_modules["model"].parameters:
            raise UserError("model: expected parameters to train, got none that require a gradient")
        self.device = next(iter(self._trained_modules["model"].parameters.values())).device
        groups = [group for part in self._trained_modules.values() for group in _parameter_groups(part, options)]
        betas = (options.beta1, options.beta2)
        self.optimizer = torch.optim.AdamW(groups, lr=options.lr, betas=betas, eps=options.eps, fused=True)
        for module in self.modules:
            module.train()

    @property
    def modules(self) -> list[nn.Module]:
        """All trained modules."""
        return [part.module for part in self._trained_modules.values()]

    @property
    def schedule_phase(self) -> SchedulePhase:
        """The schedule phase of the next update."""
        return schedule_phase(self.updates, self.options, self.total_steps)

    @cached_property
    def flops(self) -> FlopEstimator:
        """What passes of the model cost, for the ledger."""
        return FlopEstimator.for_model(self._trained_modules["model"].module)

    def autocast(self) -> AbstractContextManager[None]:
        """The precision context in which `step` computes the loss; use it for log-probs that must match."""
        return autocast(self.dtype, self.device)

    def step(
        self,
        microbatches: Sequence[B],
        loss_fn: Callable[[B], StepLoss],
        count: float,
        record_ids: Sequence[Sequence[Any]] | None = None,
    ) -> dict[str, float]:
        """Make one update with the gradient of sum(total) / `count` over all micro-batches.

        Args:
            microbatches: the micro-batches of the step; how the step is split never changes the gradient.
            loss_fn: the loss of one micro-batch, as sums.
            count: number of scored tokens, responses or pairs in the whole step, above 0.
            record_ids: the record ids of each micro-batch, reported if the loss is not finite.

        Returns:
            loss, lr and grad_norm (before clipping), `<name>_lr` and `<name>_grad_norm` for extra modules, and the
            metrics of the loss. A metric whose own count is 0 is omitted.

        Raises:
            NonFiniteError: the loss or the gradient is not finite; weights and optimiser are unchanged.
        """
        if not microbatches or not count > 0:
            raise ValueError(f"a step needs micro-batches and a count above 0, got {len(microbatches)} and {count}")
        losses = []
        try:
            for batch in microbatches:
                with self.autocast():
                    losses.append(_backward(loss_fn(batch), count))
            norms = {name: self._clip_gradient(part) for name, part in self._trained_modules.items()}
            totals = torch.stack([one.total.float() for one in losses])
            self._check_finite(totals, norms, record_ids)
            learning_rates = self._set_learning_rates()
            self.optimizer.step()
        finally:
            self.optimizer.zero_grad(set_to_none=True)
        self.updates += 1
        metrics = {"loss": float(totals.sum()) / count}
        for name, norm in norms.items():
            prefix = "" if name == "model" else f"{name}_"
            metrics |= {f"{prefix}lr": learning_rates[name], f"{prefix}grad_norm": float(norm)}
        return metrics | _aggregate_metrics([one.metrics for one in losses], count)

    def state_dict(self) -> dict[str, Any]:
        """Trained parameters, persistent buffers, optimiser state, number of updates. Tensors are not copied."""
        modules = {
            name: {**part.parameters, **_persistent_buffers(part.module)}
            for name, part in self._trained_modules.items()
        }
        return {"modules": modules, "optimizer": self.optimizer.state_dict()["state"], "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state. Raises `UserError` when it belongs to another model."""
        for name, part in self._trained_modules.items():
            tensors = {**part.parameters, **_persistent_buffers(part.module)}
            saved = state["modules"].get(name, {})
            if {key: t.shape for key, t in tensors.items()} != {key: t.shape for key, t in saved.items()}:
                raise UserError(
                    f"{name}: the trained parameters differ from those of the run to resume; choose another output"
                )
            with torch.no_grad():
                for key, tensor in tensors.items():
                    tensor.copy_(saved[key])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
        self.updates = state["updates"]

    def _clip_gradient(self, part: _TrainedModule) -> Tensor:
        """Clip the gradients in place and return their norm before clipping. Non-finite gradients stay unchanged."""
        limit = self.options.max_grad_norm or math.inf
        return nn.utils.clip_grad_norm_(part.parameters.values(), limit, foreach=True)

    def _set_learning_rates(self) -> dict[str, float]:
        schedule_factor = learning_rate(self.updates, self.options, self.total_steps) / (self.options.lr or 1.0)
        learning_rates = {name: part.lr * schedule_factor for name, part in self._trained_modules.items()}
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rates[group["part"]]
        return learning_rates

    def _check_finite(
        self, totals: Tensor, norms: dict[str, Tensor], record_ids: Sequence[Sequence[Any]] | None
    ) -> None:
        finite = torch.isfinite(totals)
        if bool(finite.all()) and all(bool(torch.isfinite(norm)) for norm in norms.values()):
            return
        bad = [i for i, good in enumerate(finite.tolist()) if not good]
        what = "loss" if bad else "gradient"
        named = [str(one) for i in bad or range(len(totals)) for one in (record_ids[i] if record_ids else ())]
        records = f" on records {', '.join(named[:20])}{' and more' if len(named) > 20 else ''}" if named else ""
        raise NonFiniteError(
            f"step {self.updates + 1}: the {what} is not finite{records}; "
            "the weights are those from before this step; lower lr, or inspect these records"
        )


def _trained_module(name: str, module: nn.Module, lr: float, assigned: set[int]) -> _TrainedModule:
    """The module with its trainable parameters, except those that an earlier module already has."""
    found = {key: p for key, p in module.named_parameters() if p.requires_grad and id(p) not in assigned}
    assigned.update(id(p) for p in found.values())
    return _TrainedModule(module, lr, found, name)


def _parameter_groups(part: _TrainedModule, options: TrainingOptions) -> list[dict[str, Any]]:
    """AdamW's parameter groups: weight decay for matrices and embeddings, none for vectors (biases, norm gains)."""
    matrices = [p for p in part.parameters.values() if p.dim() >= 2]
    vectors = [p for p in part.parameters.values() if p.dim() < 2]
    decays = ((matrices, options.weight_decay), (vectors, 0.0))
    return [{"params": ps, "weight_decay": decay, "part": part.name} for ps, decay in decays if ps]


def _persistent_buffers(module: nn.Module) -> dict[str, Tensor]:
    """The buffers that are part of the module's state dict, such as running statistics."""
    persistent = module.state_dict(keep_vars=True).keys()
    return {name: buffer for name, buffer in module.named_buffers() if name in persistent}


def _backward(result: StepLoss, count: float) -> StepLoss:
    """Accumulate the gradient of one micro-batch; returns its sums, detached."""
    (result.total / count).backward()
    return StepLoss(result.total.detach(), {name: _detached(metric) for name, metric in result.metrics.items()})


def _detached(metric: MetricSum) -> MetricSum:
    if isinstance(metric, tuple):
        return tuple(_detached(one) for one in metric)  # type: ignore[return-value]
    return metric.detach() if isinstance(metric, Tensor) else metric


def _aggregate_metrics(metrics: Sequence[Mapping[str, MetricSum]], count: float) -> dict[str, float]:
    """Sums over all micro-batches, divided by the step's count or by the metric's own."""
    sums: dict[str, list[float]] = {}
    for name, metric in (item for one in metrics for item in one.items()):
        value, metric_count = (metric[0], float(metric[1])) if isinstance(metric, tuple) else (metric, math.nan)
        entry = sums.setdefault(name, [0.0, 0.0])
        entry[0] += float(value)
        entry[1] += metric_count
    return {name: s / (count if math.isnan(n) else n) for name, (s, n) in sums.items() if n != 0}
