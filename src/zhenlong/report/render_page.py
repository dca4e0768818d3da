"""Rendering of self-contained pages: layout, styles, and protection against untrusted text.

Model output is untrusted, so all external text is escaped; as a second line of defence, the page's content security
policy runs only its own scripts and loads nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATE_FOLDER: Final = Path(__file__).parent / "templates"


def render_page(template: str, styles: Sequence[str], scripts: Sequence[Markup], **values: Any) -> str:
    """Render a template that extends layout.html.j2, with style sheets by name and scripts in order.

    Lone surrogates, which JSON may contain and UTF-8 cannot encode, become question marks.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup("\n").join(read_asset(name) for name in styles)
    page = environment.get_template(template).render(
        style=style, scripts=scripts, policy=_content_security_policy(scripts), **values
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def read_asset(name: str) -> Markup:
    """A trusted file of this package, inserted unescaped."""
    return Markup((TEMPLATE_FOLDER / name).read_text(encoding="utf-8"))


def _content_security_policy(scripts: Sequence[Markup]) -> str:
    """A content security policy that allows only these scripts and no network requests."""
    hashes = [base64.b64encode(hashlib.sha256(one.encode("utf-8")).digest()).decode() for one in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes) or "'none'"
    return f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {allowed}"
