"""LoRA, reward models and new models: what is trained, what is saved, and that the seed determines initial weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny import tiny_tokenizer
from tiny_files import model_folder
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from zhenlong.errors import UserError
from zhenlong.forest import apply_reward_head, forward, make_tree, pack_trees
from zhenlong.models import (
    Lora,
    ModelShape,
    ValueHead,
    frozen_copy,
    init_model,
    load_model,
    save_model,
    train_tokenizer,
    without_adapter,
)

IDS = torch.tensor([[3, 20, 7, 100, 9, 41]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("model") / "base")


def logits(model, ids=IDS):
    with torch.no_grad():
        return model(input_ids=ids).logits


def adapted(folder, kind="causal", **changes):
    """A model with an adapter that changes its output: the B matrices, initially zero, are filled."""
    model, tokenizer = load_model(folder, kind=kind, lora=Lora(**{"rank": 3, "alpha": 6.0, **changes}), device="cpu")
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model, tokenizer


def test_only_adapters_are_trained_and_initially_change_nothing(folder):
    plain, _ = load_model(folder, device="cpu")
    model, _ = load_model(folder, lora=Lora(2), device="cpu")
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert not any("lm_head" in name for name in trained)
    assert torch.equal(logits(model), logits(plain))


def test_the_base_model_under_the_adapter_is_unchanged(folder):
    plain, _ = load_model(folder, device="cpu")
    model, _ = adapted(folder)
    with without_adapter(model) as base:
        assert torch.equal(logits(base), logits(plain))
    assert (logits(model) - logits(plain)).abs().max() > 1e-2


def test_only_the_named_modules_get_an_adapter(folder):
    model, _ = load_model(folder, lora=Lora(2, targets="q_proj, v_proj"), device="cpu")
    trained = {part for name, p in model.named_parameters() if p.requires_grad for part in name.split(".")}
    assert {part for part in trained if part.endswith("_proj")} == {"q_proj", "v_proj"}
    with pytest.raises(UserError, match="--lora_targets nonsense"):
        load_model(folder, lora=Lora(2, targets="nonsense"), device="cpu")


def test_an_adapter_s_initial_weights_depend_on_the_seed_only(folder):
    def initial_weights(seed):
        model, _ = load_model(folder, lora=Lora(2), device="cpu", seed=seed)
        return torch.cat([p.flatten() for name, p in model.named_parameters() if "lora_A" in name])

    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = initial_weights(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert torch.equal(initial_weights(1), first)
    assert not torch.equal(initial_weights(2), first)


@pytest.mark.parametrize("kind", ["causal", "reward"])
def test_a_saved_adapter_is_merged_and_also_saved_separately(kind, folder, tmp_path):
    model, tokenizer = adapted(folder, kind)
    wanted = logits(model)
    save_model(model, tokenizer, tmp_path / "saved")
    auto = AutoModelForCausalLM if kind == "causal" else AutoModelForSequenceClassification
    found = auto.from_pretrained(tmp_path / "saved").eval()
    assert torch.allclose(logits(found), wanted, atol=1e-5)
    adapter = load_file(tmp_path / "saved" / "adapter" / "adapter_model.safetensors")
    assert any("lora_B" in name for name in adapter)
    assert torch.equal(logits(model), wanted), "saving must not merge the model that is being trained"


def test_a_model_with_tied_weights_and_an_adapter_is_saved_as_trained(tmp_path):
    folder = model_folder(tmp_path / "base", tie_word_embeddings=True)
    model, tokenizer = adapted(folder)
    wanted = logits(model)
    save_model(model, tokenizer, tmp_path / "saved")
    assert torch.allclose(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()), wanted, atol=1e-5)


def test_a_reward_model_with_an_adapter_also_trains_its_score_layer(folder):
    model, _ = load_model(folder, kind="reward", lora=Lora(2), device="cpu")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("score" in name for name in trained)
    assert any("lora_A" in name for name in trained)
    assert not any(name.endswith("score.original_module.weight") for name in trained)


def test_the_seed_determines_a_new_score_layer(folder):
    def initial_weights(seed):
        return load_model(folder, kind="reward", seed=seed, device="cpu")[0].score.weight

    torch.manual_seed(3)
    first = initial_weights(1)
    torch.manual_seed(4)
    assert torch.equal(initial_weights(1), first)
    assert not torch.equal(initial_weights(2), first)
    assert 0.3 < float(first.detach().std()) * 33**0.5 < 2


def test_a_loaded_reward_model_gives_the_same_scores(folder, tmp_path):
    model, tokenizer = load_model(folder, kind="reward", seed=1, device="cpu")
    save_model(model, tokenizer, tmp_path / "saved")
    again, _ = load_model(str(tmp_path / "saved"), kind="reward", seed=2, device="cpu")
    assert torch.equal(logits(model), logits(again))


def test_a_classifier_with_several_labels_is_refused_as_a_reward_model(tmp_path, folder):
    AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="expected a reward model with one output, got 3 labels"):
        load_model(str(tmp_path), kind="reward", device="cpu")


def test_a_score_equals_that_of_transformers_for_any_batch(folder):
    """One text alone, as one of three responses to a prompt, and among other trees, also if it ends in padding."""
    model, _ = load_model(folder, kind="reward", device="cpu")
    prompt, answers = [5, 6, 7], [[8, 9, 256], [10], [11, 12, 13, 14, 256, 256]]
    alone = torch.cat([one_score(model, [make_tree(prompt, [answer])]) for answer in answers])
    together = one_score(model, [make_tree(prompt, answers)])
    among = one_score(model, [make_tree([1] * 9, [[2] * 30]), make_tree(prompt, answers), make_tree([4], [[4]])])[1:4]
    assert torch.allclose(alone, together, atol=1e-5)
    assert torch.allclose(alone, among, atol=1e-5)
    for answer, score in zip(answers, alone, strict=True):
        ids = torch.tensor([prompt + answer])
        with torch.no_grad():
            truth = model.score(model.model(input_ids=ids).last_hidden_state[:, -1])[0]
        assert torch.allclose(truth, score[None], atol=1e-5)
        if answer[-1] != 256:  # transformers looks for the padding id and would stop before it
            assert torch.allclose(logits(model, ids)[0], score[None], atol=1e-5)


def one_score(model, trees):
    forest = pack_trees(trees)
    with torch.no_grad():
        return apply_reward_head(model, forward(model, forest, "response_ends"))


def test_a_frozen_copy_stays_while_the_model_changes(folder):
    model, _ = load_model(folder, device="cpu")
    model.train()
    copy = frozen_copy(model)
    before = logits(copy)
    for parameter in model.parameters():
        parameter.data.add_(0.1)
    assert torch.equal(logits(copy), before)
    assert not copy.training
    assert not any(parameter.requires_grad for parameter in copy.parameters())


def test_a_value_head_starts_at_zero_and_computes_in_float32():
    head = ValueHead(8)
    values = head(torch.randn(5, 8).bfloat16())
    assert values.dtype == torch.float32
    assert torch.equal(values, torch.zeros(5))


def test_a_new_model_depends_on_its_seed_only():
    shape = ModelShape(hidden_size=16, layers=1, heads=2, kv_heads=1, intermediate_size=24, context=32)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = init_model(shape, tiny_tokenizer(), seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert torch.equal(logits(first), logits(init_model(shape, tiny_tokenizer(), seed=1)))
    assert not torch.equal(logits(first), logits(init_model(shape, tiny_tokenizer(), seed=2)))
    assert first.get_output_embeddings().weight is first.get_input_embeddings().weight


@pytest.mark.parametrize("wrong", [{"heads": 3}, {"kv_heads": 3}, {"layers": 0}, {"heads": 0}, {"context": 0}])
def test_an_inconsistent_shape_is_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        ModelShape(**wrong)


@pytest.fixture(scope="module")
def learned():
    return train_tokenizer(["The hill is long and the hill is green. " * 5, "12 and 34 are 46."], 275, "{{ messages }}")


def test_a_new_tokenizer_has_the_requested_size_and_the_chat_markers(learned):
    assert len(learned) == 275
    assert learned.eos_token == learned.pad_token == "<|endoftext|>"
    assert all(len(learned(marker)["input_ids"]) == 1 for marker in ("<|im_start|>", "<|im_end|>"))
    assert len(learned("1234")["input_ids"]) == 4
    assert len(learned(" hill")["input_ids"]) == 1


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_round_trips_through_a_new_tokenizer(learned, text):
    assert learned.decode(learned(text, add_special_tokens=False)["input_ids"]) == text


def test_a_vocabulary_too_small_for_every_byte_is_refused():
    with pytest.raises(UserError, match="vocabulary: expected at least 259"):
        train_tokenizer(["a b c"], 200)
