"""Every chat template that TRL ships: what is trained equals what serving renders, or is refused with the reason."""

import importlib.util
import re
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest
from served import TOOL, ask, asked_for, call, require_equal_to_serving
from tiny import tiny_tokenizer

from zhenlong.data import ChatTemplate
from zhenlong.data.message_parsing import message_text
from zhenlong.data.template_sources import template_spec
from zhenlong.errors import UserError
from zhenlong.records import Message

pytestmark = pytest.mark.peers("trl")

MARKERS = re.compile(r"<[|｜][^<>\n{}']*?[|｜]>|<\|[a-z_]+>|<[a-z_]+\|>|<(?:start|end)_of_\w+>|\[gMASK\]|<sop>|</?s>")
CONVERSATIONS = {
    "plain": ask("Hi there.", "Hello you.", "More?", "No more."),
    "system": (Message("system", "Be kind."), *ask("Hi there.", "Hello you.")),
    "reasoning": ask(
        "Hi there.", "<think>\nfirst why\n</think>\n\nHello you.", "More?", "<think>\nthen hmm\n</think>\n\nNo more."
    ),
    "tools": (
        Message("system", "Be kind.", tools=(TOOL,)), Message("user", "Find it."), call("Rome"),
        Message("tool", "it is 3"), Message("assistant", "Three."),
    ),
}  # fmt: skip


def _folder() -> Path | None:
    found = importlib.util.find_spec("trl")
    return Path(found.submodule_search_locations[0], "chat_templates") if found else None


def _names() -> list[str]:
    folder = _folder()
    names = [path.stem for path in sorted(folder.glob("*.jinja"))] if folder else []
    return [name for name in names if not name.endswith("_training")]


@cache
def _template(name: str, kwargs: str = "") -> ChatTemplate:
    source = (_folder() / f"{name}.jinja").read_text()
    tokenizer = tiny_tokenizer(None)
    markers = sorted({"<s>", "</s>", *MARKERS.findall(source)})
    tokenizer.add_special_tokens({"additional_special_tokens": markers, "bos_token": "<s>", "eos_token": "</s>"})
    tokenizer.chat_template = source
    return ChatTemplate.from_tokenizer(tokenizer, template_spec("auto", kwargs))


OPENS = "opens <think> before an answer"
ROLES = "cannot render a conversation of .*(roles|Only user and assistant|System role not supported)"
NEMOTRON = ("nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra", "nemotron_3_5_lightning")
REFUSED = {
    **{(name, kind): OPENS for name in NEMOTRON for kind in ("plain", "system", "tools")},
    **{(name, kind): OPENS for name in ("deepseekv3", "deepseek_r1_distill") for kind in ("plain", "system", "tools")},
    **{(f"gemma4{revision}", "reasoning"): "omits an answer's reasoning" for revision in ("", "_v3", "_v4")},
    **{(name, "tools"): "omits a tool turn" for name in ("phi3", "phi3_5", "cohere2")},
    **{(name, "tools"): ROLES for name in ("cohere", "gemma", "gemma3", "llava_next")},
    ("gemma", "system"): ROLES,
    ("qwen3_5_nothink", "reasoning"): "closes the reasoning before an answer",
}


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", _names())
def test_the_trained_text_is_what_serving_renders_or_is_refused(name, conversation):
    template, messages = _template(name), CONVERSATIONS[conversation]
    refused = REFUSED.get((name, conversation))
    if refused:
        with pytest.raises(UserError, match=refused):
            template.training_examples(messages)
        return
    as_text = _as_text(template.source, messages)  # what a client has to send, where a template has no place for calls
    require_equal_to_serving(template, as_text)
    assert template.training_examples(as_text) == template.training_examples(messages)


def _as_text(source, messages):
    """Calls and signatures as text, where the template does not mention them."""
    return tuple(
        Message(one.role, message_text(one))
        if (one.tool_calls and "tool_calls" not in source) or (one.tools and not re.search(r"\btools\b", source))
        else one
        for one in messages
    )


@pytest.mark.parametrize("conversation", ["plain", "system", "tools"])
@pytest.mark.parametrize("name", NEMOTRON)
def test_without_thinking_what_was_refused_is_trained_as_served(name, conversation):
    require_equal_to_serving(_template(name, "enable_thinking=false"), CONVERSATIONS[conversation])


# TRL's DeepSeek-V3 leaves the reasoning out, its DiffusionGemma the turn's opening after a result
OTHER_MASK = {("deepseekv3", "reasoning"), ("diffusion_gemma", "tools")}


@pytest.mark.parametrize("conversation", ["plain", "reasoning", "tools"])
@pytest.mark.parametrize("name", [name for name in _names() if (_folder() / f"{name}_training.jinja").exists()])
def test_the_last_answers_mask_is_that_of_trls_training_templates(name, conversation):
    """Theirs also marks a part of the generation prompt, or the white space and EOS after the end of the turn."""
    template, messages = _template(name), CONVERSATIONS[conversation]
    if (name, conversation) in {*REFUSED, *OTHER_MASK} or _as_text(template.source, messages) != messages:
        return
    tokenizer = template.tokenizer
    sent = asked_for([one for one in messages if one.content or not one.tools], template.source)
    if template.reads_parts:
        sent = [one | {"content": [{"type": "text", "text": one["content"]}]} for one in sent]
    marked = tokenizer.apply_chat_template(
        sent,
        tools=[TOOL] if conversation == "tools" else None,
        chat_template=(_folder() / f"{name}_training.jinja").read_text(),
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    theirs = _spans(tokenizer, marked["input_ids"], marked["assistant_masks"])[-1]
    ours = _spans(tokenizer, *template.training_examples(messages)[-1])[-1]
    before, found, after = theirs.partition(ours)
    assert found
    assert tokenizer.decode(template.encode_prompt(messages[:-1])).endswith(before)
    assert not after.replace(tokenizer.eos_token, "").strip()


def _spans(tokenizer, ids, scored):
    """The scored texts, each by itself."""
    runs = groupby(zip(ids, scored, strict=True), key=lambda one: bool(one[1]))
    return [tokenizer.decode([i for i, _ in run]) for is_scored, run in runs if is_scored]
