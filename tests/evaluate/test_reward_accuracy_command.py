"""A trained reward model on new pairs, with turns of one role in a row."""

import json
from itertools import pairwise

import pytest

from zhenlong.errors import UserError
from zhenlong.evaluate.heldout.reward_accuracy_command import merge_turns, reward_accuracy_command
from zhenlong.models import load_model
from zhenlong.records import Message, Ranking


class Strict:
    """A template that takes alternating turns only."""

    def encode_prompt(self, messages):
        roles = [one.role for one in messages]
        if any(a == b for a, b in pairwise(roles)) or roles[-1] != "user":
            raise UserError("roles must alternate")
        return [1]


class Lenient:
    def encode_prompt(self, messages):
        return [1]


TURNS = (Message("user", "Hi."), Message("assistant", "One."), Message("assistant", "Two."), Message("user", "More."))
TWICE = Ranking(TURNS, ("a", "b"), (1, 2))


def test_turns_in_a_row_are_merged_only_where_the_template_refuses_them():
    assert merge_turns([TWICE], Lenient()) == ([TWICE], 0)
    (found,), merged = merge_turns([TWICE], Strict())
    assert merged == 1
    assert [one.content for one in found.prompt] == ["Hi.", "One.\n\nTwo.", "More."]
    assert found.responses == TWICE.responses


def test_new_pairs_give_accuracy_margin_and_groups(tmp_path, capsys):
    turns = [{"role": one.role, "content": one.content} for one in TURNS]
    rows = [{"prompt": turns, "chosen": f"yes {n}", "rejected": f"no no {n}", "source": "ab"[n % 2]} for n in range(4)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    network, tokenizer = load_model("pocket", kind="reward")
    for part in (network, tokenizer):
        part.save_pretrained(tmp_path / "rm")
    options = {"model": str(tmp_path / "rm"), "data": str(tmp_path / "pairs.jsonl"), "chat_template": "chatml"}
    found = reward_accuracy_command(**options, json=True)
    assert json.loads(capsys.readouterr().out) == found
    assert found["pairs"] == found["accuracy"]["n"] == 4
    assert {name: one["pairs"] for name, one in found["by_group"].items()} == {"a": 2, "b": 2}
    halves = sum(one["accuracy"]["mean"] for one in found["by_group"].values()) / 2
    assert found["accuracy"]["mean"] == pytest.approx(halves)
    assert found["margin"]["mean"] == pytest.approx(
        sum(one["margin"]["mean"] for one in found["by_group"].values()) / 2
    )
    with pytest.raises(UserError, match="group 'sorce': no row has this column; there are source"):
        reward_accuracy_command(**options, group="sorce")
