"""The same losses as TRL 1.16 on the same log-probabilities, scores and advantages.

TRL's losses are inside its trainers; they are called here on a stand-in that has only what the loss reads, and a model
that returns given numbers.
"""

from collections import defaultdict
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

from zhenlong.objectives import (
    UNITS,
    bradley_terry,
    centring,
    group_advantages,
    per_response,
    policy_loss,
    preference_loss,
    token_weights,
)

pytest.importorskip("trl")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def accelerator() -> SimpleNamespace:
    def same(x, **_):
        return x

    return SimpleNamespace(
        device="cpu", num_processes=1, gather=same, gather_for_metrics=same, reduce=same, sync_gradients=True
    )


def trl_dpo(policy: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor, loss: str, **options) -> torch.Tensor:
    """`DPOTrainer._compute_loss`; [2P, T] per-token log-probabilities, chosen rows first, `mask` their completions."""
    from trl.trainer.dpo_trainer import DPOTrainer

    def returning(values: torch.Tensor):
        zeros = torch.zeros_like(values)
        out = SimpleNamespace(log_probs=values, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(), aux_loss=None)
        return lambda **_: out

    stand_in = MagicMock()
    stand_in.configure_mock(
        accelerator=accelerator(), aux_loss_enabled=False, ld_alpha=None, precompute_ref_logps=False,
        ref_model=returning(reference * mask), f_divergence_type="reverse_kl", loss_types=[loss], loss_weights=[1.0],
        use_weighting=False, _metrics=defaultdict(lambda: defaultdict(list)), _total_train_tokens=0, _tp_size=1,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None), **options,
    )  # fmt: skip
    full = torch.cat([torch.zeros(mask.shape[0], 1), mask], dim=1).long()  # the first token is never predicted
    inputs = {"input_ids": full, "attention_mask": torch.ones_like(full), "completion_mask": full}
    stand_in.model = MagicMock(is_gradient_checkpointing=False)
    return DPOTrainer._compute_loss(stand_in, returning(policy * mask), inputs, False)


@pytest.mark.parametrize(("loss", "smoothing"), [("sigmoid", 0.0), ("hinge", 0.0), ("ipo", 0.0), ("robust", 0.2)])
def test_dpo_losses(loss: str, smoothing: float) -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([5, 2, 7, 7, 1, 4])
    mask = (torch.arange(7) < lengths[:, None]).float()
    policy, reference = -torch.rand(6, 7) * 4, -torch.rand(6, 7) * 4
    theirs = trl_dpo(policy, reference, mask, loss, beta=0.3, label_smoothing=smoothing)
    sums = [(x * mask).sum(1) for x in (policy, reference)]
    (chosen, rejected), (reference_chosen, reference_rejected) = (x.chunk(2) for x in sums)
    mine = preference_loss(
        chosen, rejected, reference_chosen, reference_rejected, beta=0.3, loss=loss, label_smoothing=smoothing,
        chosen_tokens=lengths[:3], rejected_tokens=lengths[3:],
    )  # fmt: skip
    torch.testing.assert_close(mine.losses.mean(), theirs, **CLOSE)


@pytest.mark.parametrize("with_margin", [False, True])
@pytest.mark.parametrize("coefficient", [None, 0.05])
def test_reward_model_loss(with_margin: bool, coefficient: float | None) -> None:
    from trl.trainer.reward_trainer import RewardTrainer

    scores, margin = torch.randn(8), torch.rand(4)
    stand_in = MagicMock(accelerator=accelerator(), _metrics=defaultdict(lambda: defaultdict(list)))
    stand_in._total_train_tokens, stand_in._tp_size = 0, 1
    stand_in.args.center_rewards_coefficient = coefficient
    inputs = {"attention_mask": torch.ones(8, 3)} | ({"margin": margin} if with_margin else {})
    model = MagicMock(side_effect=lambda **_: SimpleNamespace(logits=scores[:, None]))
    theirs = RewardTrainer.compute_loss(stand_in, model, inputs)
    better, worse = torch.arange(4), torch.arange(4, 8)
    mine, _ = bradley_terry(scores, better, worse, margin=margin if with_margin else None)
    mine = (mine + (coefficient or 0.0) * centring(scores, better, worse)) / 4
    torch.testing.assert_close(mine, theirs, **CLOSE)


def trl_grpo(new, old, advantages, mask, **options) -> torch.Tensor:
    """`GRPOTrainer._compute_loss`; [R, T] log-probabilities, [R] advantages."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    stand_in = MagicMock()
    settings = {
        "accelerator": accelerator(), "aux_loss_enabled": False, "top_entropy_quantile": 1.0, "beta": 0.0,
        "off_policy_mask_threshold": None, "use_vllm": False, "current_gradient_accumulation_steps": 1,
        "max_completion_length": 20, "_entropy_bonus_enabled": False, "epsilon_low": 0.2, "epsilon_high": 0.28,
        "_metrics": defaultdict(lambda: defaultdict(list)), "importance_sampling_level": "token",
        "args": SimpleNamespace(delta=None, steps_per_generation=1),
    }  # fmt: skip
    stand_in.configure_mock(**(settings | options))
    stand_in.model.training = True
    stand_in._get_per_token_logps_and_entropies = lambda *_, **__: (new, torch.zeros_like(new), None)
    ids = torch.ones_like(mask).long()
    inputs = {
        "prompt_ids": ids[:, :2], "prompt_mask": ids[:, :2], "completion_ids": ids, "completion_mask": mask,
        "advantages": advantages, "old_per_token_logps": old, "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    return GRPOTrainer._compute_loss(stand_in, None, inputs)


@pytest.mark.parametrize(
    ("loss_type", "mode"), [("grpo", "sequence"), ("dr_grpo", "constant"), ("dapo", "token"), ("bnpo", "token")]
)
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_grpo_losses(loss_type: str, mode: str, level: str) -> None:
    torch.manual_seed(1)
    lengths = torch.tensor([6, 3, 9, 1])
    mask = (torch.arange(9) < lengths[:, None]).float()
    old = -torch.rand(4, 9) * 3
    new, advantages = old + 0.4 * torch.randn(4, 9) + torch.randn(4, 1), torch.randn(4)
    theirs = trl_grpo(new, old, advantages, mask, loss_type=loss_type, importance_sampling_level=level)
    real, leaf = mask.bool(), torch.arange(4).repeat_interleave(lengths)
    weights = token_weights(leaf, 4, mode, max_tokens=20)
    mine, metrics = policy_loss(
        new[real], old[real], advantages[leaf], leaf, 4, weights=weights, clip_low=0.2, clip_high=0.28, level=level
    )
    assert metrics["clip_fraction"] > 0
    count = {"tokens": lengths.sum(), "responses": 4}[UNITS[mode]]
    torch.testing.assert_close(mine / count, theirs, **CLOSE)
    assert per_response(torch.ones(len(leaf)), leaf, 4).tolist() == lengths.tolist()


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_group_advantages(scale: str) -> None:
    from trl.trainer.utils import nanstd

    rewards = torch.randn(12)
    grouped = rewards.view(3, 4)
    theirs = (grouped - grouped.mean(1, keepdim=True)).flatten()
    if scale != "none":
        spread = nanstd(grouped, dim=1).repeat_interleave(4) if scale == "group" else nanstd(rewards)
        theirs = theirs / (spread + 1e-4)
    order = torch.randperm(12)  # ours are keyed by prompt, so their order is free
    mine = group_advantages(rewards[order], (torch.arange(12) // 4)[order], scale=scale)
    torch.testing.assert_close(mine, theirs[order], **CLOSE)
