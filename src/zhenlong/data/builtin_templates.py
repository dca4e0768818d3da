"""Built-in chat templates for tokenizers without one: ChatML, Llama 2, Llama 3 and Alpaca, as published.

The tokenizer of a base model often lacks a format's markers. Markers that open a turn are then ordinary text. The one
that ends a turn must be a single token, so that generation can stop at it: if the tokenizer has no such token, its EOS
token is used instead, in every turn.

ChatML: https://github.com/openai/openai-python (chatml.md, 2023); tools as in Qwen 2.5. Llama 2: Touvron et al. 2023,
and `generation.py` of the `llama` repository. Llama 3: https://www.llama.com/docs/model-cards-and-prompt-formats; tools
as in Llama 3.1, whose system turn names the environment and two dates if there are tools. Alpaca:
tatsu-lab/stanford_alpaca, for several turns as in hiyouga/LLaMA-Factory. Llama 2 and Alpaca have no tools and use
ChatML's.
"""

from __future__ import annotations

from typing import Any, Final

from zhenlong.errors import UserError

TOOLS_PREFIX: Final = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function "
    "signatures within <tools></tools> XML tags:\n<tools>"
)
TOOLS_SUFFIX: Final = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call>"
)
LLAMA3_PREAMBLE: Final = "Environment: ipython\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
LLAMA3_TOOLS: Final = (
    "Given the following functions, please respond with a JSON for a function call with its proper arguments that best "
    'answers the given prompt.\n\nRespond in the format {"name": function name, "parameters": dictionary of argument '
    "name and its value}.Do not use variables.\n\n"
)
ALPACA_SYSTEM: Final = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)


def _jinja_string(text: str) -> str:
    """The text as a Jinja string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


# `system` is the system message (none if there is none), `rest` the other turns.
_SPLIT_SYSTEM_TURN: Final = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system = messages[0]['content'] or '' %}{% set rest = messages[1:] %}"
    "{% else %}{% set system = none %}{% set rest = messages %}{% endif %}"
)
# With tools, their signatures are appended to `system`.
_ADD_TOOLS: Final = (
    "{% if tools %}{% set offer = namespace(text=" + _jinja_string(TOOLS_PREFIX) + ") %}"
    "{% for tool in tools %}{% set offer.text = offer.text + '\\n' + (tool | tojson) %}{% endfor %}"
    "{% set system = (system + '\\n\\n' if system else '') + offer.text + "
    + _jinja_string(TOOLS_SUFFIX)
    + " %}{% endif %}"
)
# The text of an assistant turn, with its calls in tags.
_ASSISTANT_TEXT: Final = (
    "{% set said = namespace(text=message['content'] or '') %}"
    "{% for call in message['tool_calls'] or [] %}"
    "{% set said.text = said.text + ('\\n' if said.text else '') + '<tool_call>\\n{\"name\": \"' + call.function.name"
    " + '\", \"arguments\": ' + (call.function.arguments | tojson) + '}\\n</tool_call>' %}{% endfor %}"
)
_TOOL_RESULT: Final = "'<tool_response>\\n' + message['content'] + '\\n</tool_response>'"

_CHATML: Final = (
    _SPLIT_SYSTEM_TURN + _ADD_TOOLS +
    "BOS{% if system is not none %}<|im_start|>{{ 'system\\n' + system }}END{{ '\\n' }}{% endif %}"
    "{% for message in rest %}"
    "{% if message['role'] == 'tool' %}"
    "{% if loop.first or loop.previtem['role'] != 'tool' %}<|im_start|>user{% endif %}"
    "{{ '\\n' + " + _TOOL_RESULT + " }}"
    "{% if loop.last or loop.nextitem['role'] != 'tool' %}END{{ '\\n' }}{% endif %}"
    "{% else %}"
    + _ASSISTANT_TEXT + "<|im_start|>{{ message['role'] + '\\n' + said.text }}END{{ '\\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{{ '\\n' }}{% endif %}"
)  # fmt: skip

# Each exchange has its own BOS; the system message is part of the first user turn.
_LLAMA2: Final = (
    _SPLIT_SYSTEM_TURN + _ADD_TOOLS +
    "{% if system is not none %}{% set system = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' %}"
    "{% if not rest or rest[0]['role'] == 'assistant' %}"
    "{{ raise_exception('a user turn must follow the system turn') }}{% endif %}{% endif %}"
    "{% for message in rest %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('the system turn must come first') }}"
    "{% elif message['role'] == 'assistant' %}" + _ASSISTANT_TEXT + "{{ ' ' + said.text | trim + ' ' }}END"
    "{% else %}{% set words = " + _TOOL_RESULT + " if message['role'] == 'tool' else message['content'] %}"
    "BOS{{ '[INST] ' + ((system or '' if loop.first else '') + words) | trim + ' [/INST]' }}"
    "{% endif %}{% endfor %}"
)  # fmt: skip

# With tools: the layout of 3.1, in which the first user turn holds the signatures and a call is plain JSON.
_LLAMA3: Final = (
    _SPLIT_SYSTEM_TURN +
    "BOS{% if tools %}{% set system = " + _jinja_string(LLAMA3_PREAMBLE) + " + (system or '') | trim %}{% endif %}"
    "{% if system is not none %}<|start_header_id|>system<|end_header_id|>{{ '\\n\\n' + "
    "(system if tools else system | trim) }}END{% endif %}"
    "{% for message in rest %}"
    "{% set role = 'ipython' if message['role'] == 'tool' else message['role'] %}"
    "<|start_header_id|>{{ role + '<|end_header_id|>\\n\\n' }}"
    "{% if tools and loop.first %}"
    "{% if role != 'user' %}{{ raise_exception('a user turn must come first when there are tools') }}{% endif %}"
    "{{ " + _jinja_string(LLAMA3_TOOLS) + " }}"
    "{% for tool in tools %}{{ tool | tojson(indent=4) + '\\n\\n' }}{% endfor %}"
    "{% endif %}"
    "{% if message['role'] == 'tool' %}{{ message['content'] | tojson }}"
    "{% else %}{{ (message['content'] or '') | trim }}"
    "{% for call in message['tool_calls'] or [] %}"
    "{% if message['content'] or not loop.first %}{{ '\\n' }}{% endif %}"
    "{{ '{\"name\": \"' + call.function.name + '\", \"parameters\": ' + (call.function.arguments | tojson) + '}' }}"
    "{% endfor %}{% endif %}END{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{{ '\\n\\n' }}{% endif %}"
)  # fmt: skip

_ALPACA: Final = (
    _SPLIT_SYSTEM_TURN + _ADD_TOOLS +
    "BOS{{ (" + _jinja_string(ALPACA_SYSTEM) + " if system is none else system) + '\\n\\n' }}"
    "{% for message in rest %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('the system turn must come first') }}"
    "{% elif message['role'] == 'assistant' %}" + _ASSISTANT_TEXT + "{{ said.text }}END{{ '\\n\\n' }}"
    "{% else %}{% set words = " + _TOOL_RESULT + " if message['role'] == 'tool' else message['content'] %}"
    "{{ '### Instruction:\\n' + words + '\\n\\n### Response:\\n' }}"
    "{% endif %}{% endfor %}"
)  # fmt: skip

# The Jinja source and the end-of-turn marker (empty: EOS). BOS and END in the source are replaced by the tokenizer's.
_TEMPLATES: Final = {
    "chatml": (_CHATML, "<|im_end|>"),
    "llama2": (_LLAMA2, "</s>"),
    "llama3": (_LLAMA3, "<|eot_id|>"),
    "alpaca": (_ALPACA, ""),
}
BUILTIN_TEMPLATES: Final = tuple(_TEMPLATES)


def builtin_template(tokenizer: Any, name: str) -> str:
    """The Jinja source of a built-in template for this tokenizer.

    Llama 2, Llama 3 and Alpaca start with BOS if the tokenizer has one; ChatML, which has none, only if the tokenizer
    starts every text with it. Raises `UserError` for a tokenizer that has neither the end-of-turn marker nor an EOS
    token.
    """
    bos, end = bos_and_turn_end(tokenizer, name)
    source = _TEMPLATES[name][0]
    return source.replace("BOS", "{{ bos_token }}" if bos else "").replace(
        "END", "{{ eos_token }}" if end == tokenizer.eos_token else end
    )


def bos_and_turn_end(tokenizer: Any, name: str) -> tuple[str, str]:
    """What a conversation of a built-in format starts with (possibly empty), and its end-of-turn token."""
    end = _TEMPLATES[name][1]
    if not end or end not in tokenizer.get_added_vocab():
        if not tokenizer.eos_token:
            raise UserError(
                f"--chat_template {name}: the tokenizer has neither {end or 'an end of turn'} nor an eos token to end "
                "a turn with"
            )
        end = tokenizer.eos_token
    bos = tokenizer.bos_token or ""
    if name == "chatml" and bos and tokenizer("a")["input_ids"][:1] != [tokenizer.bos_token_id]:
        bos = ""
    return bos, end
