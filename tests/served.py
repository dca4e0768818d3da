"""What a server renders of a conversation, by transformers alone, and its comparison with what is trained on."""

import json
import re

from zhenlong.data import ChatTemplate
from zhenlong.records import Message

TOOL = {
    "type": "function",
    "function": {
        "name": "finder",
        "description": "Finds a place.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "description": "Its name."}},
            "required": ["place"],
        },
    },
}


def ask(*texts: str) -> tuple[Message, ...]:
    """Messages of user and assistant, alternating."""
    return tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts))


def call(place: str) -> Message:
    """A call of the tool."""
    return Message(
        "assistant", "", ({"type": "function", "function": {"name": "finder", "arguments": {"place": place}}},)
    )


def asked_for(messages, source: str = "") -> list[dict]:
    """Messages as a client sends them: reasoning in the field that the template reads, no content beside calls."""
    names = ("reasoning_content", "reasoning", "thinking")
    fields = [name for name in names if re.search(rf"""(\.|['"]){name}\b""", source)]
    found = []
    for one in messages:
        sent = {"role": one.role, "content": one.content}
        thought = re.fullmatch(r"<think>\s*(.*?)\s*</think>\s*(.*)", one.content, re.DOTALL)
        if one.role == "assistant" and thought and fields:
            sent |= {"content": thought[2]} | dict.fromkeys(fields, thought[1])
        if one.tool_calls:
            sent |= {"content": one.content or None, "tool_calls": list(one.tool_calls)}
        found.append(sent)
    return found


def decode(template: ChatTemplate, ids) -> str:
    return template.tokenizer.decode(ids)


def require_equal_to_serving(template: ChatTemplate, messages) -> None:
    """Compare contexts, answers and masks of all turns with the saved template, rendered by transformers alone.

    The context of each answer is what a server renders for the messages before it, to the character. The answer is what
    the model has to write from there: where the template renders the whole conversation so that it begins with the
    context, it is the rest, up to the token that stops generation. Nothing else is scored.
    """
    tokenizer = template.tokenizer
    tokenizer.chat_template = template.saved_source
    tools = [tool for one in messages for tool in one.tools] or None
    turns = [i for i, one in enumerate(messages) if one.role == "assistant"]
    answers = {}
    for ids, scored in template.training_examples(messages):
        starts = [i for i, now in enumerate(scored) if now and not scored[i - 1]]
        for start in starts:
            end = next((i for i in range(start, len(ids)) if not scored[i]), len(ids))
            answers[decode(template, ids[:start])] = ids[start:end]
    assert len(answers) == len(turns)
    for turn in turns:
        context, whole = (
            _render(tokenizer, messages[: turn + more], tools, add_generation_prompt=not more) for more in (0, 1)
        )
        assert context in answers
        answer = answers[context]
        text, last = decode(template, answer), decode(template, answer[-1:])
        assert answer[-1] in template.stop_ids
        assert not set(answer[:-1]) & set(template.stop_ids) - {answer[-1]}
        if whole.startswith(context):
            expected = whole[len(context) :]
            assert text.startswith(expected.rstrip()) or expected.startswith(text)
            ended = text.removeprefix(expected)  # by EOS or the first token of a next turn, where no token ends a turn
            assert ended in ("", text, last)
            assert expected.startswith(text) or ended == last
            assert not expected.removeprefix(text.removesuffix(ended) or text).replace(tokenizer.eos_token, "").strip()
        else:  # the prompt opened the reasoning, which the template drops from written answers
            assert context.rstrip().endswith("<think>")
            assert text.endswith(whole[-len(last) - 1 :].rstrip("\n")[-len(last) :])
        for word in re.findall(r"\w+", messages[turn].content.replace("think", "")):
            assert word in text


def _render(tokenizer, messages, tools, add_generation_prompt=False) -> str:
    """The first form of the messages that the template renders with all of its words."""
    source = tokenizer.get_chat_template(tools=tools)
    sent = asked_for([one for one in messages if one.content or not one.tools], source)
    last = ""
    for change in (_as_is, _with_text, _with_json, _in_parts):
        try:
            last = tokenizer.apply_chat_template(
                [change(one) for one in sent], tools=tools, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except Exception:  # whatever a template raises: the next form is tried
            continue
        wanted = [word for one in sent if one["role"] != "assistant" for word in re.findall(r"\w+", one["content"])]
        wanted += ["finder" for one in messages if one.tool_calls]
        if all(word in last for word in wanted) and "'type': 'text'" not in last:
            return last
    return last


def _as_is(one: dict) -> dict:
    return one


def _with_text(one: dict) -> dict:
    return one | {"content": one["content"] or ""}


def _with_json(one: dict) -> dict:
    calls = [
        {**c, "function": {**c["function"], "arguments": json.dumps(c["function"]["arguments"])}}
        for c in one.get("tool_calls", ())
    ]
    return one | ({"tool_calls": calls} if calls else {})


def _in_parts(one: dict) -> dict:
    return one | {"content": [{"type": "text", "text": one["content"] or ""}]}
