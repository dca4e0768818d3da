"""The recipes that come with the package: `zhenlong run <name>`."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from zhenlong.errors import UserError


def shipped_recipes() -> dict[str, Path]:
    """The YAML files of this folder, by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}


def recipe_description(path: Path) -> str:
    """What a recipe is for: its first line, a comment."""
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def find_recipe(recipe: str) -> Path:
    """The file of a shipped recipe's name, or of a path. Raises `UserError` for a name that no recipe has."""
    path, shipped = Path(recipe), shipped_recipes()
    if recipe in shipped:
        return shipped[recipe]
    if path.suffix or path.name != recipe or path.is_file():
        return path
    nearest = " or ".join(get_close_matches(recipe, shipped, n=3))
    question = f"did you mean {nearest}? " if nearest else ""
    raise UserError(
        f"{recipe}: no such recipe; {question}expected the path of a YAML file, or one of {', '.join(shipped)}"
    )
