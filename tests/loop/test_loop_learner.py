"""An optimiser step follows its equation, however it is split into micro-batches."""

import math

import pytest
import torch
from tiny import tiny_model
from torch import nn

from zhenlong.errors import UserError
from zhenlong.loop import Learner, NonFiniteError, StepLoss, TrainingOptions, learning_rate

SMOOTH = {"lr": 0.1, "eps": 1.0, "schedule": "linear"}  # eps 1: the update is smooth in the gradient


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def close(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.allclose(x, y, rtol=1e-5, atol=1e-7) for x, y in zip(a, b, strict=True))


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def token_losses(model, rows: list[torch.Tensor]) -> torch.Tensor:
    """The sum of next-token losses over sequences of different lengths."""
    logits = [model(row[None, :-1]).logits[0] for row in rows]
    losses = [
        nn.functional.cross_entropy(one.float(), row[1:], reduction="sum")
        for one, row in zip(logits, rows, strict=True)
    ]
    return torch.stack(losses).sum()


def rows_of(lengths: list[int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(259, (n,), generator=generator) for n in lengths]


def test_splitting_a_step_into_microbatches_does_not_change_the_update():
    """One batch, single rows and uneven splits all equal plain AdamW on the mean over all scored tokens."""
    rows = rows_of([3, 9, 4, 17, 2, 6, 5, 12])
    count = sum(len(row) - 1 for row in rows)
    plain = tiny_model("llama")
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.1, betas=(0.9, 0.95), eps=1.0, weight_decay=0.0)
    (token_losses(plain, rows) / count).backward()
    norm = nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
    optimizer.step()
    for cut in ([8], [1] * 8, [1, 5, 2]):
        model = tiny_model("llama")
        learner = Learner(model, TrainingOptions(max_grad_norm=0.5, **SMOOTH), 10)
        batches = [rows[sum(cut[:i]) : sum(cut[: i + 1])] for i in range(len(cut))]
        metrics = learner.step(batches, lambda batch: StepLoss(token_losses(model, batch)), count)  # noqa: B023
        assert close(weights(model), weights(plain))
        assert metrics["grad_norm"] == pytest.approx(float(norm), rel=1e-4)
        assert metrics["grad_norm"] > 0.5  # the norm is the one before clipping
        assert metrics["loss"] == pytest.approx(math.log(259), rel=0.05)


def test_the_learning_rate_follows_the_schedule():
    model = nn.Linear(2, 1)
    options = TrainingOptions(lr=0.5, schedule="cosine", warmup_steps=2)
    learner = Learner(model, options, 6)
    seen = [learner.step([1], lambda _: StepLoss(model.weight.sum()), 1)["lr"] for _ in range(6)]
    assert seen == pytest.approx([learning_rate(step, options, 6) for step in range(6)])


def test_weight_decay_applies_to_matrices_only():
    model = nn.Sequential(nn.Embedding(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    before = weights(model)
    learner = Learner(model, TrainingOptions(weight_decay=0.1, **SMOOTH), 10)
    learner.step([torch.arange(3)], lambda ids: StepLoss(model(ids).sum() * 0.0), 1)
    shrunk = [p * (1 - 0.1 * 0.1) if p.dim() > 1 else p for p in before]
    assert close(weights(model), shrunk)


def test_a_max_grad_norm_of_0_disables_clipping():
    model = nn.Linear(3, 1, bias=False)
    before = model.weight.detach().clone()
    learner = Learner(model, TrainingOptions(max_grad_norm=0.0, **SMOOTH), 10)
    metrics = learner.step([100.0], lambda x: StepLoss(model.weight.sum() * x), 1)
    assert metrics["grad_norm"] == pytest.approx(100 * math.sqrt(3))
    assert torch.allclose(model.weight, before - 0.1 * 100 / (100 + 1))  # AdamW's first step: g / (|g| + eps)


def test_metrics_are_sums_divided_by_the_step_s_count_or_their_own():
    model = nn.Linear(1, 1)
    learner = Learner(model, TrainingOptions(), 10)

    def loss(n: int) -> StepLoss:
        pairs = {"own": (torch.tensor(3.0 * n), n), "none": (0.0, 0)}
        return StepLoss(model.weight.sum() * n, {"mean": torch.tensor(2.0 * n), **pairs})

    metrics = learner.step([1, 3], loss, count=8)
    assert metrics["mean"] == pytest.approx(1.0)
    assert metrics["own"] == pytest.approx(3.0)
    assert "none" not in metrics


def bad_loss(model: nn.Linear, x: float) -> StepLoss:
    return StepLoss(model.weight.sum() * x)


def bad_gradient(model: nn.Linear, x: float) -> StepLoss:
    """Finite, but the square root's slope at 0 is infinite where x is not finite."""
    zero = (model.weight * 0).abs().sum()
    return StepLoss(zero.sqrt() if not math.isfinite(x) else model.weight.sum())


@pytest.mark.parametrize(
    ("loss", "message"),
    [(bad_loss, "the loss is not finite on records c, d;"), (bad_gradient, "the gradient is not finite on records a,")],
)
def test_a_non_finite_step_raises_and_changes_nothing(loss, message):
    model = nn.Linear(2, 1, bias=False)
    learner = Learner(model, TrainingOptions(**SMOOTH), 10)
    learner.step([1.0], lambda x: bad_loss(model, x), 1)
    before, state = weights(model), [value.clone() for value in learner.optimizer.state[model.weight].values()]
    with pytest.raises(NonFiniteError, match=f"^step 2: {message}") as error:
        learner.step([1.0, math.nan, 2.0], lambda x: loss(model, x), 3, record_ids=[["a", "b"], ["c", "d"], ["e"]])
    assert isinstance(error.value, UserError)
    assert equal(weights(model), before)
    assert equal(list(learner.optimizer.state[model.weight].values()), state)
    assert model.weight.grad is None
    assert learner.updates == 1


def test_extra_modules_have_their_own_learning_rate_and_clipping():
    """A critic with an enormous gradient does not shrink the policy's; shared parameters are trained once."""
    policy, alone = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    alone.load_state_dict(policy.state_dict())
    critic = nn.Sequential(policy, nn.Linear(1, 1, bias=False))
    options = TrainingOptions(max_grad_norm=1.0, **SMOOTH)
    both = Learner(policy, options, 10, extra_modules={"critic": (critic, 0.01)})
    head = critic[1].weight
    metrics = both.step([1], lambda _: StepLoss(policy.weight.sum() + 1e6 * head.sum()), 1)
    Learner(alone, options, 10).step([1], lambda _: StepLoss(alone.weight.sum()), 1)
    assert equal(weights(policy), weights(alone))
    assert metrics["lr"] == pytest.approx(0.1)
    assert metrics["critic_lr"] == pytest.approx(0.01)
    assert metrics["critic_grad_norm"] == pytest.approx(1e6)


def test_frozen_parameters_are_neither_trained_nor_saved():
    model = tiny_model("llama")
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.endswith("q_proj.weight")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    learner = Learner(model, TrainingOptions(**SMOOTH), 10)
    learner.step([rows_of([9])], lambda rows: StepLoss(token_losses(model, rows)), 8)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(learner.state_dict()["modules"]["model"])
    assert changed == {name for name in before if name.endswith("q_proj.weight")}
    model.requires_grad_(False)
    with pytest.raises(UserError, match="none that require a gradient"):
        Learner(model, TrainingOptions(**SMOOTH), 10)


def test_bfloat16_applies_to_matrix_products_and_weights_stay_float32():
    model = nn.Linear(4, 4)
    learner = Learner(model, TrainingOptions(**SMOOTH), 10, dtype=torch.bfloat16)
    seen = []

    def loss(x: torch.Tensor) -> StepLoss:
        seen.append(model(x).dtype)
        return StepLoss(model(x).float().sum())

    learner.step([torch.ones(2, 4)], loss, 2)
    with learner.autocast():
        seen.append(model(torch.ones(2, 4)).dtype)
    assert seen == [torch.bfloat16] * 2
    assert model.weight.dtype == torch.float32


def test_another_model_s_state_is_refused():
    one, other = (Learner(nn.Linear(n, 1), TrainingOptions(**SMOOTH), 10) for n in (2, 3))
    with pytest.raises(UserError, match="differ from those of the run to resume"):
        one.load_state_dict(other.state_dict())


@pytest.mark.parametrize(("batches", "count"), [([], 1), ([1], 0), ([1], -1), ([1], math.nan)])
def test_a_step_without_microbatches_or_count_is_an_error(batches, count):
    model = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="count above 0"):
        Learner(model, TrainingOptions(**SMOOTH), 10).step(batches, lambda _: StepLoss(model.weight.sum()), count)
