"""OpenAssistant's conversation trees: a prompt, replies to it by several people, replies to those, and so on.

As demonstrations, a tree gives every path from the prompt to a leaf reply of the assistant; as rankings, one for every
message with two or more ranked replies of the assistant (Köpf et al. 2023, arXiv:2304.07327). Deleted replies, and
those that reviewers rejected, are excluded with everything below them, as in the published exports. A tree is one row
(`*.trees.jsonl`), or each message is a row (`OpenAssistant/oasst1` on the hub): `assemble_trees` builds trees from
those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final

from zhenlong.data.field_parsing import Fields, extra_columns
from zhenlong.data.files import RawRow
from zhenlong.records import Demonstration, Message, Messages, Ranking, Record

OASST_ROLES: Final = {"prompter": "user", "user": "user", "assistant": "assistant"}
MESSAGE_FIELDS: Final = ("message_id", "parent_id", "message_tree_id", "text", "role")
MessageNode = Mapping[str, Any]


def path_demonstrations(fields: Fields) -> list[Record]:
    """A demonstration for each path of a tree that ends with an assistant's reply."""
    root, meta = _root(fields)
    found = list(_paths(root, (), "prompt"))
    if not found:
        raise ValueError("prompt.replies: expected a reply by the assistant somewhere in the tree, got none")
    return [Demonstration(messages, meta=meta) for messages in found]


def reply_rankings(fields: Fields) -> list[Record]:
    """A ranking for each message of a tree with two or more ranked replies of the assistant."""
    root, meta = _root(fields)
    found: list[Record] = list(_rankings(root, (), "prompt", meta))
    if not found:
        if not any(_paths(root, (), "prompt")):
            raise ValueError("prompt.replies: expected a reply by the assistant somewhere in the tree, got none")
        raise ValueError(
            "prompt.replies: expected two or more ranked replies by the assistant to one message, got none"
        )
    return found


def best_path(fields: Fields) -> dict[str, Any]:
    """The tree with only the best-ranked reply to each message: a single path, as long as there are replies."""
    root = fields.get("prompt")
    return {**fields, "prompt": _with_best_replies_only(root)} if isinstance(root, Mapping) else dict(fields)


def assemble_trees(rows: Iterable[RawRow]) -> Iterator[RawRow]:
    """Trees from rows of single messages, each at the location of its prompt; other rows are unchanged."""
    remaining = iter(rows)
    first = next(remaining, None)
    if first is None or not set(MESSAGE_FIELDS) <= set(first.fields) or "replies" in first.fields:
        yield from ([] if first is None else chain([first], remaining))
        return
    trees: dict[str, dict[str, Any]] = {}
    known: dict[str, dict[str, Any]] = {}
    places: dict[str, str] = {}
    for row in chain([first], remaining):
        if row.problem or not set(MESSAGE_FIELDS) <= set(row.fields):
            yield (
                row if row.problem else RawRow(row.location, {}, f"expected a message with {', '.join(MESSAGE_FIELDS)}")
            )
            continue
        node = known[str(row.fields["message_id"])] = {**row.fields, "replies": []}
        parent = row.fields["parent_id"]
        if not parent:
            trees[str(row.fields["message_tree_id"])] = node
            places[str(row.fields["message_tree_id"])] = row.location
        elif str(parent) in known:
            known[str(parent)]["replies"].append(node)
        else:
            yield RawRow(row.location, {}, f"parent_id: expected the id of an earlier message, got {parent!r}")
    for name, root in trees.items():
        yield RawRow(places[name], {"message_tree_id": name, "prompt": root})


def _root(fields: Fields) -> tuple[MessageNode, dict[str, Any]]:
    root = fields["prompt"]
    if not isinstance(root, Mapping):
        raise ValueError(f"prompt: expected the tree's first message, got {type(root).__name__}")
    return root, {**extra_columns(fields, "tree_state"), **({"lang": root["lang"]} if root.get("lang") else {})}


def _paths(node: MessageNode, history: Messages, field: str) -> Iterator[Messages]:
    message, replies = _message(node, field), _replies(node, field)
    messages = (*history, message)
    answered = False
    for name, reply in replies:
        for path in _paths(reply, messages, name):
            answered = True
            yield path
    if message.role == "assistant" and not answered:
        yield messages


def _rankings(node: MessageNode, history: Messages, field: str, meta: dict[str, Any]) -> Iterator[Ranking]:
    messages, replies = (*history, _message(node, field)), _replies(node, field)
    ranked: dict[str, int] = {}
    for name, reply in replies:
        rank, reply_message = reply.get("rank"), _message(reply, name)
        if rank is not None and not isinstance(rank, int):
            raise ValueError(f"{name}.rank: expected a whole number, got {rank!r}")
        if reply_message.role == "assistant" and rank is not None:
            ranked[reply_message.content] = min(rank + 1, ranked.get(reply_message.content, rank + 1))
    if messages[-1].role == "user" and len(set(ranked.values())) > 1:
        yield Ranking(messages, tuple(ranked), tuple(ranked.values()), meta=meta)
    for name, reply in replies:
        yield from _rankings(reply, messages, name, meta)


def _replies(node: MessageNode, field: str) -> list[tuple[str, MessageNode]]:
    """The accepted replies, each with the name of its field."""
    replies = node.get("replies") or ()
    if not isinstance(replies, list | tuple) or not all(isinstance(one, Mapping) for one in replies):
        raise ValueError(f"{field}.replies: expected a list of messages, got {type(replies).__name__}")
    return [(f"{field}.replies[{i}]", one) for i, one in enumerate(replies) if _is_accepted(one)]


def _is_accepted(node: MessageNode) -> bool:
    return not node.get("deleted") and node.get("review_result") is not False


def _message(node: MessageNode, field: str) -> Message:
    role, text = node.get("role"), node.get("text")
    if role not in OASST_ROLES:
        raise ValueError(f"{field}.role: expected one of {', '.join(OASST_ROLES)}, got {role!r}")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{field}.text: expected some text, got {text!r}")
    return Message(OASST_ROLES[role], text)


def _with_best_replies_only(node: MessageNode) -> dict[str, Any]:
    """The node with at most one reply: the best-ranked of those that lead to an assistant's reply, else the first."""
    replies = [one for one in node.get("replies") or () if isinstance(one, Mapping) and _is_accepted(one)]
    leading = [one for one in replies if _has_assistant_reply(one)]
    best = sorted(leading, key=lambda one: one["rank"] if isinstance(one.get("rank"), int) else len(leading))[:1]
    return {**node, "replies": [_with_best_replies_only(one) for one in best]}


def _has_assistant_reply(node: MessageNode) -> bool:
    if node.get("role") == "assistant":
        return True
    return any(
        isinstance(one, Mapping) and _is_accepted(one) and _has_assistant_reply(one)
        for one in node.get("replies") or ()
    )
