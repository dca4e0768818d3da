"""Reading the project's Markdown pages: code fences, option tables, links and the anchors that headings get."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def fences(page: Path, language: str) -> list[str]:
    """The contents of the page's code fences of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def option_table(page: Path) -> dict[str, Any]:
    """Option names and documented defaults of the tables headed `| option | default |`; `required` is Ellipsis."""
    found: dict[str, Any] = {}
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        inside = line.startswith("| option | default |") or (inside and line.startswith("|"))
        if inside and line.startswith("| `"):
            name, default = (cell.strip().strip("`") for cell in line.split("|")[1:3])
            found[name] = _value(default)
    return found


def links(page: Path) -> list[tuple[str, str]]:
    """The page's relative links as (path, anchor); path is empty for a link within the page."""
    targets = re.findall(r"(?<!`)\]\(([^)\s]+)\)", prose(page))
    inside = [target for target in targets if not re.match(r"[a-z]+:", target)]
    return [(path, anchor) for path, _, anchor in (target.partition("#") for target in inside)]


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, as GitHub makes them: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def prose(page: Path) -> str:
    """The page without its code fences."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def _value(text: str) -> Any:
    words = {"required": ..., "true": True, "false": False, "none": None}
    if text in words:
        return words[text]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
