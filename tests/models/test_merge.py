"""Merged weights are the formula's, tensor by tensor, and what cannot be merged is said in one line."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from zhenlong.errors import UserError
from zhenlong.models import load_model, save_model
from zhenlong.models.merge import merge, slerp


@pytest.fixture
def folders(tmp_path):
    """Three tiny Llamas of different weights: a base and two models."""
    names = []
    for seed in range(3):
        save_model(tiny_model(seed=seed), tiny_tokenizer(), tmp_path / f"model{seed}")
        names.append(str(tmp_path / f"model{seed}"))
    return names


def weights_of(name):
    model, _ = load_model(str(name), device="cpu")
    return {key: value.detach().clone() for key, value in model.named_parameters()}


def assert_equal(merged, expected):
    assert merged.keys() == expected.keys()
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-6, rtol=1e-5)


def test_linear_is_the_weighted_mean(folders, tmp_path):
    first, second = weights_of(folders[0]), weights_of(folders[1])
    made = merge(model=folders[:2], weight=[0.3, 0.7], output=str(tmp_path / "merged"))
    assert_equal(weights_of(made), {name: 0.3 * first[name] + 0.7 * second[name] for name in first})


def test_equal_weights_are_the_default(folders, tmp_path):
    tensors = [weights_of(one) for one in folders]
    made = merge(model=folders, output=str(tmp_path / "merged"))
    assert_equal(weights_of(made), {name: sum(one[name] for one in tensors) / 3 for name in tensors[0]})


def test_task_vectors_add_and_subtract_what_was_learned(folders, tmp_path):
    base, first, second = (weights_of(one) for one in folders)
    made = merge(
        model=folders[1:], base=folders[0], method="task_vectors", weight=[1.0, -0.5], output=str(tmp_path / "merged")
    )
    expected = {name: base[name] + (first[name] - base[name]) - 0.5 * (second[name] - base[name]) for name in base}
    assert_equal(weights_of(made), expected)


def test_one_task_vector_of_weight_one_is_the_model(folders, tmp_path):
    made = merge(model=folders[1:2], base=folders[0], method="task_vectors", output=str(tmp_path / "merged"))
    assert_equal(weights_of(made), weights_of(folders[1]))


def test_slerp_ends_at_the_models_and_keeps_the_length_between_them(folders, tmp_path):
    first, second = weights_of(folders[0]), weights_of(folders[1])
    for share, expected in ((0.0, first), (1.0, second)):
        made = merge(
            model=folders[:2], method="slerp", weight=[1 - share, share], output=str(tmp_path / f"merged{share}")
        )
        assert_equal(weights_of(made), expected)
    start, end = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    half = slerp(start, end, 0.5)
    torch.testing.assert_close(half, torch.tensor([math.sqrt(2), math.sqrt(2)]))
    third = slerp(start, end, 1 / 3)
    torch.testing.assert_close(third, 2 * torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)]))


def test_slerp_of_parallel_or_zero_weights_is_the_straight_line():
    one = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(slerp(one, 3 * one, 0.5), 2 * one)
    torch.testing.assert_close(slerp(torch.zeros(2), one, 0.5), 0.5 * one)


def test_the_merged_folder_is_in_the_precision_asked_for(folders, tmp_path):
    made = merge(model=folders[:2], output=str(tmp_path / "merged"), dtype="bfloat16")
    model, _ = load_model(str(made), device="cpu", dtype="bfloat16")
    expected = (weights_of(folders[0])["model.norm.weight"] + weights_of(folders[1])["model.norm.weight"]) / 2
    assert torch.equal(model.model.norm.weight, expected.bfloat16())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": ["{0}"]}, "2 or more models, got 1"),
        ({"model": ["{0}", "{1}", "{2}"], "method": "slerp"}, "merges two models, got 3"),
        ({"weight": [0.5, 0.6]}, "sum to 1"),
        ({"weight": [1.0]}, "one finite number for each of 2 models, got 1"),
        ({"weight": [float("nan"), 1.0]}, "one finite number"),
        ({"method": "task_vectors"}, "needs the model that the others were fine-tuned from"),
        ({"base": "{2}"}, "linear has no base"),
        ({"method": "mean"}, "expected linear, slerp or task_vectors"),
    ],
)
def test_what_does_not_fit_is_one_line(folders, tmp_path, changes, said):
    def fill(value):
        if isinstance(value, list):
            return [fill(one) for one in value]
        return value.format(*folders) if isinstance(value, str) else value

    given = {name: fill(value) for name, value in ({"model": ["{0}", "{1}"]} | changes).items()}
    with pytest.raises(UserError, match=said):
        merge(output=str(tmp_path / "merged"), **given)
    assert not (tmp_path / "merged").exists()


def test_models_of_another_shape_or_vocabulary_are_refused(folders, tmp_path):
    save_model(tiny_model(intermediate_size=64), tiny_tokenizer(), tmp_path / "wide")
    with pytest.raises(UserError, match=r"gate_proj.weight is \[64, 32\], expected \[48, 32\]"):
        merge(model=[folders[0], str(tmp_path / "wide")], output=str(tmp_path / "merged"))
    save_model(tiny_model(num_hidden_layers=1), tiny_tokenizer(), tmp_path / "shallow")
    with pytest.raises(UserError, match=r"only one of them has model\.layers\.1"):
        merge(model=[folders[0], str(tmp_path / "shallow")], output=str(tmp_path / "merged"))
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["zhenlong"])
    save_model(tiny_model(), tokenizer, tmp_path / "other_words")
    with pytest.raises(UserError, match="their tokenizers differ"):
        merge(model=[folders[0], str(tmp_path / "other_words")], output=str(tmp_path / "merged"))
