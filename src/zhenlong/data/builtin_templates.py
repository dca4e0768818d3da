"""The built-in chat templates, for tokenizers that have none: ChatML, Llama 2 and Llama 3, as published.

A base model's tokenizer often lacks a format's markers. Those that open a turn are then ordinary text. The one that
ends a turn must be a single token for generation to stop at it: where the tokenizer has no such token, its eos token
stands in its place, in every turn.

ChatML: https://github.com/openai/openai-python (chatml.md, 2023). Llama 2: Touvron et al. 2023, and `generation.py` of
the `llama` repository. Llama 3: https://www.llama.com/docs/model-cards-and-prompt-formats.
"""

from __future__ import annotations

from typing import Any, Final

from zhenlong.errors import UserError

_CHATML: Final = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] + '\\n' + message['content'] }}END{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{{ '\\n' }}{% endif %}"
)

# Each exchange has its own BOS; the system's words stand inside the first user turn.
_LLAMA2: Final = (
    "{% set ns = namespace(system='') %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}"
    "{% if not loop.first %}{{ raise_exception('the system turn must come first') }}{% endif %}"
    "{% set ns.system = '<<SYS>>\\n' + message['content'] + '\\n<</SYS>>\\n\\n' %}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] | trim + ' ' }}END"
    "{% else %}"
    "BOS{{ '[INST] ' + ns.system + message['content'] | trim + ' [/INST]' }}"
    "{% set ns.system = '' %}"
    "{% endif %}"
    "{% endfor %}"
    "{% if ns.system %}{{ raise_exception('a user turn must follow the system turn') }}{% endif %}"
)

_LLAMA3: Final = (
    "BOS{% for message in messages %}"
    "{% set role = 'ipython' if message['role'] == 'tool' else message['role'] %}"
    "<|start_header_id|>{{ role + '<|end_header_id|>\\n\\n' + message['content'] | trim }}END"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{{ '\\n\\n' }}{% endif %}"
)

# The Jinja text and the marker that ends a turn. In the text, BOS and END stand for what the tokenizer has.
_FORMATS: Final = {
    "chatml": (_CHATML, "<|im_end|>"),
    "llama2": (_LLAMA2, "</s>"),
    "llama3": (_LLAMA3, "<|eot_id|>"),
}
BUILT_IN: Final = tuple(_FORMATS)


def built_in(tokenizer: Any, name: str) -> str:
    """The Jinja text of a built-in template for this tokenizer.

    Llama 2 and 3 begin with BOS where the tokenizer has one; ChatML, which has none, only where the tokenizer begins
    every text with it. Raises `UserError` for a tokenizer that has neither the marker that ends a turn nor eos.
    """
    source, end = _FORMATS[name]
    if end not in tokenizer.get_added_vocab() and end != tokenizer.eos_token:
        if not tokenizer.eos_token:
            raise UserError(
                f"--chat_template {name}: the tokenizer has neither {end} nor an eos token to end a turn with"
            )
        end = "{{ eos_token }}"
    bos = "{{ bos_token }}" if tokenizer.bos_token else ""
    if name == "chatml" and bos and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]:
        source = "BOS" + source
    return source.replace("BOS", bos).replace("END", end)
