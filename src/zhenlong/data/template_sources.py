"""Which chat template is meant: the tokenizer's own, one of its named ones, a built-in one, or a Jinja file.

A specification is a name, optionally followed by `?` and template arguments: `auto`, `tool_use`, `chatml`,
`mine.jinja`, `auto?enable_thinking=false`. Arguments become defaults at the start of the source. So the saved template
renders what was trained, and a server that is given other arguments still follows those.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from zhenlong.data.builtin_templates import BUILTIN_TEMPLATES, builtin_template
from zhenlong.errors import UserError

TOOL_USE: Final = "tool_use"  # the named template that transformers takes where tools are given
_IDENTIFIER: Final = re.compile(r"[A-Za-z_]\w*")
_FILE_NAME: Final = re.compile(r".*\.(jinja2?|j2)|.*[/\\].*")


@dataclass(frozen=True)
class TemplateSource:
    """The Jinja source of a template, the one for conversations with tools, and the tokenizer's other named ones."""

    name: str
    source: str
    tools_source: str = ""
    named: Mapping[str, str] = field(default_factory=dict)

    @property
    def to_save(self) -> str | dict[str, str]:
        """The value of `tokenizer.chat_template` with which other programs render what was trained."""
        named = dict(self.named) | ({TOOL_USE: self.tools_source} if self.tools_source else {})
        return {"default": self.source, **named} if named else self.source


def find_template(tokenizer: Any, spec: str = "auto") -> TemplateSource:
    """The template that a specification names, with its arguments as defaults.

    Raises `UserError` for an unknown name, a file that cannot be read, an argument that the template does not read, and
    for `auto` where the tokenizer has no template.
    """
    name, kwargs = parse_template_spec(spec)
    own = tokenizer.chat_template or {}
    named: dict[str, str] = {"default": own} if isinstance(own, str) else dict(own)
    others = {key: source for key, source in named.items() if key not in ("default", name)}
    if name in named and name != "default":
        found = TemplateSource(name, named[name], named=others)
    elif name in BUILTIN_TEMPLATES:
        found = TemplateSource(name, builtin_template(tokenizer, name))
    elif name == "auto":
        found = _own_template(named, others)
    elif _FILE_NAME.fullmatch(name):
        found = TemplateSource(name, _read_source(Path(name).expanduser()))
    else:
        known = ", ".join(["auto", *others, *BUILTIN_TEMPLATES])
        raise UserError(f"--chat_template {name}: unknown; expected {known}, or a file such as mine.jinja")
    return _with_defaults(found, kwargs) if kwargs else found


def _own_template(named: dict[str, str], others: dict[str, str]) -> TemplateSource:
    if "default" in named:
        tools_source = others.pop(TOOL_USE, "")
        return TemplateSource("auto", named["default"], tools_source, others)
    if named:
        raise UserError(
            f"the tokenizer has several chat templates and none is the default; choose one with --chat_template "
            f"{'|'.join(named)}"
        )
    choices = "|".join(BUILTIN_TEMPLATES)
    raise UserError(f"the tokenizer has no chat template; choose one with --chat_template {choices}")


def template_spec(name: str, kwargs: str) -> str:
    """A template's name and its arguments as one text."""
    return f"{name}?{kwargs}" if kwargs else name


def parse_template_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """A specification as the template's name and its arguments."""
    name, _, kwargs = spec.partition("?")
    return name, parse_template_kwargs(kwargs)


def parse_template_kwargs(text: str) -> dict[str, Any]:
    """Template arguments, from `enable_thinking=false,effort=low` or a JSON object.

    A value that is JSON is read as such; another is text.
    """
    if text.lstrip().startswith("{"):
        try:
            return dict(json.loads(text))
        except json.JSONDecodeError as error:
            raise UserError(f"--chat_template_kwargs {text}: expected a JSON object ({error.msg})") from None
    found: dict[str, Any] = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        name, sign, value = item.partition("=")
        if not sign or not _IDENTIFIER.fullmatch(name):
            raise UserError(
                f"--chat_template_kwargs {text}: expected name=value, several separated by commas, got {item!r}"
            )
        found[name] = _read_value(value)
    return found


def _read_value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def _read_source(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "expected UTF-8 text"
        raise UserError(f"--chat_template {path}: cannot read the template ({reason})") from None


def _with_defaults(found: TemplateSource, kwargs: Mapping[str, Any]) -> TemplateSource:
    sources = [source for source in (found.source, found.tools_source) if source]
    for name in kwargs:
        if not any(re.search(rf"\b{name}\b", source) for source in sources):
            raise UserError(f"--chat_template_kwargs {name}: the chat template {found.name} does not read it")
    # a line of its own, which Jinja removes: what stands first in the source stays first in its line
    defaults = "".join(
        f"{{% if {name} is not defined %}}{{% set {name} = {_jinja_literal(value)} %}}{{% endif %}}"
        for name, value in kwargs.items()
    )
    tools_source = f"{defaults}\n{found.tools_source}" if found.tools_source else ""
    return TemplateSource(found.name, f"{defaults}\n{found.source}", tools_source, found.named)


def _jinja_literal(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_jinja_literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_jinja_literal, value)) + "]"
    return "none" if value is None else json.dumps(value)
