"""Classifier rewards: log-odds of a label, for any architecture and batch."""

import math

import pytest
import torch
from answers import answer
from tiny import SIZES, tiny_model, tiny_tokenizer
from transformers import AutoModelForSequenceClassification, BertConfig, LlamaConfig

from zhenlong.errors import UserError
from zhenlong.models import save_model
from zhenlong.rewards import build_reward_fn, classifier_reward
from zhenlong.rewards.classifier import log_odds

LABELS = {0: "calm", 1: "angry", 2: "sad"}
ANSWERS = [answer(text) for text in ("No!", "What a lovely day", "", "Yes", "What a lovely dog")]


def classifier(architecture: str = "bert", **settings):
    torch.manual_seed(0)
    if architecture == "llama":
        config = LlamaConfig(**SIZES, **settings)
    else:
        config = BertConfig(vocab_size=259, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                            intermediate_size=48, max_position_embeddings=64, pad_token_id=256, **settings)  # fmt: skip
    return AutoModelForSequenceClassification.from_config(config).eval()


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_the_reward_is_the_logit_of_the_label_s_probability(architecture: str) -> None:
    model, tokenizer = classifier(architecture, id2label=LABELS, label2id={v: k for k, v in LABELS.items()}), None
    tokenizer = tiny_tokenizer()
    odds = classifier_reward(model, tokenizer, "angry")(ANSWERS)
    probabilities = classifier_reward(model, tokenizer, "1", probability=True)(ANSWERS)
    for item, found, probability in zip(ANSWERS, odds, probabilities, strict=True):
        ids = tokenizer(item.text)["input_ids"] or [256]
        expected = model(torch.tensor([ids])).logits.softmax(-1)[0, 1].item()
        assert probability == pytest.approx(expected, abs=1e-5)
        assert found == pytest.approx(math.log(expected / (1 - expected)), abs=1e-4)
    alone = [classifier_reward(model, tokenizer, "angry")([item])[0] for item in ANSWERS]
    assert alone == pytest.approx(odds, abs=1e-5)
    assert len({round(value, 5) for value in odds}) == 5


def test_multi_label_models_use_a_sigmoid_per_label() -> None:
    logits = torch.tensor([[1.0, -2.0, 3.0]])
    assert log_odds(logits, 1, False).item() == -2.0
    assert log_odds(logits, 1, True).item() == pytest.approx(-2 - math.log(math.e + math.e**3))
    assert log_odds(logits + 7, 1, True).item() == pytest.approx(log_odds(logits, 1, True).item(), abs=1e-5)
    model = classifier(id2label=LABELS, problem_type="multi_label_classification")
    expected = model(torch.tensor([tiny_tokenizer()("Yes")["input_ids"]])).logits[0, 2].item()
    assert classifier_reward(model, tiny_tokenizer(), "sad")([answer("Yes")])[0] == pytest.approx(expected, abs=1e-5)


def test_a_folder_loads_by_name_and_a_missing_classifier_or_label_is_an_error(tmp_path) -> None:
    model, tokenizer = classifier(id2label=LABELS), tiny_tokenizer()
    save_model(model, tokenizer, tmp_path / "mood")
    expected = classifier_reward(model, tokenizer, "sad")(ANSWERS)
    assert build_reward_fn(f"classifier:{tmp_path}/mood:sad", device="cpu")(ANSWERS) == pytest.approx(
        expected, abs=1e-5
    )
    with pytest.raises(UserError, match="no label 'glad'; expected one of calm, angry, sad"):
        build_reward_fn(f"classifier_probability:{tmp_path}/mood:glad", device="cpu")
    save_model(tiny_model(), tokenizer, tmp_path / "lm")
    with pytest.raises(UserError, match=r"lack 1 weights .* such as score.weight"):
        build_reward_fn(f"classifier:{tmp_path}/lm:1", device="cpu")


def test_a_text_beyond_the_model_s_length_is_truncated() -> None:
    model, tokenizer = classifier(), tiny_tokenizer()
    long, cut = classifier_reward(model, tokenizer, "1")([answer("x" * 200), answer("x" * 64)])
    assert long == pytest.approx(cut, abs=1e-6)
