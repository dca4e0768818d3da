"""Prompt plus response equals the conversation, and the loss mask covers the assistant's text and its end of turn."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CHATML, tiny_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from zhenlong.data import ChatTemplate, chat_templates
from zhenlong.errors import UserError
from zhenlong.records import Message

LLAMA_TOKENS = ["<s>", "</s>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
GENERATION = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}"
    "{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_END = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
# Reasoning is kept in the last turn only, as in Qwen3: earlier turns are rewritten when the conversation continues.
REWRITING = (
    "{% for m in messages %}{% set words = m['content'] %}{% if m['role'] == 'assistant' and not loop.last %}"
    "{% set words = words.split('</think>')[-1].lstrip() %}{% endif %}"
    "<|im_start|>{{ m['role'] + '\n' + words }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# An EOS ends the whole conversation, after the end of the turn, as in Phi-3.
FINAL_EOS = CHATML.replace("{% if add", "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}{% if add")
OPEN_THOUGHT = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
OTHER_PROMPT = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>model\n")
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
DEAF = CHATML.replace("{{ message['content'] }}", "{{ message['content'] if message['role'] == 'assistant' }}")


def base_tokenizer():
    """A byte-level tokenizer with EOS only, like that of a base model."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<eos>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


def llama_tokenizer(bos="<|begin_of_text|>", eos="<|eot_id|>", adds_bos=True):
    """A byte-level tokenizer with the markers of both Llama formats, which starts every text with BOS."""
    tokenizer = tiny_tokenizer(None)
    tokenizer.add_special_tokens({"additional_special_tokens": LLAMA_TOKENS, "bos_token": bos, "eos_token": eos})
    if adds_bos:
        begin = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)])
        tokenizer.backend_tokenizer.post_processor = begin
    return tokenizer


def spaced_tokenizer(form):
    """A tokenizer that adds a space before every text, as SentencePiece does, by a normaliser or a pre-tokeniser."""
    letters = [chr(i) for i in range(32, 127)] + ["\n", "▁", "é"]
    merges = [("▁", "h"), ("h", "i")]
    vocab = {token: i for i, token in enumerate(dict.fromkeys([*letters, "▁h", "hi"]))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    if form == "normaliser":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


TEMPLATES = {
    "own": ChatTemplate.from_tokenizer(tiny_tokenizer()),
    "own without an end": ChatTemplate.from_tokenizer(tiny_tokenizer(NO_END)),
    "own that rewrites": ChatTemplate.from_tokenizer(tiny_tokenizer(REWRITING)),
    "own with a final eos": ChatTemplate.from_tokenizer(tiny_tokenizer(FINAL_EOS)),
    "chatml": ChatTemplate.from_tokenizer(tiny_tokenizer(None), "chatml"),
    "chatml without its tokens": ChatTemplate.from_tokenizer(base_tokenizer(), "chatml"),
    "llama2": ChatTemplate.from_tokenizer(llama_tokenizer("<s>", "</s>"), "llama2"),
    "llama2 without its tokens": ChatTemplate.from_tokenizer(tiny_tokenizer(None), "llama2"),
    "llama2 spaced by a normaliser": ChatTemplate.from_tokenizer(spaced_tokenizer("normaliser"), "llama2"),
    "llama2 spaced by a pre-tokeniser": ChatTemplate.from_tokenizer(spaced_tokenizer("pre-tokeniser"), "llama2"),
    "llama3": ChatTemplate.from_tokenizer(llama_tokenizer(), "llama3"),
    "llama3 without its tokens": ChatTemplate.from_tokenizer(tiny_tokenizer(None), "llama3"),
    "alpaca": ChatTemplate.from_tokenizer(llama_tokenizer("<s>", "</s>"), "alpaca"),
}
WORDS = st.text(st.sampled_from("hi é\n.▁<"), min_size=1, max_size=8).filter(str.strip)


@st.composite
def conversations(draw):
    """An optional system turn, then one to three exchanges, ending with the assistant."""
    turns = [Message("system", draw(WORDS))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns += [Message("user", draw(WORDS)), Message("assistant", draw(WORDS))]
    return tuple(turns)


def chat(*texts, system=None):
    """Messages of user and assistant, alternating."""
    turns = [Message("system", system)] if system else []
    return (*turns, *(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)))


def said(template, sample):
    """The scored tokens of an example, as text."""
    ids, scored = sample
    return template.tokenizer.decode([i for i, s in zip(ids, scored, strict=True) if s])


@pytest.mark.parametrize("name", TEMPLATES)
@given(messages=conversations())
@settings(deadline=None, max_examples=30)
def test_prompt_ids_plus_response_ids_are_the_conversation_ids(name, messages):
    template = TEMPLATES[name]
    prompt = template.encode_prompt(messages[:-1])
    response = template.encode_response(messages[:-1], messages[-1].content)
    ids, scored = template.training_examples(messages)[-1]
    assert prompt + response == ids
    assert scored[len(prompt) :] == [True] * len(response)
    assert not scored[len(prompt) - 1]


@pytest.mark.parametrize("name", TEMPLATES)
@given(messages=conversations())
@settings(deadline=None, max_examples=30)
def test_every_response_ends_with_a_stop_id(name, messages):
    template = TEMPLATES[name]
    closed = template.encode_response(messages[:-1], messages[-1].content)
    opened = template.encode_response(messages[:-1], messages[-1].content, end_turn=False)
    assert closed[-1] == template.stop_ids[0]
    assert not set(closed[:-1]) & set(template.stop_ids)
    assert opened == closed[: len(opened)]
    assert not set(opened) & set(template.stop_ids)


@pytest.mark.parametrize("name", TEMPLATES)
@given(messages=conversations())
@settings(deadline=None, max_examples=30)
def test_every_assistant_turn_is_scored_exactly_once(name, messages):
    template = TEMPLATES[name]
    samples = template.training_examples(messages)
    answers = sum(message.role == "assistant" for message in messages)
    ends = [i for ids, scored in samples for i, s in zip(ids, scored, strict=True) if s and i == template.stop_ids[0]]
    assert len(ends) == answers


@pytest.mark.parametrize(
    "name", [name for name in TEMPLATES if name not in ("own that rewrites", "own without an end")]
)
@given(messages=conversations())
@settings(deadline=None, max_examples=30)
def test_the_ids_of_earlier_turns_are_a_prefix_of_those_of_later_ones(name, messages):
    template = TEMPLATES[name]
    ids, scored = template.encode_conversation(messages)
    if len(messages) > 3:
        earlier, earlier_scored = template.encode_conversation(messages[:-2])
        assert ids[: len(earlier)] == earlier
        assert scored[: len(earlier)] == earlier_scored


@pytest.mark.parametrize("name", [name for name in TEMPLATES if "spaced" not in name and "without an end" not in name])
@given(messages=conversations())
@settings(deadline=None, max_examples=30)
def test_ids_equal_those_of_the_rendered_text(name, messages):
    template = TEMPLATES[name]
    turns = [{"role": m.role, "content": m.content} for m in messages]
    text = template.tokenizer.apply_chat_template(turns, chat_template=template.source, tokenize=False)
    decoded = template.tokenizer.decode(template.training_examples(messages)[-1][0])
    assert text.startswith(decoded)
    assert text[len(decoded) :].strip() in ("", template.tokenizer.eos_token)


@given(messages=conversations())
@settings(deadline=None, max_examples=30)
def test_the_mask_equals_that_of_templates_with_generation_markers(messages):
    tokenizer = tiny_tokenizer(GENERATION)
    turns = [{"role": m.role, "content": m.content} for m in messages]
    marked = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    ids, scored = ChatTemplate.from_tokenizer(tokenizer).encode_conversation(messages)
    assert marked["input_ids"][: len(ids)] == ids
    assert [bool(m) for m in marked["assistant_masks"][: len(ids)]] == scored
    assert not any(marked["assistant_masks"][len(ids) :])


MESSAGES = chat("Hi.", "Hello.", "Bye.", "Ciao.", system="Be kind.")


@pytest.mark.parametrize(
    ("tokenizer", "name", "text"),
    [
        (
            tiny_tokenizer(None),
            "chatml",
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi.<|im_end|>\n"
            "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye.<|im_end|>\n<|im_start|>assistant\nCiao.<|im_end|>",
        ),
        (
            llama_tokenizer("<s>", "</s>"),
            "llama2",
            "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi. [/INST] Hello. </s><s>[INST] Bye. [/INST] Ciao. </s>",
        ),
        (
            llama_tokenizer(),
            "llama3",
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi.<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nBye.<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nCiao.<|eot_id|>",
        ),
    ],
)
def test_built_in_templates_render_the_published_formats(tokenizer, name, text):
    template = ChatTemplate.from_tokenizer(tokenizer, name)
    ids, _ = template.encode_conversation(MESSAGES)
    assert tokenizer.decode(ids) == text
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", ["chatml", "llama3"])
def test_a_tokenizer_that_adds_bos_gives_exactly_one(name):
    template = ChatTemplate.from_tokenizer(llama_tokenizer(eos="</s>"), name)
    ids, _ = template.encode_conversation(MESSAGES)
    assert ids[0] == template.tokenizer.bos_token_id
    assert ids.count(template.tokenizer.bos_token_id) == 1
    assert template.encode_prompt(MESSAGES[:2]).count(template.tokenizer.bos_token_id) == 1


def test_chatml_adds_no_bos():
    template = ChatTemplate.from_tokenizer(llama_tokenizer(adds_bos=False), "chatml")
    assert template.tokenizer.bos_token_id not in template.encode_prompt(MESSAGES[:2])


def test_eos_ends_turns_if_the_tokenizer_lacks_the_marker():
    template = TEMPLATES["chatml without its tokens"]
    assert template.stop_ids == (template.tokenizer.eos_token_id,)
    assert said(template, template.encode_conversation(MESSAGES)) == "Hello.<eos>Ciao.<eos>"
    assert "<|im_end|>" not in template.tokenizer.decode(template.encode_prompt(MESSAGES[:2]))


def test_eos_ends_a_response_if_the_template_writes_no_token():
    template = TEMPLATES["own without an end"]
    assert template.stop_ids == (256,)
    examples = template.training_examples(MESSAGES)
    assert [said(template, one) for one in examples] == [" Hello.<|endoftext|>", " Ciao.<|endoftext|>"]
    assert [
        template.tokenizer.decode(ids) for ids, _ in examples
    ] == [  # as context an answer has no EOS: nor has it served
        "system: Be kind.\n\nuser: Hi.\n\nassistant: Hello.<|endoftext|>",
        "system: Be kind.\n\nuser: Hi.\n\nassistant: Hello.\n\nuser: Bye.\n\nassistant: Ciao.<|endoftext|>",
    ]


def test_generation_stops_at_the_end_of_turn_even_if_eos_is_another_token():
    assert TEMPLATES["own"].stop_ids == (258, 256)
    assert TEMPLATES["own with a final eos"].stop_ids == (258, 256)


def test_rewritten_turns_become_examples_of_their_own():
    template = TEMPLATES["own that rewrites"]
    messages = chat("Hi.", "<think>a</think>Hello.", "Bye.", "<think>b</think>Ciao.")
    first, second = template.training_examples(messages)
    assert said(template, first) == "<think>a</think>Hello.<|im_end|>"
    assert said(template, second) == "<think>b</think>Ciao.<|im_end|>"
    assert "assistant\nHello.<|im_end|>" in template.tokenizer.decode(second[0])
    with pytest.raises(UserError, match="rewrites earlier turns, so this conversation is 2 training examples"):
        template.encode_conversation(messages)


def test_a_trailing_user_turn_is_not_trained_on():
    template = TEMPLATES["own"]
    assert template.encode_conversation(MESSAGES[:4]) == template.encode_conversation(MESSAGES[:3])


def test_tool_calls_are_text_unless_the_template_supports_them():
    call = {"type": "function", "function": {"name": "find", "arguments": {"x": 1}}}
    messages = (
        Message("user", "Hi."),
        Message("assistant", "", (call,)),
        Message("tool", "2"),
        Message("assistant", "Two."),
    )
    for name in ("own", "chatml", "llama2"):
        template = TEMPLATES[name]
        text = template.tokenizer.decode(template.encode_conversation(messages)[0])
        assert '<tool_call>\n{"name": "find", "arguments": {"x": 1}}\n</tool_call>' in text
        assert said(template, template.encode_conversation(messages)).count("find") == 1
    template = TEMPLATES["llama3"]
    assert said(template, template.encode_conversation(messages)).startswith(
        '{"name": "find", "parameters": {"x": 1}}<|eot_id|>'
    )
    knows = CHATML.replace(
        "{{ message['content'] }}",
        "{{ message['content'] }}{% if message.tool_calls %}{{ message.tool_calls | tojson }}{% endif %}",
    )
    template = ChatTemplate.from_tokenizer(tiny_tokenizer(knows))
    assert '[{"type": "function"' in template.tokenizer.decode(template.encode_conversation(messages)[0])


@pytest.mark.parametrize(
    ("source", "messages", "problem"),
    [
        (CHATML, MESSAGES[:2], "without an assistant turn has nothing to train on"),
        (CHATML, MESSAGES[2:], "starts with the assistant"),
        (NO_SYSTEM, MESSAGES, "cannot render a conversation of system, user.*no system role.*--chat_template chatml"),
        (DEAF, MESSAGES, "omits a user turn"),
        (OPEN_THOUGHT, MESSAGES, "opens <think> before an answer, and this answer has no reasoning"),
        (OTHER_PROMPT, MESSAGES, "writes a response differently from its generation prompt"),
        (CHATML.replace("message['content']", "'...'"), MESSAGES, "omits a user turn"),
    ],
)
def test_errors_name_what_a_template_cannot_do(source, messages, problem):
    with pytest.raises(UserError, match=problem):
        ChatTemplate.from_tokenizer(tiny_tokenizer(source)).encode_conversation(messages)


def test_a_tokenizer_without_a_template_is_an_error_that_names_the_option():
    with pytest.raises(
        UserError, match=r"no chat template; choose one with --chat_template chatml\|llama2\|llama3\|alpaca"
    ):
        ChatTemplate.from_tokenizer(tiny_tokenizer(None))
    with pytest.raises(UserError, match="--chat_template vicuna: unknown; expected auto, chatml"):
        ChatTemplate.from_tokenizer(tiny_tokenizer(), "vicuna")


def test_a_tokenizer_without_an_end_of_turn_token_is_refused():
    tokenizer = base_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match=r"neither <\|im_end\|> nor an eos token"):
        ChatTemplate.from_tokenizer(tokenizer, "chatml")
    tokenizer.chat_template = NO_END
    with pytest.raises(UserError, match="ends a response with no token, and the tokenizer has no eos token"):
        ChatTemplate.from_tokenizer(tokenizer)


def test_transformers_renders_the_same_text_from_the_source():
    template = TEMPLATES["llama3"]
    template.tokenizer.chat_template = template.source
    turns = [{"role": m.role, "content": m.content} for m in MESSAGES[:2]]
    ids = template.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert ids == template.encode_prompt(MESSAGES[:2])


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}{{ messages[0].content }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{{ 1 // 0 }}",
        "{{ messages.__class__.__mro__ }}",
    ],
)
def test_a_template_that_does_not_end_or_breaks_out_is_one_line(source, monkeypatch):
    monkeypatch.setattr(chat_templates, "RENDER_SECONDS", 0.2)
    with pytest.raises(UserError, match=r"\Athe chat template auto [^\n]+\Z"):
        ChatTemplate.from_tokenizer(tiny_tokenizer(source))
