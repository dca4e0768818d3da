"""Where a model behind HTTP is, as one text: `openai:name@url?option=value`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from zhenlong.data.template_sources import parse_template_kwargs
from zhenlong.errors import UserError

ENDPOINT_PREFIX: Final = "openai:"
OPENAI_URL: Final = "https://api.openai.com/v1"


@dataclass(frozen=True)
class EndpointAddress:
    """The model's name at the server, and the address under which `/chat/completions` lies."""

    name: str
    url: str
    options: Mapping[str, Any] = field(default_factory=dict)  # of `EndpointSettings`


@dataclass(frozen=True)
class EndpointSettings:
    """How a server is asked: the options of an address; see `zhenlong.inference.openai_endpoint.OpenAIEndpoint`."""

    api_key_env: str = ""
    requests_per_minute: float | None = None
    max_retries: int = 6
    timeout: float = 120.0
    prices: tuple[float, float] | None = None
    concurrency: int = 8
    drop_params: tuple[str, ...] = ()
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (
            self.concurrency < 1
            or self.max_retries < 0
            or self.timeout <= 0
            or (self.requests_per_minute is not None and self.requests_per_minute <= 0)
        ):
            raise UserError(
                "endpoint: expected concurrency >= 1, max_retries >= 0, timeout > 0, requests_per_minute > 0"
            )


def parse_endpoint(text: str) -> EndpointAddress:
    """`openai:name@url` (without `@url`: OpenAI's own), with options as `?max_retries=3&prices=2.5,10`.

    An address without a path gets `/v1`. Raises `UserError` for anything else, for options that do not exist, and for
    an address that holds a password.
    """
    text, _, query = text.partition("?")
    match = re.fullmatch(r"openai:(?P<name>\S+?)(?:@(?P<url>https?://\S+))?", text)
    if match is None or ("@" in match["name"] and match["url"] is None):
        raise UserError(f"model {text}: expected openai:name@url, such as openai:my-model@http://localhost:8000/v1")
    url = (match["url"] or OPENAI_URL).rstrip("/")
    parts = urlsplit(url)
    if not parts.hostname or "@" in parts.netloc:
        raise UserError(f"model openai:{match['name']}: expected a plain address; a key belongs into OPENAI_API_KEY")
    return EndpointAddress(match["name"], url if parts.path.strip("/") else f"{url}/v1", _parse_options(text, query))


def _parse_options(text: str, query: str) -> dict[str, Any]:
    """The options after the `?`, in their types."""
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in OPTION_PARSERS:
            raise UserError(f"model {text}: no option {name}; expected some of {', '.join(OPTION_PARSERS)}")
        try:
            options[name] = OPTION_PARSERS[name](value)
        except ValueError:
            raise UserError(
                f"model {text}: {name}={value}: expected {EXPECTED_FORMATS[OPTION_PARSERS[name]]}"
            ) from None
    return options


def _parse_prices(text: str) -> tuple[float, float]:
    first, second = text.split(",")
    return float(first), float(second)


def _parse_names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


OPTION_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    "api_key_env": str,
    "requests_per_minute": float,
    "max_retries": int,
    "timeout": float,
    "prices": _parse_prices,
    "concurrency": int,
    "drop_params": _parse_names,
    "chat_template_kwargs": parse_template_kwargs,
}
EXPECTED_FORMATS: Final = {
    float: "a number",
    int: "a whole number",
    _parse_prices: "the price of a million prompt tokens and of a million generated ones, as 2.5,10",
}
