"""The trained text equals what serving renders: contexts, answers and saved templates, for traps of real templates."""

import json

import pytest
from served import TOOL, ask, asked_for, call, decode, require_equal_to_serving
from tiny import CHATML, tiny_tokenizer

from zhenlong.data import ChatTemplate
from zhenlong.data.template_sources import find_template, parse_template_kwargs, template_spec
from zhenlong.errors import UserError
from zhenlong.records import Message
from zhenlong.stages.stage_steps import prepare_for_saving

TURN = "<|im_start|>{{ m.role + '\n' }}"
PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def own(body: str, prompt: str = PROMPT) -> str:
    """A template that writes each message `m` by `body`."""
    return "{% for m in messages %}" + body + "{% endfor %}" + prompt


def written(answer: str) -> str:
    """A template of ChatML turns in which an assistant's text is what `answer` writes."""
    return own(TURN + "{% if m.role == 'assistant' %}" + answer + "{% else %}{{ m.content }}{% endif %}<|im_end|>\n")


# DeepSeek-R1's distilled models: the prompt opens the reasoning, written answers lose theirs
STRIPPED = written("{{ m.content.split('</think>')[-1] }}").replace(
    "<|im_start|>assistant\n{%", "<|im_start|>assistant\n<think>\n{%"
)
# Nemotron 3: opened or closed by an argument; reasoning stays in the last answer
SWITCHED = own(
    TURN + "{% if m.role == 'assistant' and '</think>' not in m.content %}<think></think>{% endif %}"
    "{{ m.content }}<|im_end|>\n",
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% else %}<think>\n{% endif %}"
    "{% endif %}",
)
# GLM 4: no token ends a turn, the next one begins with one
NEXT_TURN = own(
    "{% if m.role == 'tool' %}<|tool|>{{ m.content }}{% else %}<|{{ m.role }}|>{{ m.content }}{% endif %}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}",
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
)
# gpt-oss and Gemma 4: reasoning has a field and a place of its own
FIELD = written("{% if m.thinking %}<|im_start|>thought\n{{ m.thinking }}<|im_end|>{% endif %}{{ m.content }}")
DROPPED_FIELD = written("{% if m.reasoning and m.tool_calls %}{{ m.reasoning }}{% endif %}{{ m.content }}")
# SmolVLM: content is a list of parts
PARTS = own(TURN + "{% for part in m.content %}{{ part.text }}{% endfor %}<|im_end|>\n")
# DeepSeek: arguments are text
JSON_ARGUMENTS = written(
    "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name + c.function.arguments }}{% endfor %}"
)
CALLS_LOST = written("{{ m.content }}{% if false %}{{ m.tool_calls }}{% endif %}")
NO_TOOL_ROLE = own("{% if m.role != 'tool' %}" + TURN + "{{ m.content }}<|im_end|>\n{% endif %}")
OTHER_END_OF_CALLS = own(
    TURN + "{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls | tojson }}<|tool|>{% else %}<|im_end|>\n{% endif %}"
)

THOUGHTFUL = ask("Hi.", "<think>\nwhy\n</think>\n\nHello.", "More?", "<think>\nhmm\n</think>\n\nNo.")
PLAIN = ask("Hi.", "Hello.", "More?", "No.")
CALLING = (Message("user", "Find it."), call("Rome"), Message("tool", "it is 3"), Message("assistant", "Three."))


def template_of(source: str, name: str = "auto") -> ChatTemplate:
    tokenizer = tiny_tokenizer(source)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>", "<|tool|>"]})
    return ChatTemplate.from_tokenizer(tokenizer, name)


@pytest.mark.parametrize(
    ("source", "messages"),
    [
        (STRIPPED, THOUGHTFUL),
        (SWITCHED, THOUGHTFUL),
        (NEXT_TURN, PLAIN),
        (NEXT_TURN, CALLING),
        (FIELD, THOUGHTFUL),
        (PARTS, PLAIN),
        (JSON_ARGUMENTS, CALLING),
        (OTHER_END_OF_CALLS, CALLING),
        (CHATML, PLAIN),
    ],
)
def test_contexts_and_answers_are_those_of_serving(source, messages):
    require_equal_to_serving(template_of(source), messages)


@pytest.mark.parametrize(
    ("source", "messages", "reason"),
    [
        (STRIPPED, PLAIN, "opens <think> before an answer.*--chat_template chatml"),
        (SWITCHED, PLAIN, "opens <think> before an answer.*--chat_template_kwargs enable_thinking=false"),
        (STRIPPED, (CALLING[0], call("Rome")), "omits a tool call|opens <think>"),
        (DROPPED_FIELD, THOUGHTFUL, r"omits an answer's reasoning \(its source reads reasoning\)"),
        (CALLS_LOST, CALLING, "omits a tool call"),
        (NO_TOOL_ROLE, CALLING, "omits a tool turn"),
        (written("{{ m.content[:4] }}"), PLAIN, "does not include the assistant's text"),
        (
            written("{{ m.content if m.content | length < 10 else m.content[:10] }}"),
            ask("Hi.", "Hello to you."),
            "omits part",
        ),
    ],
)
def test_what_serving_would_not_render_is_refused_with_the_reason(source, messages, reason):
    with pytest.raises(UserError, match=reason):
        template_of(source).training_examples(messages)


def test_an_opened_thought_is_continued_by_the_data():
    template = template_of(STRIPPED)
    prompt = template.encode_prompt(THOUGHTFUL[:1])
    assert decode(template, prompt).endswith("<|im_start|>assistant\n<think>\n")
    expected = "why\n</think>\n\nHello.<|im_end|>"
    for answer in ("<think>\nwhy\n</think>\n\nHello.", "<think>why\n</think>\n\nHello.", "why\n</think>\n\nHello."):
        assert decode(template, template.encode_response(THOUGHTFUL[:1], answer)) == expected
    later = template.training_examples(THOUGHTFUL)[-1][0]
    assert "assistant\n\n\nHello.<|im_end|>" in decode(template, later)  # as context without its reasoning


def test_a_closed_thought_takes_answers_without_reasoning():
    template = template_of(SWITCHED, "auto?enable_thinking=false")
    require_equal_to_serving(template, PLAIN)
    assert decode(template, template.encode_prompt(PLAIN[:1])).endswith("assistant\n<think></think>")
    with pytest.raises(UserError, match=r"closes the reasoning.*enable_thinking=true"):
        template.training_examples(THOUGHTFUL)


def test_the_next_turns_token_ends_an_answer_and_is_saved():
    template = template_of(NEXT_TURN)
    ids, scored = template.encode_conversation(PLAIN)
    text = "<|user|>Hi.<|assistant|>Hello.<|user|>More?<|assistant|>No.<|user|>"
    assert decode(template, ids) == text
    assert decode(template, [i for i, one in zip(ids, scored, strict=True) if one]) == "Hello.<|user|>No.<|user|>"
    names = template.tokenizer.convert_ids_to_tokens(template.stop_ids)
    assert names == ["<|user|>", "<|tool|>", "<|endoftext|>"]
    scored_calls = [i for i, one in zip(*template.encode_conversation(CALLING), strict=True) if one]
    assert decode(template, scored_calls) == 'finder{"place": "Rome"}<|tool|>Three.<|user|>'


def test_the_token_that_ends_calls_stops_generation_too():
    template = template_of(OTHER_END_OF_CALLS)
    assert template.tokenizer.convert_ids_to_tokens(template.stop_ids) == ["<|im_end|>", "<|tool|>", "<|endoftext|>"]


def test_named_templates_are_chosen_and_kept():
    tool_use = "{{ tools | tojson }}" + CHATML
    tokenizer = tiny_tokenizer(None)
    tokenizer.chat_template = {"default": CHATML, "tool_use": tool_use, "rag": "rag\n" + CHATML}
    messages = (Message("system", "Be kind.", tools=(TOOL,)), *PLAIN)
    auto = ChatTemplate.from_tokenizer(tokenizer)
    assert auto.render(PLAIN).startswith("<|im_start|>user")
    assert auto.render(messages).startswith('[{"type": "function"')  # as transformers chooses where tools are given
    assert auto.saved_source == tokenizer.chat_template
    rag = ChatTemplate.from_tokenizer(tokenizer, "rag")
    assert rag.render(PLAIN).startswith("rag\n")
    assert rag.saved_source == {"default": "rag\n" + CHATML, "tool_use": tool_use}
    with pytest.raises(UserError, match="--chat_template vicuna: unknown; expected auto, tool_use, rag, chatml"):
        ChatTemplate.from_tokenizer(tokenizer, "vicuna")
    tokenizer.chat_template = {"rag": CHATML}
    with pytest.raises(UserError, match=r"none is the default; choose one with --chat_template rag"):
        ChatTemplate.from_tokenizer(tokenizer)


def test_a_file_is_a_template(tmp_path):
    (tmp_path / "mine.jinja").write_text("mine\n" + CHATML)
    template = ChatTemplate.from_tokenizer(tiny_tokenizer(None), str(tmp_path / "mine.jinja"))
    assert template.render(PLAIN).startswith("mine\n<|im_start|>user")
    assert prepare_for_saving(object(), template)[1].chat_template == "mine\n" + CHATML
    with pytest.raises(UserError, match=r"other\.jinja: cannot read the template \(No such file"):
        ChatTemplate.from_tokenizer(tiny_tokenizer(None), str(tmp_path / "other.jinja"))


@pytest.mark.parametrize("source", ["{{ x }}" + CHATML, "\n  {% if true %}{{ x }}{% endif %}\n" + CHATML])
@pytest.mark.parametrize("value", [False, None, 3, "low", 'a"b\\', ["a", None], {"a": True}])
def test_saved_templates_render_with_their_arguments(source, value):
    tokenizer = tiny_tokenizer(source)
    spec = template_spec("auto", json.dumps({"x": value}))
    template = ChatTemplate.from_tokenizer(tokenizer, spec)
    turns = [{"role": one.role, "content": one.content} for one in PLAIN]
    given = tokenizer.apply_chat_template(turns, tokenize=False, x=value)
    tokenizer.chat_template = template.saved_source
    assert template.render(PLAIN) == given == tokenizer.apply_chat_template(turns, tokenize=False)
    assert tokenizer.apply_chat_template(turns, tokenize=False, x="other").lstrip().startswith("other")


def test_template_arguments_are_read_and_checked():
    assert parse_template_kwargs("a=false,b=2, c=low,d=None") == {"a": False, "b": 2, "c": "low", "d": None}
    assert parse_template_kwargs('{"a": [1]}') == {"a": [1]}
    for wrong in ("thinking", "=1", "a b=1", "{1"):
        with pytest.raises(UserError, match=r"--chat_template_kwargs .*expected"):
            parse_template_kwargs(wrong)
    with pytest.raises(UserError, match="enable_thinkin: the chat template auto does not read it"):
        find_template(tiny_tokenizer(SWITCHED), "auto?enable_thinkin=false")


def test_the_comparison_sees_other_contexts_and_masks():
    template = template_of(CHATML)
    template.source = CHATML.replace("<|im_end|>", "<|im_end|> ", 1)
    template.saved_source = CHATML
    with pytest.raises(AssertionError):
        require_equal_to_serving(template, PLAIN)
    assert asked_for(CALLING)[1]["content"] is None
