"""The ledger's FLOPs equal torch's own count, and its totals survive a resume."""

import pytest
import torch
import transformers
from tiny import tiny_model
from torch.utils.flop_counter import FlopCounterMode

from zhenlong.forest import forward, make_tree, pack_trees
from zhenlong.kernels.build import kernels_disabled
from zhenlong.loop import FlopEstimator, Ledger
from zhenlong.loop.ledger import matmul_rate, peak_memory

CPU = torch.device("cpu")
N = 24


def counted(model) -> tuple[int, int]:
    """FLOPs of a forward pass, and of forward and backward, over one sequence of N tokens, by torch's counter."""
    ids = torch.arange(N)[None]
    with FlopCounterMode(display=False) as forward:
        logits = model(ids).logits
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    return forward.get_total_flops(), forward.get_total_flops() + backward.get_total_flops()


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "gpt_neox", "gemma"])
def test_the_formula_equals_torch_s_own_count(family):
    """Eager attention computes all N x N pairs."""
    model = tiny_model(family, attn_implementation="eager")
    forward, both = counted(model)
    cost = FlopEstimator.for_model(model)
    angles = 2 * N * 16  # rotary angles, which torch computes as a small matmul
    assert 0 <= forward - cost.forward(N, attention_pairs=N * N) <= angles
    assert 0 <= both - cost.train(N, attention_pairs=N * N) <= angles


def test_training_costs_6_flops_per_parameter_and_token_frozen_4_forward_2():
    """6 FLOPs per trained parameter and token, 2 for the forward pass alone, 4 for a frozen parameter."""
    model = tiny_model("llama", tie_word_embeddings=False)
    cost = FlopEstimator.for_model(model)
    size = sum(p.numel() for p in model.parameters() if p.dim() > 1) - model.get_input_embeddings().weight.numel()
    assert cost.body + cost.head == size
    assert cost.train(10) == 6 * size * 10
    assert cost.forward(10) == 2 * size * 10
    model.requires_grad_(False)
    assert FlopEstimator.for_model(model).train(10) == 4 * size * 10


def test_only_scored_positions_count_for_the_head():
    model = tiny_model("llama")
    cost = FlopEstimator.for_model(model)
    assert cost.head == model.get_output_embeddings().weight.numel()
    assert cost.train(10) - cost.train(10, scored=4) == 6 * cost.head * 6


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_the_sparse_last_layer_counts_only_tokens_whose_output_is_needed(family):
    model = tiny_model(family)
    forest = pack_trees([make_tree(range(40), [range(50, 56), range(60, 64)])])
    forward(model, forest)  # chooses the layout, once
    with kernels_disabled(), FlopCounterMode(display=False) as counter:
        forward(model, forest).sum().backward()
    attention = sum(flops for name, flops in counter.get_flop_counts()["Global"].items() if "attention" in str(name))
    cost = FlopEstimator.for_model(model)
    angles = 2 * 50 * 16
    assert forest.last_layer_tokens == (50 if family == "gpt2" else 10 - 1)  # two responses begin after the same token
    products = cost.train(50, scored=0, last_layer_tokens=forest.last_layer_tokens)
    assert 0 <= counter.get_total_flops() - attention - products <= angles
    pairs = cost.train(50, 0, 100, 10) - cost.train(50, 0, 0, 10)
    assert pairs == pytest.approx((1.0 if family == "gpt2" else 0.6) * 12 * 100 * 64)  # one of two layers, 10 of 50


def test_a_mixture_of_experts_counts_only_active_experts():
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 2, "vocab_size": 32}
    few, many = (
        transformers.MixtralForCausalLM(transformers.MixtralConfig(num_local_experts=n, num_experts_per_tok=2, **sizes))
        for n in (4, 8)
    )
    router = 4 * 16  # all four more rows of the router are used
    assert FlopEstimator.for_model(many).body - FlopEstimator.for_model(few).body == router


def test_totals_continue_from_a_saved_state():
    ledger = Ledger(CPU, torch.float32)
    ledger.count(tokens=10, flops=1e6, annotations=2)
    ledger.count(tokens=5, annotations=1, money=0.5)
    ledger.start()
    ledger.stop()
    saved = ledger.state_dict() | {"seconds": 100.0}
    other = Ledger(CPU, torch.float32)
    other.load_state_dict(saved)
    other.count(tokens=1)
    summary = other.summary()
    assert (summary["tokens"], summary["flops"], summary["annotations"], summary["money"]) == (16, 1e6, 3, 0.5)
    assert summary["seconds"] == 100.0
    assert summary["tokens_per_second"] == pytest.approx(0.16)
    assert summary["utilisation"] == pytest.approx(1e4 / summary["matmul_flops_per_second"])


def test_a_stopped_clock_does_not_advance():
    ledger = Ledger(CPU, torch.float32)
    assert ledger.seconds == 0.0
    ledger.start()
    assert ledger.seconds > 0.0
    ledger.stop()
    assert ledger.seconds == ledger.seconds


def test_the_matmul_rate_is_measured_once_without_using_global_random_numbers():
    state = torch.get_rng_state()
    assert matmul_rate(CPU, torch.float32) == matmul_rate(CPU, torch.float32) > 1e8
    assert torch.equal(torch.get_rng_state(), state)


def test_peak_memory_includes_a_new_allocation():
    block = torch.ones(30_000_000 // 4)
    assert peak_memory(CPU) > block.numel() * 4
