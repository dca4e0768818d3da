"""Perplexity and preference accuracy equal their definitions computed by plain forward passes."""

import math

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from zhenlong.data import ChatTemplate
from zhenlong.errors import UserError
from zhenlong.evaluate.heldout.text_metrics import perplexity, preference_accuracy, reward_accuracy
from zhenlong.forest import make_tree
from zhenlong.forest.scoring import log_prob_sums
from zhenlong.models import load_model, save_model
from zhenlong.records import Demonstration, Message, Ranking

TOKENIZER = tiny_tokenizer()
TEMPLATE = ChatTemplate.from_tokenizer(TOKENIZER)


def said(*contents: str) -> tuple[Message, ...]:
    return tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(contents))


DEMONSTRATIONS = [
    Demonstration(said("hi", "hello you")),
    Demonstration(said("one?", "1", "and two?", "2, of course")),
    Demonstration(said("bye", "so long")),
]
RANKINGS = [
    Ranking(said("a b"), ("yes", "no way"), (1, 2), strength=3),
    Ranking(said("c"), ("first", "second", "3rd"), (2, 1, 3), strength=1),
    Ranking(said("d d d"), ("left", "right"), (2, 1), strength=3),
    Ranking(said("e"), ("up", "down and out"), (1, 2)),
]


def plain_log_prob(model, before, scored):
    """The definition: one sequence, a plain forward pass, the sum over the scored ids."""
    with torch.no_grad():
        logits = model(torch.tensor([[*before, *scored]])).logits[0, len(before) - 1 : -1].double().log_softmax(-1)
    return float(logits[range(len(scored)), scored].sum())


def truth(model, ranking, better, worse):
    prompt = TEMPLATE.encode_prompt(ranking.prompt)
    ids = [TEMPLATE.encode_response(ranking.prompt, text) for text in ranking.responses]
    return plain_log_prob(model, prompt, ids[better]) - plain_log_prob(model, prompt, ids[worse])


@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_sums_equal_the_plain_ones_in_tree_order_for_any_micro_batch(budget):
    model = tiny_model()
    trees = [
        make_tree([5, 6], [[7], [8, 9, 10]]),
        make_tree([1] * 20, [[2] * 9]),
        make_tree([3], [[4, 4], [5], [6, 6]]),
    ]
    found = log_prob_sums(model, trees, budget)
    for node, sums in zip(trees, found, strict=True):
        expected = [plain_log_prob(model, node.tokens, child.tokens) for child in node.children]
        assert sums == pytest.approx(expected, abs=2e-4)


def test_perplexity_counts_the_assistants_tokens_only():
    model = tiny_model()
    loss = count = 0.0
    for one in DEMONSTRATIONS:
        ids, scored = TEMPLATE.encode_conversation(one.messages)
        for place, counts in enumerate(scored):
            if counts:
                loss -= plain_log_prob(model, ids[:place], ids[place : place + 1])
                count += 1
    found = perplexity((model, TOKENIZER), DEMONSTRATIONS)
    assert found["tokens"] == count
    assert found["perplexity"]["mean"] == pytest.approx(math.exp(loss / count), rel=1e-4)
    assert found["perplexity"]["ci95"] == [None, None]  # three conversations are too few
    low, high = perplexity((model, TOKENIZER), DEMONSTRATIONS * 4)["perplexity"]["ci95"]
    assert low <= found["perplexity"]["mean"] <= high
    assert found["perplexity"]["n"] == 3


def test_a_uniform_model_has_the_vocabularys_size_as_perplexity():
    model = tiny_model()
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    assert perplexity((model, TOKENIZER), DEMONSTRATIONS)["perplexity"]["mean"] == pytest.approx(259, rel=1e-4)


def test_preference_accuracy_is_the_fraction_of_pairs_in_order():
    model, reference = tiny_model(seed=1), tiny_model(seed=2)
    pairs = [(ranking, pair) for ranking in RANKINGS for pair in ranking.pairs()]
    alone = [truth(model, ranking, *pair) > 0 for ranking, pair in pairs]
    against = [truth(model, ranking, *pair) > truth(reference, ranking, *pair) for ranking, pair in pairs]
    found = preference_accuracy((model, TOKENIZER), RANKINGS)
    assert found["pairs"] == len(pairs) == 6
    assert found["accuracy"]["mean"] == pytest.approx(sum(alone) / 6)
    assert set(found["by_strength"]) == {"1", "3"}
    assert found["by_strength"]["3"]["n"] == 2
    implicit = preference_accuracy((model, TOKENIZER), RANKINGS, reference=(reference, TOKENIZER))
    assert implicit["accuracy"]["mean"] == pytest.approx(sum(against) / 6)


def test_a_policy_against_itself_prefers_nothing():
    pair = (tiny_model(), TOKENIZER)
    assert preference_accuracy(pair, RANKINGS, reference=pair)["accuracy"]["mean"] == 0.5


def test_negating_the_score_negates_the_accuracy(tmp_path):
    """Flipping the sign of the score turns every right pair into a wrong one."""
    save_model(tiny_model(), TOKENIZER, tmp_path / "base")
    model, tokenizer = load_model(str(tmp_path / "base"), kind="reward")
    forth = reward_accuracy((model, tokenizer), RANKINGS)["accuracy"]["mean"]
    model.score.weight.data.neg_()
    back = reward_accuracy((model, tokenizer), RANKINGS)["accuracy"]["mean"]
    assert forth + back == pytest.approx(1.0)
    save_model(model, tokenizer, tmp_path / "reward")
    assert reward_accuracy(tmp_path / "reward", RANKINGS)["accuracy"]["mean"] == back
    model.score.weight.data.zero_()
    assert reward_accuracy((model, tokenizer), RANKINGS)["accuracy"]["mean"] == 0.5


def test_overlong_records_are_counted():
    model = tiny_model(max_position_embeddings=64)
    long = Demonstration(said("x" * 40, "y" * 40))
    found = perplexity((model, TOKENIZER), [*DEMONSTRATIONS, long])
    assert found["overlong"] == 2  # the long one, and the one of two turns: 64 bytes are few
    assert found["perplexity"]["n"] == 2
    ranking = Ranking(said("x" * 40), ("y" * 40, "z"), (1, 2))
    assert preference_accuracy((model, TOKENIZER), [*RANKINGS, ranking])["overlong"] == 1


def test_no_records_give_null_instead_of_a_number():
    found = perplexity((tiny_model(), TOKENIZER), [])
    assert found["perplexity"] == {"mean": None, "ci95": [None, None], "n": 0}


def test_evaluation_changes_neither_mode_nor_random_state():
    model = tiny_model().train()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    perplexity((model, TOKENIZER), DEMONSTRATIONS)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_reference_with_other_tokens_is_refused():
    other = tiny_tokenizer()
    other.add_tokens(["<|more|>"])
    with pytest.raises(UserError, match="same vocabulary"):
        preference_accuracy((tiny_model(), TOKENIZER), RANKINGS, reference=(tiny_model(), other))


def test_a_language_model_is_refused_as_a_reward_model(tmp_path):
    save_model(tiny_model(), TOKENIZER, tmp_path / "base")
    with pytest.raises(UserError, match="expected a reward model"):
        reward_accuracy(tmp_path / "base", RANKINGS)
