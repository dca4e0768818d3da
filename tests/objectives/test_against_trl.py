"""The losses equal those of TRL 1.16 on the same log-probabilities, scores and advantages.

TRL's losses are methods of its trainers; here they are called on a stub that has only what the loss reads, with a model
that returns given numbers.
"""

from collections import defaultdict
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

from zhenlong.objectives import (
    AGGREGATION_UNITS,
    KTOSettings,
    PreferenceLogProbs,
    PreferenceSettings,
    RatioSettings,
    bradley_terry_loss,
    group_advantages,
    kl_baseline,
    kto_loss,
    policy_loss,
    preference_loss,
    reward_centering_loss,
    sum_per_response,
    token_weights,
)

pytestmark = pytest.mark.peers("trl")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def accelerator() -> SimpleNamespace:
    def same(x, **_):
        return x

    return SimpleNamespace(
        device="cpu", num_processes=1, gather=same, gather_for_metrics=same, reduce=same, sync_gradients=True
    )


def returning(values: torch.Tensor):
    """A model that outputs the given log-probabilities."""
    zeros = torch.zeros_like(values)
    out = SimpleNamespace(log_probs=values, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(), aux_loss=None)
    return lambda **_: out


def trl_dpo(policy: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor, losses: dict[str, float], **options):
    """`DPOTrainer._compute_loss` and its logged metrics; `losses` maps types to weights.

    [2P, T] per-token log-probabilities, chosen rows first, `mask` their completions.
    """
    from trl.trainer.dpo_trainer import DPOTrainer

    logged = defaultdict(lambda: defaultdict(list))
    stand_in = MagicMock()
    stand_in.configure_mock(
        accelerator=accelerator(), aux_loss_enabled=False, ld_alpha=None, precompute_ref_logps=False,
        ref_model=returning(reference * mask), f_divergence_type="reverse_kl", loss_types=list(losses),
        loss_weights=list(losses.values()), use_weighting=False, _metrics=logged, _total_train_tokens=0, _tp_size=1,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None), **options,
    )  # fmt: skip
    full = torch.cat([torch.zeros(mask.shape[0], 1), mask], dim=1).long()  # the first token is never predicted
    inputs = {"input_ids": full, "attention_mask": torch.ones_like(full), "completion_mask": full}
    stand_in.model = MagicMock(is_gradient_checkpointing=False)
    loss = DPOTrainer._compute_loss(stand_in, returning(policy * mask), inputs, False)
    return loss, {name: values[-1] for name, values in logged["train"].items()}


def random_log_probs(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities of a policy and a reference [R, T] and the mask of responses of these lengths."""
    torch.manual_seed(0)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).float()
    return -torch.rand(mask.shape) * 4, -torch.rand(mask.shape) * 4, mask


def our_preference_loss(policy: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor, sft_tokens=None, **options):
    """`preference_loss` of the same inputs."""
    (chosen, rejected), (reference_chosen, reference_rejected), (chosen_tokens, rejected_tokens) = (
        x.sum(1).chunk(2) for x in (policy * mask, reference * mask, mask)
    )
    pairs = PreferenceLogProbs(
        chosen, rejected, reference_chosen, reference_rejected, chosen_tokens, rejected_tokens
    )  # fmt: skip
    return preference_loss(pairs, PreferenceSettings(**options), sft_tokens)


DPO = ["sigmoid", "sigmoid_norm", "hinge", "ipo", "robust", "apo_zero", "apo_down"]


@pytest.mark.parametrize("loss", DPO)
def test_dpo_losses(loss: str) -> None:
    given, smoothing = random_log_probs([5, 2, 7, 7, 1, 4]), 0.2 if loss == "robust" else 0.0
    theirs, logged = trl_dpo(*given, {loss: 1.0}, beta=0.3, label_smoothing=smoothing)
    found = our_preference_loss(*given, beta=0.3, loss=loss, label_smoothing=smoothing)
    torch.testing.assert_close(found.losses.mean(), theirs, **CLOSE)
    assert logged["rewards/chosen"] == pytest.approx(found.chosen_rewards.mean().item(), abs=1e-5)
    assert logged["rewards/rejected"] == pytest.approx(found.rejected_rewards.mean().item(), abs=1e-5)


@pytest.mark.parametrize("loss", DPO)
def test_the_sft_term_over_the_tokens_of_the_step(loss: str) -> None:
    given = random_log_probs([5, 2, 7, 7, 1, 4])
    theirs, _ = trl_dpo(*given, {loss: 1.0, "sft": 0.7}, beta=0.3, label_smoothing=0.0)
    options = {"beta": 0.3, "loss": loss, "sft_weight": 0.7}
    torch.testing.assert_close(
        our_preference_loss(*given, **options, sft_tokens=(5 + 2 + 7) / 3).losses.mean(), theirs, **CLOSE
    )
    assert not torch.isclose(
        our_preference_loss(*given, **options).losses.mean(), theirs
    )  # the mean per response differs


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_simpo(smoothing: float) -> None:
    from trl.experimental.cpo.cpo_trainer import CPOTrainer

    policy, reference, mask = random_log_probs([5, 2, 7, 7, 1, 4])
    stand_in = SimpleNamespace(
        accelerator=accelerator(), alpha=0.0, loss_type="simpo", simpo_gamma=0.8, beta=2.0, label_smoothing=smoothing
    )
    means = ((policy * mask).sum(1) / mask.sum(1)).chunk(2)
    losses, chosen, rejected = CPOTrainer.cpo_loss(stand_in, *means)
    found = our_preference_loss(policy, reference, mask, beta=2.0, loss="simpo", gamma=0.8, label_smoothing=smoothing)
    torch.testing.assert_close(found, (losses, chosen, rejected), **CLOSE)


def test_orpo() -> None:
    """The odds-ratio term only; the SFT term is over the response here and includes the prompt in TRL."""
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    policy, reference, mask = random_log_probs([5, 2, 7, 7, 1, 4])
    chosen_mean, rejected_mean = ((policy * mask).sum(1) / mask.sum(1)).chunk(2)
    stand_in = SimpleNamespace(accelerator=accelerator(), beta=0.4)
    gain, chosen, rejected, *_ = ORPOTrainer.odds_ratio_loss(stand_in, chosen_mean, rejected_mean)
    found = our_preference_loss(policy, reference, mask, beta=0.4, loss="orpo", sft_weight=1.0)
    torch.testing.assert_close(found, (-chosen_mean - gain, chosen, rejected), **CLOSE)


def trl_kto(policy, reference, kl_policy, kl_reference, mask, labels, **options):
    """`KTOTrainer._compute_loss` and its logged metrics; [R, T] log-probabilities, matched and mismatched."""
    from trl.trainer.kto_trainer import KTOTrainer

    logged = defaultdict(lambda: defaultdict(list))
    full = torch.cat([torch.zeros(mask.shape[0], 1), mask], dim=1).long()
    stand_in = MagicMock()
    stand_in.configure_mock(
        accelerator=accelerator(), aux_loss_enabled=False, precompute_ref_logps=True, _metrics=logged,
        _total_train_tokens=0, _tp_size=1, **options,
    )  # fmt: skip
    stand_in._compute_kl_logps = lambda *_: (kl_policy * mask).sum(1)
    inputs = {
        "input_ids": full, "attention_mask": torch.ones_like(full), "completion_mask": full, "label": labels,
        "ref_logps": (reference * mask).sum(1), "ref_KL_logps": (kl_reference * mask).sum(1),
    }  # fmt: skip
    loss = KTOTrainer._compute_loss(stand_in, returning(policy * mask), inputs, False)
    return loss, {name: values[-1] for name, values in logged["train"].items()}


@pytest.mark.parametrize("loss", ["kto", "apo_zero"])
@pytest.mark.parametrize("above", [0.4, -0.4])
@pytest.mark.parametrize("labels", [[True, False, True, True, False], [False] * 5])
def test_kto(loss: str, above: float, labels: list[bool]) -> None:
    policy, reference, mask = random_log_probs([5, 2, 7, 1, 4])
    kl_policy = reference.flip(0) + above  # one baseline above 0, and one clamped to 0
    desirable = torch.tensor(labels)
    theirs, logged = trl_kto(
        policy, reference, kl_policy, reference.flip(0), mask, desirable, beta=0.3, desirable_weight=1.2,
        undesirable_weight=0.7, loss_type="kto" if loss == "kto" else "apo_zero_unpaired", calculate_KL=loss == "kto",
    )  # fmt: skip
    sums, anchors, kl_sums, kl_anchors = ((x * mask).sum(1) for x in (policy, reference, kl_policy, reference.flip(0)))
    baseline = kl_baseline(kl_sums, kl_anchors) if loss == "kto" else 0.0
    found = kto_loss(sums, anchors, desirable, KTOSettings(0.3, loss, 1.2, 0.7), baseline)
    torch.testing.assert_close(found.losses.mean(), theirs, **CLOSE)
    assert logged["kl"] == pytest.approx(float(baseline), abs=1e-5)
    assert (loss == "kto" and above > 0) == (float(baseline) > 0)
    assert logged["rewards/rejected"] == pytest.approx(found.rewards[~desirable].mean().item(), abs=1e-5)


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
    ours, _ = bradley_terry_loss(scores, better, worse, margin=margin if with_margin else None)
    ours = (ours + (coefficient or 0.0) * reward_centering_loss(scores, better, worse)) / 4
    torch.testing.assert_close(ours, theirs, **CLOSE)


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
        new[real],
        old[real],
        advantages[leaf],
        leaf,
        4,
        RatioSettings(0.2, 0.28, level),
        weights,
    )
    assert metrics["clip_fraction"] > 0
    count = {"tokens": lengths.sum(), "responses": 4}[AGGREGATION_UNITS[mode]]
    torch.testing.assert_close(mine / count, theirs, **CLOSE)
    assert sum_per_response(torch.ones(len(leaf)), leaf, 4).tolist() == lengths.tolist()


@pytest.mark.parametrize(("loss_type", "mode"), [("cispo", "token"), ("sapo", "sequence")])
def test_other_surrogates(loss_type: str, mode: str) -> None:
    torch.manual_seed(2)
    lengths = torch.tensor([6, 3, 9, 1])
    mask = (torch.arange(9) < lengths[:, None]).float()
    old = -torch.rand(4, 9) * 3
    new, advantages = old + torch.randn(4, 9), torch.randn(4)
    args = SimpleNamespace(delta=None, steps_per_generation=1, sapo_temperature_pos=1.0, sapo_temperature_neg=1.05)
    theirs = trl_grpo(new, old, advantages, mask, loss_type=loss_type, epsilon_high=1.28, args=args)
    real, leaf = mask.bool(), torch.arange(4).repeat_interleave(lengths)
    settings = RatioSettings(1.0, 0.28, surrogate=loss_type)  # TRL's bound is the weight itself
    mine, _ = policy_loss(
        new[real], old[real], advantages[leaf], leaf, 4, settings, token_weights(leaf, 4, mode, max_tokens=20)
    )
    count = {"tokens": lengths.sum(), "responses": 4}[AGGREGATION_UNITS[mode]]
    torch.testing.assert_close(mine / count, theirs, **CLOSE)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_group_advantages(scale: str) -> None:
    from trl.trainer.utils import nanstd

    rewards = torch.randn(12)
    grouped = rewards.view(3, 4)
    theirs = (grouped - grouped.mean(1, keepdim=True)).flatten()
    if scale != "none":
        spread = nanstd(grouped, dim=1).repeat_interleave(4) if scale == "group" else nanstd(rewards)
        theirs = theirs / (spread + 1e-4)
    order = torch.randperm(12)  # ours identify groups by id, so order does not matter
    mine = group_advantages(rewards[order], (torch.arange(12) // 4)[order], scale_rewards=scale)
    torch.testing.assert_close(mine, theirs[order], **CLOSE)
