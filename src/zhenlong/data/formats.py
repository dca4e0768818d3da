"""The row formats of the field: how one is recognised by its fields, and which records it gives.

A converter takes the fields of one row and returns one record or several. It raises `ValueError` with the field and
what was expected; `reader` adds file and line. Where a format has no converter for the kind that is asked for,
`convert` derives it from one that it has (`derive.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from zhenlong.data.chats import chat, with_system
from zhenlong.data.derive import derivable, derive
from zhenlong.data.kwise import LISTS, has_scores, kwise
from zhenlong.data.message_trees import paths, rankings
from zhenlong.data.prompts import Fields, extras, last_word, prompt, response, split_pair, text, transcript, truth
from zhenlong.records import (
    KINDS,
    Demonstration,
    Document,
    Message,
    Messages,
    Ranking,
    Rating,
    Record,
    Task,
    every,
    from_json,
)

Converter = Callable[[Fields], Record | Sequence[Record]]


@dataclass(frozen=True)
class Format:
    """A row is of this format if it has `fields` and `matches` agrees. `gives` maps a record kind to its converter."""

    name: str
    fields: tuple[str, ...]
    gives: Mapping[type[Record], Converter]
    matches: Callable[[Fields], bool] = field(default=lambda fields: True)

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.fields)})"


def detect(fields: Fields) -> Format | None:
    """The first format that a row fits, or None. A field that holds null counts as absent."""
    present = {name for name, value in fields.items() if value is not None}
    return next((f for f in FORMATS if present.issuperset(f.fields) and f.matches(fields)), None)


def kinds(form: Format) -> tuple[type[Record], ...]:
    """The record kinds that rows of a format can be read as."""
    return tuple(kind for kind in KINDS.values() if any(derivable(given, kind) for given in form.gives))


def convert(form: Format, fields: Fields, kind: type[Record]) -> list[Record]:
    """The records of `kind` that one row gives: one, two ratings from a preference, all paths of a tree."""
    source = kind if kind in form.gives else next(given for given in form.gives if derivable(given, kind))
    made = form.gives[source](fields)
    records = [_opened(one) for one in (made if isinstance(made, Sequence) else [made])]
    return records if source is kind else [found for one in records for found in derive(one, kind)]


def _opened(record: Record) -> Record:
    """`record`, after a check that its conversation does not begin with an answer to nothing."""
    messages: Messages = getattr(record, "messages", getattr(record, "prompt", ()))
    if messages and messages[0].role not in ("system", "user"):
        raise ValueError(f"messages[0]: expected the system's or the user's turn first, got the {messages[0].role}'s")
    return record


def _with_system(messages: Messages, fields: Fields) -> Messages:
    return with_system(messages, fields.get("system"), fields.get("tools"))


# Preferences


def _pair(before: Messages, chosen: str, rejected: str, fields: Fields, *used: str) -> Ranking:
    known = ("strength", "annotator")
    strength, annotator = (fields.get(name) for name in known)
    meta = extras(fields, "prompt", "chosen", "rejected", "system", "tools", *known, *used)
    level = int(strength) if isinstance(strength, str) and strength.isdigit() else strength
    return Ranking(before, (chosen, rejected), (1, 2), level, annotator, meta=meta)


def _explicit_preference(fields: Fields, source: str = "prompt") -> Ranking:
    before = prompt(fields[source], source)
    chosen, rejected = every(response, [(fields[side], side, before) for side in ("chosen", "rejected")])
    return _pair(_with_system(before, fields), chosen, rejected, fields, source)


def _implicit_preference(fields: Fields, chosen: str = "chosen", rejected: str = "rejected") -> Ranking:
    before, better, worse = split_pair(chat(fields[chosen], chosen), chat(fields[rejected], rejected))
    return _pair(_with_system(before, fields), better, worse, fields, chosen, rejected)


def _transcript_preference(fields: Fields) -> Ranking:
    return _pair(
        *split_pair(transcript(fields["chosen"], "chosen"), transcript(fields["rejected"], "rejected")), fields
    )


def _alpaca_preference(fields: Fields) -> Ranking:
    before = _alpaca_prompt(fields)
    chosen, rejected = every(response, [(fields[side], side, before) for side in ("chosen", "rejected")])
    return _pair(before, chosen, rejected, fields, "instruction", "input", "history")


def _two_outputs(fields: Fields, asked: str, label: str) -> Ranking:
    before = _alpaca_prompt(fields) if asked == "instruction" else _with_system(prompt(fields[asked], asked), fields)
    both = every(response, [(fields[side], side, before) for side in ("output_1", "output_2")])
    said = str(fields[label])
    if said not in ("1", "2"):
        raise ValueError(f"{label}: expected 1 or 2, the number of the better output, got {fields[label]!r}")
    better, worse = both if said == "1" else reversed(both)
    return _pair(before, better, worse, fields, "instruction", "input", "output_1", "output_2", label)


def _kwise(fields: Fields, listed: str, asked: str) -> Ranking:
    before = _alpaca_prompt(fields) if asked == "instruction" else _with_system(prompt(fields[asked], asked), fields)
    return kwise(fields, before, listed)


# Ratings


def _prompt_rating(fields: Fields) -> Rating:
    before = prompt(fields["prompt"], "prompt")
    answer = response(fields["completion"], "completion", before)
    meta = extras(fields, "prompt", "completion", "label", "system", "tools")
    return Rating(_with_system(before, fields), answer, truth(fields["label"], "label"), meta)


def _chat_rating(fields: Fields, turns: str, label: str) -> Rating:
    messages = _with_system(chat(fields[turns], turns), fields)
    meta = extras(fields, turns, label, "system", "tools")
    return Rating(messages[:-1], last_word(messages[-1:], turns), truth(fields[label], label), meta)


# Demonstrations


def _chat(fields: Fields, turns: str) -> Demonstration:
    messages = _with_system(chat(fields[turns], turns), fields)
    return Demonstration(messages, meta=extras(fields, turns, "system", "tools"))


def _alpaca_prompt(fields: Fields) -> Messages:
    question = "\n\n".join(part for part in (text(fields, "instruction"), text(fields, "input", "")) if part.strip())
    if not question:
        raise ValueError("instruction: expected some text, got none")
    earlier: list[Message] = []
    for exchange in fields.get("history") or ():
        if not isinstance(exchange, list | tuple) or len(exchange) != 2:
            raise ValueError("history: expected a list of pairs of question and answer")
        earlier += [Message("user", exchange[0]), Message("assistant", exchange[1])]
    return _with_system((*earlier, Message("user", question)), fields)


def _alpaca(fields: Fields) -> Demonstration:
    answer = Message("assistant", text(fields, "output"))
    meta = extras(fields, "instruction", "input", "output", "system", "history", "tools")
    return Demonstration((*_alpaca_prompt(fields), answer), meta=meta)


def _flan(fields: Fields) -> Demonstration:
    before, answer = (
        _with_system(prompt(fields["inputs"], "inputs"), fields),
        Message("assistant", text(fields, "targets")),
    )
    return Demonstration((*before, answer), meta=extras(fields, "inputs", "targets", "system", "tools"))


def _completion(fields: Fields) -> Demonstration:
    before = prompt(fields["prompt"], "prompt")
    answer = Message("assistant", response(fields["completion"], "completion", before))
    return Demonstration(
        (*_with_system(before, fields), answer), meta=extras(fields, "prompt", "completion", "system", "tools")
    )


# Questions with an answer, prompts alone, text

_FINAL: Final = re.compile(r"####[ \t]*(\S[^\n]*?)\s*$")


def _answer_task(fields: Fields, question: str, answer: str) -> Task:
    """GSM8K ends its worked answers with `#### 18`: the reference is what follows, without thousands commas."""
    before = _with_system(prompt(fields[question], question), fields)
    reference = _answer(fields, answer)
    final = _FINAL.search(reference)
    if final:
        reference = re.sub(r"(?<=\d),(?=\d{3})", "", final[1])
    checked_as = "math" if final or question == "problem" else "exact"
    return _with_columns(Task(before, reference, fields.get("verifier") or checked_as), fields)


def _answer_demonstration(fields: Fields, question: str, answer: str) -> Demonstration:
    """The worked solution where the row has one beside the bare answer."""
    before = _with_system(prompt(fields[question], question), fields)
    worked = answer if fields.get("solution") is None else "solution"
    meta = extras(fields, question, worked, "system", "tools")
    return Demonstration((*before, Message("assistant", _answer(fields, worked))), meta=meta)


def _answer(fields: Fields, name: str) -> str:
    """An answer as text; a number is one, a list is not."""
    value = fields[name]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else text(fields, name)


def _prompt_task(fields: Fields) -> Task:
    before = _with_system(prompt(fields["prompt"], "prompt"), fields)
    return _with_columns(Task(before, verifier=fields.get("verifier") or ""), fields)


def _with_columns(task: Task, fields: Fields) -> Task:
    arguments, groups = fields.get("arguments") or {}, fields.get("groups") or {}
    return Task(task.prompt, task.reference, task.verifier, arguments, groups)


def _document(fields: Fields) -> Document:
    return Document(text(fields, "text"), text(fields, "source", ""))


def _own(fields: Fields, kind: str) -> Record:
    return from_json({name: value for name, value in fields.items() if value is not None})


def _holds(name: str, *types: type) -> Callable[[Fields], bool]:
    return lambda fields: isinstance(fields[name], types)


def _no_choices(fields: Fields) -> bool:
    """Multiple choice is no question with an answer: its options would be lost."""
    return not any(name.startswith("choice") for name in fields)


def _is_truth(fields: Fields, label: str) -> bool:
    """A label that is neither true nor false is a category, and the row a conversation."""
    try:
        truth(fields[label], label)
    except ValueError:
        return False
    return True


def _is_kind(fields: Fields, kind: str) -> bool:
    return fields["kind"] == kind


def _is_tree(fields: Fields) -> bool:
    return isinstance(fields["prompt"], Mapping)


def _preference(name: str, fields: tuple[str, ...], converter: Converter, **rest: Any) -> Format:
    return Format(name, fields, {Ranking: converter}, **rest)


_QUESTIONS: Final = [(q, a) for q in ("question", "problem", "prompt") for a in ("answer", "reference")]
FORMATS: Final = (
    *(Format(f"own {k}", ("kind",), {t: partial(_own, kind=k)}, partial(_is_kind, kind=k)) for k, t in KINDS.items()),
    Format("message tree", ("message_tree_id", "prompt"), {Demonstration: paths, Ranking: rankings}, _is_tree),
    *(
        _preference(
            f"scored {listed}",
            (asked, listed),
            partial(_kwise, listed=listed, asked=asked),
            matches=partial(has_scores, listed=listed),
        )
        for asked in ("prompt", "instruction")
        for listed in LISTS
    ),
    _preference(
        "messages preference",
        ("chosen_messages", "rejected_messages"),
        partial(_implicit_preference, chosen="chosen_messages", rejected="rejected_messages"),
    ),
    _preference(
        "ShareGPT preference",
        ("conversations", "chosen", "rejected"),
        partial(_explicit_preference, source="conversations"),
    ),
    _preference("TRL preference", ("prompt", "chosen", "rejected"), _explicit_preference),
    _preference("Alpaca preference", ("instruction", "chosen", "rejected"), _alpaca_preference),
    *(
        _preference(
            f"two outputs and {label}",
            (asked, "output_1", "output_2", label),
            partial(_two_outputs, asked=asked, label=label),
        )
        for asked, label in (("input", "label"), ("instruction", "preference"))
    ),
    _preference("HH-RLHF transcript", ("chosen", "rejected"), _transcript_preference, matches=_holds("chosen", str)),
    _preference("TRL preference, implicit prompt", ("chosen", "rejected"), _implicit_preference),
    *(
        Format(
            f"rated {turns}",
            (turns, label),
            {Rating: partial(_chat_rating, turns=turns, label=label)},
            partial(_is_truth, label=label),
        )
        for turns in ("messages", "conversations")
        for label in ("label", "kto_tag")
    ),
    Format("TRL unpaired preference", ("prompt", "completion", "label"), {Rating: _prompt_rating}),
    Format("prompt-completion", ("prompt", "completion"), {Demonstration: _completion}),
    Format("ShareGPT", ("conversations",), {Demonstration: partial(_chat, turns="conversations")}),
    Format("messages", ("messages",), {Demonstration: partial(_chat, turns="messages")}),
    Format("Alpaca", ("instruction", "output"), {Demonstration: _alpaca}),
    Format("FLAN", ("inputs", "targets"), {Demonstration: _flan}),
    *(
        Format(
            f"{q} and {a}",
            (q, a),
            {
                Task: partial(_answer_task, question=q, answer=a),
                Demonstration: partial(_answer_demonstration, question=q, answer=a),
            },
            _no_choices,
        )
        for q, a in _QUESTIONS
    ),
    Format("prompt alone", ("prompt",), {Task: _prompt_task}, _no_choices),
    Format("plain text", ("text",), {Document: _document}),
)
