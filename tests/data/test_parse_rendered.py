"""Parsing inverts rendering, and the built-in formats equal those of the models' own tokenizers."""

import json
import re
from pathlib import Path

import pytest
from data.test_chat_templates import base_tokenizer, llama_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_tokenizer

from zhenlong.data import ChatTemplate
from zhenlong.data.builtin_templates import ALPACA_SYSTEM, BUILTIN_TEMPLATES
from zhenlong.data.parse_rendered import parse_rendered
from zhenlong.errors import UserError
from zhenlong.records import Message

TOKENIZERS = {
    "chatml": tiny_tokenizer(None),
    "llama2": llama_tokenizer("<s>", "</s>"),
    "llama3": llama_tokenizer(),
    "alpaca": llama_tokenizer("<s>", "</s>"),
}
TEMPLATES = {name: ChatTemplate.from_tokenizer(tokenizer, name) for name, tokenizer in TOKENIZERS.items()}
# As published in the tokenizer's configuration of meta-llama/Llama-2-7b-chat-hf.
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
WORDS = st.text(st.sampled_from('hi é\n."{}#'), min_size=1, max_size=10).filter(str.strip)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("aé\n\"'", max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from(["find", "get_weather", "a.b"])
ARGUMENTS = st.dictionaries(st.sampled_from(["x", "city", "q"]), VALUES, max_size=2)


def call(name, arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def signature(name, about="Finds."):
    inner = {"name": name, "description": about, "parameters": {"type": "object", "properties": {"x": {"type": "int"}}}}
    return {"type": "function", "function": inner}


SOMETIMES = st.booleans()
CALLS = st.builds(call, NAMES, ARGUMENTS)
TOOLS = st.lists(st.builds(signature, NAMES, WORDS), min_size=1, max_size=2).map(tuple)


@st.composite
def conversations(draw, tools=SOMETIMES, one_call=False, spaces=True, system=None):
    """Several exchanges, with or without a system turn; with tools, some responses are calls followed by results."""
    words = WORDS if spaces else WORDS.map(str.strip)
    offered = draw(TOOLS) if draw(tools) else ()
    has_system = draw(st.booleans()) if system is None else system
    turns = [Message("system", draw(words) if has_system else "", tools=offered)] if has_system or offered else []
    for _ in range(draw(st.integers(1, 3))):
        turns.append(Message("user", draw(words)))
        for _ in range(draw(st.integers(0, 2)) if offered else 0):
            calls = tuple(draw(st.lists(CALLS, min_size=1, max_size=1 if one_call else 2)))
            turns.append(Message("assistant", "" if one_call or draw(st.booleans()) else draw(words), calls))
            turns += [Message("tool", draw(words)) for _ in calls]
        turns.append(Message("assistant", draw(words)))
    return tuple(turns)


def own(template, messages, opened=False):
    """The output of a model's own template."""
    tools = [tool for message in messages for tool in message.tools]
    turns = []
    for one in messages:
        turn = {"role": one.role, "content": one.content}
        turns.append(turn | ({"tool_calls": list(one.tool_calls)} if one.tool_calls else {}))
    if messages[0].tools and not messages[0].content:
        turns = turns[1:]
    return TOKENIZERS["llama3"].apply_chat_template(
        turns, tools=tools or None, chat_template=template, tokenize=False, add_generation_prompt=opened
    )


def of_a_model(name):
    """A model's own template, from the copies that TRL uses to recognise models."""
    import trl

    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()


@pytest.mark.parametrize("name", ["chatml", "alpaca"])
@given(messages=conversations())
@settings(deadline=None, max_examples=25)
def test_parsing_inverts_rendering_exactly(name, messages):
    assert parse_rendered(TEMPLATES[name].render(messages), name) == messages


@pytest.mark.parametrize("name", ["llama2", "llama3"])
@given(messages=conversations(spaces=False))
@settings(deadline=None, max_examples=25)
def test_parsing_inverts_rendering_up_to_stripped_spaces(name, messages):
    assert parse_rendered(TEMPLATES[name].render(messages), name) == messages


@pytest.mark.parametrize("name", BUILTIN_TEMPLATES)
@given(messages=conversations(spaces=False))
@settings(deadline=None, max_examples=12)
def test_prompts_and_truncated_responses_are_parsed(name, messages):
    last = max(place for place, one in enumerate(messages) if one.role == "assistant" and not one.tool_calls)
    opened = TEMPLATES[name].render(messages[:last], add_generation_prompt=True)
    assert parse_rendered(opened, name) == messages[:last]
    begun = opened + (" Hel" if name == "llama2" else "Hel")
    assert parse_rendered(begun, name) == (*messages[:last], Message("assistant", "Hel"))


@pytest.mark.parametrize("name", BUILTIN_TEMPLATES)
@given(messages=conversations(spaces=False))
@settings(deadline=None, max_examples=12)
def test_eos_ends_turns_if_the_tokenizer_lacks_the_marker(name, messages):
    tokenizer = base_tokenizer()
    text = ChatTemplate.from_tokenizer(tokenizer, name).render(messages)
    assert text.count("<eos>") >= sum(one.role == "assistant" for one in messages)
    assert parse_rendered(text, name, tokenizer) == messages


@pytest.mark.parametrize("name", BUILTIN_TEMPLATES)
@given(messages=conversations())
@settings(deadline=None, max_examples=12)
def test_tool_results_are_context_and_never_scored(name, messages):
    """No token of a tool turn is scored, and every assistant turn ends with a scored token."""
    template = TEMPLATES[name]
    marked = tuple(Message("tool", "RESULT") if one.role == "tool" else one for one in messages)
    for ids, scored in template.training_examples(marked):
        said = template.tokenizer.decode([i for i, s in zip(ids, scored, strict=True) if s])
        heard = template.tokenizer.decode([i for i, s in zip(ids, scored, strict=True) if not s])
        assert "RESULT" not in said
        assert heard.count("RESULT") == sum(one.role == "tool" for one in messages)
        assert sum(s and i == template.stop_ids[0] for i, s in zip(ids, scored, strict=True)) == sum(
            one.role == "assistant" for one in messages
        )


@given(messages=conversations(tools=st.just(False)))
@settings(deadline=None, max_examples=25)
def test_llama2_equals_the_template_of_its_models(messages):
    source = LLAMA2.replace("bos_token", "'<s>'").replace("eos_token", "'</s>'")
    assert TEMPLATES["llama2"].render(messages) == own(source, messages)


@pytest.mark.peers("trl")
@given(messages=conversations(tools=st.just(False)))
@settings(deadline=None, max_examples=25)
def test_llama3_equals_the_template_of_its_models(messages):
    source = of_a_model("llama3")
    for opened, turns in ((False, messages), (True, messages[:-1])):
        assert TEMPLATES["llama3"].render(turns, opened) == own(source, turns, opened)


@pytest.mark.peers("trl")
@given(messages=conversations(tools=st.just(True), one_call=True))
@settings(deadline=None, max_examples=25)
def test_llama3_with_tools_equals_the_template_of_3_1(messages):
    """That template allows one call per turn and no text beside it."""
    source = of_a_model("llama3_1")
    for opened, turns in ((False, messages), (True, messages[:-1])):
        assert TEMPLATES["llama3"].render(turns, opened) == own(source, turns, opened)


@pytest.mark.peers("trl")
@given(messages=conversations(system=True))
@settings(deadline=None, max_examples=25)
def test_chatml_equals_the_template_of_qwen_with_a_system_turn(messages):
    source = of_a_model("qwen2_5")
    for opened, turns in ((False, messages), (True, messages[:-1])):
        assert TEMPLATES["chatml"].render(turns, opened) == own(source, turns, opened)


@pytest.mark.peers("trl")
@given(messages=conversations(system=False))
@settings(deadline=None, max_examples=25)
def test_chatml_equals_the_prompt_of_qwen3_without_reasoning(messages):
    """Qwen 3 puts reasoning into the turns that follow the last question."""
    source = of_a_model("qwen3")
    asked = max(place for place, one in enumerate(messages) if one.role == "user") + 1
    assert TEMPLATES["chatml"].render(messages[:asked], True) == own(source, messages[:asked], True)


@pytest.mark.peers("trl")
@given(messages=conversations(spaces=False, one_call=True), system=st.booleans())
@settings(deadline=None, max_examples=25)
def test_the_output_of_the_models_own_templates_is_parsed(messages, system):
    assert parse_rendered(own(of_a_model("llama3_1"), messages), "llama3") == messages
    qwen = parse_rendered(own(of_a_model("qwen2_5"), messages), "chatml")
    assert [one for one in qwen if one.role != "system"] == [one for one in messages if one.role != "system"]
    assert qwen[0].tools == messages[0].tools


def test_alpaca_equals_the_published_format():
    messages = (Message("user", "Add 2 and 3."), Message("assistant", "5"))
    text = TEMPLATES["alpaca"].render(messages)
    assert text == f"<s>{ALPACA_SYSTEM}\n\n### Instruction:\nAdd 2 and 3.\n\n### Response:\n5</s>\n\n"
    ids, scored = TEMPLATES["alpaca"].encode_conversation(messages)
    assert TEMPLATES["alpaca"].tokenizer.decode([i for i, s in zip(ids, scored, strict=True) if s]) == "5</s>"


def test_tools_are_where_the_format_puts_them():
    messages = (Message("system", "Be brief.", tools=(signature("find"),)), Message("user", "Hi."))
    body = json.dumps(signature("find"))
    for name in ("chatml", "llama2", "alpaca"):
        assert re.search(
            rf"Be brief\.\n\n# Tools\n.*<tools>\n{re.escape(body)}\n</tools>", TEMPLATES[name].render(messages), re.S
        )
    assert json.dumps(signature("find"), indent=4) + "\n\nHi.<|eot_id|>" in TEMPLATES["llama3"].render(messages)


def test_a_template_without_tool_support_gets_tools_as_text():
    messages = (Message("system", "", tools=(signature("find"),)), Message("user", "Hi."))
    text = ChatTemplate.from_tokenizer(tiny_tokenizer()).render(messages)
    assert f"<tools>\n{json.dumps(signature('find')['function'])}\n</tools>" in text


def test_an_invalid_call_is_plain_text():
    for words in ('<tool_call>\n{"name": 3}\n</tool_call>', "<tool_call>\nfind()\n</tool_call>", '{"name": "find"}'):
        for name in ("chatml", "llama3"):
            messages = (Message("user", "Hi."), Message("assistant", words))
            assert parse_rendered(TEMPLATES[name].render(messages), name) == messages


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("chatml", "hello", "character 0: expected the header of a turn, got 'hello'"),
        ("chatml", "<|im_start|>user\nHi.", r"character 17: expected <\|im_end\|> at the end of the user's turn"),
        ("llama2", "<s>[INST] Hi.", r"character 3: expected \[/INST\]"),
        ("llama2", "Hi.", r"character 0: expected \[INST\]"),
        ("alpaca", f"{ALPACA_SYSTEM}\n\n### Instruction:\nHi.", "expected ### Response: after the instruction"),
        ("gemma", "", "unknown; expected chatml, llama2, llama3, alpaca"),
    ],
)
def test_the_error_for_text_of_another_format_has_the_position(name, text, problem):
    with pytest.raises(UserError, match=problem):
        parse_rendered(text, name)
