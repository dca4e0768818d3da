"""A reward model's score equals the plain model's at the last token, independent of the batch."""

import pytest
import torch
from answers import answer
from tiny import SIZES, tiny_model, tiny_tokenizer
from transformers import AutoModelForSequenceClassification, LlamaConfig

from zhenlong.data import ChatTemplate
from zhenlong.errors import UserError
from zhenlong.rewards import build_reward_fn, from_model, load_model_reward, model_reward

ANSWERS = [
    answer("4"),
    answer("It is four, I believe."),
    answer("Paris", "Capital of France?"),
    answer("Par", "Capital of France?", truncated=True),
    answer("4"),
    answer("", "Say nothing.", truncated=True),
]


def classifier(labels: int = 1, **settings):
    config = LlamaConfig(**(SIZES | settings), num_labels=labels)
    torch.manual_seed(3)
    return AutoModelForSequenceClassification.from_config(config).eval()


def ids_of(item, template: ChatTemplate, closed: bool) -> list[int]:
    prompt = item.task.prompt
    return template.encode_prompt(prompt) + template.encode_response(prompt, item.text, end_turn=closed)


def test_score_is_the_plain_model_s_at_the_last_token() -> None:
    model, template = classifier(), ChatTemplate.from_tokenizer(tiny_tokenizer())
    found = model_reward(model, template)(ANSWERS)
    for item, score in zip(ANSWERS, found, strict=True):
        ids = ids_of(item, template, closed=not item.truncated or not item.text)
        hidden = model.model(input_ids=torch.tensor([ids])).last_hidden_state
        assert score == pytest.approx(model.score(hidden[0, -1]).item(), abs=1e-5)
    assert found[0] == pytest.approx(found[4], abs=1e-6)
    assert len({round(score, 4) for score in found}) == 5


def test_score_depends_neither_on_the_batch_nor_on_its_order() -> None:
    model, template = classifier(), ChatTemplate.from_tokenizer(tiny_tokenizer())
    together = model_reward(model, template)(ANSWERS)
    small = model_reward(model, template, tokens_per_microbatch=1)
    assert small(ANSWERS) == pytest.approx(together, abs=1e-5)
    assert small(ANSWERS[::-1]) == pytest.approx(together[::-1], abs=1e-5)
    assert [small([item])[0] for item in ANSWERS] == pytest.approx(together, abs=1e-5)


def test_a_truncated_response_is_scored_without_an_end_of_turn() -> None:
    model, template = classifier(), ChatTemplate.from_tokenizer(tiny_tokenizer())
    whole, cut = model_reward(model, template)([answer("Four"), answer("Four", truncated=True)])
    assert abs(whole - cut) > 1e-4


def test_scoring_is_in_eval_mode_without_gradient_and_changes_nothing() -> None:
    model, template = classifier(attention_dropout=0.5), ChatTemplate.from_tokenizer(tiny_tokenizer())
    expected = model_reward(model, template)(ANSWERS)
    model.train()
    assert model_reward(model, template)(ANSWERS) == pytest.approx(expected, abs=1e-6)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_folder_gives_the_same_scores_and_wrong_folders_are_user_errors(tmp_path) -> None:
    model, tokenizer = classifier(), tiny_tokenizer()
    model.save_pretrained(tmp_path / "rm"), tokenizer.save_pretrained(tmp_path / "rm")
    expected = model_reward(model, ChatTemplate.from_tokenizer(tokenizer))(ANSWERS)
    assert build_reward_fn(f"2*model:{tmp_path}/rm", device="cpu")(ANSWERS) == pytest.approx(
        [2 * score for score in expected], abs=1e-5
    )
    classifier(labels=3).save_pretrained(tmp_path / "three"), tokenizer.save_pretrained(tmp_path / "three")
    tiny_model().save_pretrained(tmp_path / "lm"), tokenizer.save_pretrained(tmp_path / "lm")
    for folder, expected_error in (("three", "3 labels"), ("lm", "is a language model"), ("none", "no such folder")):
        with pytest.raises(UserError, match=expected_error):
            load_model_reward(str(tmp_path / folder), device="cpu")
    with pytest.raises(UserError, match="2 labels"):
        model_reward(classifier(labels=2), ChatTemplate.from_tokenizer(tokenizer))


def test_input_longer_than_the_context_is_a_user_error() -> None:
    model, template = classifier(max_position_embeddings=40), ChatTemplate.from_tokenizer(tiny_tokenizer())
    with pytest.raises(UserError, match=r"response 1 has .* context is 40"):
        model_reward(model, template)([answer("x"), answer("x" * 40)])


def test_an_ensemble_of_folders_shares_a_tokenizer_and_loads_each_model_once(tmp_path, monkeypatch) -> None:
    tokenizer, other = tiny_tokenizer(), tiny_tokenizer()
    other.add_tokens(["<extra>"])
    scores = []
    for seed, name, own in ((0, "a", tokenizer), (1, "b", tokenizer), (2, "c", other)):
        model = classifier(vocab_size=len(own))
        with torch.no_grad():
            model.score.weight.mul_(seed + 1)
        model.save_pretrained(tmp_path / name), own.save_pretrained(tmp_path / name)
        scores.append(model_reward(model, ChatTemplate.from_tokenizer(own))(ANSWERS))
    a, b, c = (f"model:{tmp_path}/{name}" for name in "abc")
    loaded = []
    load_model = from_model.load_model
    monkeypatch.setattr(from_model, "load_model", lambda name, **own: loaded.append(name) or load_model(name, **own))
    graded = build_reward_fn(f"min({a}, {b}) + 2*{a}", device="cpu").breakdown(ANSWERS)
    assert len(loaded) == 2
    expected = [min(pair) + 2 * pair[0] for pair in zip(*scores[:2], strict=True)]
    assert graded.rewards == pytest.approx(expected, abs=1e-5)
    assert graded.components == {a: pytest.approx(scores[0], abs=1e-5), b: pytest.approx(scores[1], abs=1e-5)}
    for spec in (f"mean({a}, {c})", f"mean_minus_std({a}, {b}, {c}, 0.5)", f"safety_gate({c}, {b})"):
        with pytest.raises(UserError, match="have different tokenizers; expected an ensemble"):
            build_reward_fn(spec, device="cpu")
    assert len(build_reward_fn(f"{a} + {c}", device="cpu")(ANSWERS)) == len(ANSWERS)
