"""Closed-book accuracy: the prediction is the most likely choice."""

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from zhenlong.evaluate.world.knowledge import closed_book_accuracy
from zhenlong.world import Cloze, World

TOKENIZER = tiny_tokenizer()
ITEMS = World(0).closed_book(24)


def likeliest(model, item):
    values = []
    for choice in item.choices:
        before, ids = (TOKENIZER(text)["input_ids"] for text in (item.prompt, choice))
        with torch.no_grad():
            rows = model(torch.tensor([before + ids])).logits[0, len(before) - 1 : -1].log_softmax(-1)
        values.append(float(rows[range(len(ids)), ids].sum()))
    return max(range(len(values)), key=values.__getitem__)


def test_the_choice_equals_that_of_separate_forward_passes():
    model = tiny_model()
    right = [likeliest(model, item) == item.answer for item in ITEMS]
    found = closed_book_accuracy((model, TOKENIZER), ITEMS)
    assert found["accuracy"]["mean"] == pytest.approx(sum(right) / len(right))
    assert found["accuracy"]["n"] == len(ITEMS)
    assert found["chance"] == 0.25
    assert sum(value["n"] for value in found["by_family"].values()) == len(ITEMS)


def test_only_the_answer_key_decides_what_is_right():
    model = tiny_model()
    picked = [likeliest(model, item) for item in ITEMS]
    known = [Cloze(item.prompt, item.choices, pick, "known") for item, pick in zip(ITEMS, picked, strict=True)]
    wrong = [Cloze(one.prompt, one.choices, (one.answer + 1) % 4, "unknown") for one in known]
    found = closed_book_accuracy((model, TOKENIZER), known + wrong)
    assert found["by_family"]["known"]["mean"] == 1.0
    assert found["by_family"]["unknown"]["mean"] == 0.0
    assert found["accuracy"]["mean"] == 0.5
