"""How `mkdocs build` turns the repository's Markdown into the site.

Pages keep their places in the repository, the README included, so a link that works in a checkout works on the site.
The navigation is the tables of docs/README.md; a page that they forget is a warning, which `--strict` makes an error.
"""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path, PurePosixPath
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
INDEX = "docs/README.md"
LINK = re.compile(r"(?<!`)\[([^\]]*)\]\(([^)\s#:]+)\)")
EQUATION = re.compile(r"<(div|span) class=\"arithmatex\">\s*\\[\[(](.*?)\\[\])]\s*</\1>", re.DOTALL)
FROM_ELSEWHERE = re.compile(
    r"<(?:script|img|iframe|link rel=\"(?:stylesheet|preload|icon)\")[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>"
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The navigation: the README, a section for each table of the index, and what is about the project."""
    home = [page for page in ("README.md", "README.zh.md", INDEX) if (ROOT / page).exists()]
    sections = _sections((ROOT / INDEX).read_text(encoding="utf-8"))
    config.nav = [{"Home": home}, *sections, {"Project": ["CONTRIBUTING.md", "CHANGELOG.md"]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of docs/ under `docs/`, and the pages of the repository's root beside it."""
    own = [ROOT / "docs" / file.src_uri for file in files if file.src_dir == config.docs_dir]
    paths = [path for path in (*sorted(ROOT.glob("*.md")), *own) if path.suffix != ".py"]
    pages = [File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)) for path in paths]
    return Files([*pages, *(file for file in files if file.src_dir != config.docs_dir)])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to what is there but no page, such as a source file, become the text that they had."""

    def without_link(match: re.Match[str]) -> str:
        target = _resolve(PurePosixPath(page.file.src_uri).parent / match[2])
        return match[1] if (ROOT / target).exists() and target not in files.src_uris else match[0]

    return LINK.sub(without_link, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Equations as MathML, which browsers draw without a library."""

    def as_mathml(match: re.Match[str]) -> str:
        display = "block" if match[1] == "div" else "inline"
        return f'<{match[1]} class="equation">{convert(unescape(match[2]).strip(), display=display)}</{match[1]}>'

    return EQUATION.sub(as_mathml, html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """A page that loads anything from another place is an error: the site works without a network."""
    if loaded := FROM_ELSEWHERE.search(output):
        raise PluginError(f"{page.file.src_uri}: the page loads from elsewhere: {loaded[0]}")
    return output


def _sections(index: str) -> list[dict[str, Any]]:
    parts = re.split(r"^## (.+)$", index, flags=re.MULTILINE)
    found = []
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        rows = re.findall(r"^\| \[([^\]]+)\]\(([^)#]+\.md)\)", text, re.MULTILINE)
        found.append({title: [{name: _resolve(PurePosixPath("docs") / path)} for name, path in rows]})
    return found


def _resolve(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
