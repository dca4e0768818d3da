"""Conversation trees: each path once, ranks among siblings, and errors with location and field."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhenlong.data import read
from zhenlong.data.message_trees import best_path, path_demonstrations, reply_rankings
from zhenlong.errors import UserError
from zhenlong.records import Demonstration, Message, Ranking


def node(text, role="assistant", *replies, **more):
    return {"message_id": text, "text": text, "role": role, "replies": list(replies), **more}


def tree(root):
    return {"message_tree_id": "t", "tree_state": "ready_for_export", "prompt": root}


TREE = tree(
    node(
        "Hi.",
        "prompter",
        node("Yes?", "assistant", node("Bye.", "prompter", node("Ciao."), node("Adieu.", rank=0)), rank=1),
        node("Hello.", "assistant", node("And?", "prompter"), rank=0),
        node("No.", rank=2),
        node("Spam.", rank=3, deleted=True),
        node("Rude.", review_result=False),
        lang="en",
    )
)
USER = Message("user", "Hi.")


def said(record):
    return [message.content for message in record.messages]


@st.composite
def trees(draw, role="prompter", depth=0):
    """Trees with distinct texts; the assistant's replies are ranked, some of them without a rank."""
    count = draw(st.integers(0, 3 if depth < 3 else 0))
    other = "assistant" if role == "prompter" else "prompter"
    replies = [draw(trees(other, depth + 1)) for _ in range(count)]
    order = draw(st.permutations(range(count)))
    for place, reply in enumerate(replies):
        reply["rank"] = order[place] if draw(st.booleans()) else None
    root = {"text": "", "role": role, "replies": replies}
    for number, chain in enumerate(walk(root)):
        chain[-1]["text"] = f"text {number}"
    return root


def walk(one, before=()):
    here = (*before, one)
    yield here
    for reply in one["replies"]:
        yield from walk(reply, here)


def test_every_path_to_a_leaf_reply_of_the_assistant_is_a_demonstration():
    found = path_demonstrations(TREE)
    assert [said(one) for one in found] == [
        ["Hi.", "Yes?", "Bye.", "Ciao."],
        ["Hi.", "Yes?", "Bye.", "Adieu."],
        ["Hi.", "Hello."],
        ["Hi.", "No."],
    ]
    assert all(one.meta == {"message_tree_id": "t", "lang": "en"} for one in found)


def test_ranks_come_from_siblings_and_messages_without_two_ranked_replies_give_no_ranking():
    (found,) = reply_rankings(TREE)
    assert found.prompt == (USER,)
    assert dict(zip(found.responses, found.ranks, strict=True)) == {"Yes?": 2, "Hello.": 1, "No.": 3}


def test_the_best_path_follows_the_best_ranked_reply():
    assert [said(one) for one in path_demonstrations(best_path(TREE))] == [["Hi.", "Hello."]]
    assert [
        said(one)
        for one in path_demonstrations(best_path(tree(node("Hi.", "prompter", *TREE["prompt"]["replies"][:1]))))
    ] == [["Hi.", "Yes?", "Bye.", "Adieu."]]


@given(trees())
@settings(deadline=None, max_examples=20)
def test_paths_and_rankings_equal_those_of_a_tree_walk(root):
    chains = list(walk(root))
    ends = [c for c in chains if c[-1]["role"] == "assistant" and not any(
        m["role"] == "assistant" for below in walk(c[-1]) for m in below[1:]
    )]  # fmt: skip
    ranked = {}
    for chain in chains:
        replies = [r for r in chain[-1]["replies"] if r["role"] == "assistant" and r["rank"] is not None]
        if len(replies) > 1:
            order = sorted(replies, key=lambda one: one["rank"])
            ranked[tuple(m["text"] for m in chain)] = tuple(reply["text"] for reply in order)
    if not ends:
        with pytest.raises(ValueError, match="expected a reply by the assistant"):
            path_demonstrations(tree(root))
        return
    assert [said(one) for one in path_demonstrations(tree(root))] == [[m["text"] for m in chain] for chain in ends]
    assert len(path_demonstrations(best_path(tree(root)))) == 1
    if ranked:
        found = reply_rankings(tree(root))
        assert {
            tuple(m.content for m in one.prompt): tuple(
                t for _, t in sorted(zip(one.ranks, one.responses, strict=True))
            )
            for one in found
        } == ranked


def flat(one, parent=None):
    rest = {key: value for key, value in one.items() if key != "replies"}
    yield {**rest, "parent_id": parent, "message_tree_id": "t"}
    for reply in one["replies"]:
        yield from flat(reply, one["message_id"])


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_one_message_per_row_gives_the_same_trees(tmp_path):
    rows = write(tmp_path / "messages.jsonl", *flat(TREE["prompt"]))
    whole = write(tmp_path / "trees.jsonl", TREE)
    for kind in (Demonstration, Ranking):
        assert read(rows, kind) == read(whole, kind)
    assert [said(one) for one in read(f"{whole}?paths=best", Demonstration)] == [["Hi.", "Hello."]]
    assert read(f"{rows}?paths=all", Demonstration) == read(whole, Demonstration)


UNANSWERED = tree(node("Hi.", "prompter", node("Anyone?", "prompter")))


@pytest.mark.parametrize(
    ("root", "kind", "problem"),
    [
        (
            UNANSWERED["prompt"],
            Demonstration,
            "prompt.replies: expected a reply by the assistant somewhere in the tree",
        ),
        (UNANSWERED["prompt"], Ranking, "prompt.replies: expected a reply by the assistant somewhere in the tree"),
        (node("Hi.", "prompter", node("Yes.")), Ranking, "prompt.replies: expected two or more ranked replies"),
        (node("Hi.", "prompter", node(" ")), Demonstration, r"prompt.replies\[0\].text: expected some text, got ' '"),
        (node("Hi.", "robot"), Demonstration, "prompt.role: expected one of prompter, user, assistant, got 'robot'"),
        (
            node("Hi.", "prompter", node("a", rank="b"), node("c", rank=1)),
            Ranking,
            r"prompt.replies\[0\].rank: expected a whole number, got 'b'",
        ),
    ],
)
def test_the_error_for_an_invalid_tree_names_line_and_field(tmp_path, root, kind, problem):
    path = write(tmp_path / "trees.jsonl", TREE, tree(root))
    with pytest.raises(UserError, match=f"trees.jsonl, line 2: {problem}"):
        read(path, kind)


def test_a_reply_with_an_unknown_parent_is_a_bad_row(tmp_path):
    rows = list(flat(TREE["prompt"]))
    path = write(tmp_path / "messages.jsonl", *rows, {**rows[1], "message_id": "x", "parent_id": "nobody"})
    with pytest.raises(UserError, match=r"line 11: parent_id: expected the id of an earlier message, got 'nobody'"):
        read(path, Demonstration)


def test_an_unknown_value_of_paths_is_refused(tmp_path):
    path = write(tmp_path / "trees.jsonl", TREE)
    with pytest.raises(UserError, match="paths=first: expected all, or best"):
        read(f"{path}?paths=first", Demonstration)
