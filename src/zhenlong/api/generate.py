"""Writes what type checkers read: `python -m zhenlong.api.generate`, which `make format` runs.

`zhenlong/__init__.pyi` has the public names, `options/keywords.py` the classes of options as TypedDicts. Both are made
from the source of the registry and of these classes; a test says when one is stale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from zhenlong.api.public_names import targets
from zhenlong.options.signature import read_options

CLASSES: Final = (
    "zhenlong.data.options:RowOptions",
    "zhenlong.data.options:TemplateOptions",
    "zhenlong.data.options:PromptOptions",
    "zhenlong.data.options:LengthOptions",
    "zhenlong.data.options:DataOptions",
    "zhenlong.models.options:ModelOptions",
    "zhenlong.models.options:NewModelOptions",
    "zhenlong.models.options:LoadOptions",
    "zhenlong.loop.options:TrainingOptions",
    "zhenlong.rewards.options:RewardOptions",
    "zhenlong.stages.options:ReferenceOptions",
    "zhenlong.stages.options:HeldoutOptions",
    "zhenlong.stages.options:SamplingOptions",
    "zhenlong.stages.options:RolloutOptions",
    "zhenlong.stages.options:GroupRolloutOptions",
    "zhenlong.inference.options:InferenceOptions",
    "zhenlong.evaluate.run.options:EvaluationOptions",
)
FAMILIES: Final = {
    "LikelihoodKwargs": ("DataOptions", "ModelOptions", "TrainingOptions"),
    "SftKwargs": ("DataOptions", "HeldoutOptions", "ModelOptions", "TrainingOptions"),
    "DpoKwargs": ("DataOptions", "ReferenceOptions", "HeldoutOptions", "ModelOptions", "TrainingOptions"),
    "PreferenceKwargs": ("DataOptions", "ReferenceOptions", "ModelOptions", "TrainingOptions"),
    "PretrainKwargs": ("RowOptions", "NewModelOptions", "ModelOptions", "TrainingOptions"),
    "ClassifyKwargs": ("RowOptions", "LengthOptions", "NewModelOptions", "ModelOptions", "TrainingOptions"),
    "OnlineKwargs": ("PromptOptions", "RolloutOptions", "RewardOptions", "ModelOptions", "TrainingOptions"),
    "OnlineGroupKwargs": (
        "PromptOptions",
        "GroupRolloutOptions",
        "RewardOptions",
        "ModelOptions",
        "TrainingOptions",
    ),
    "BestOfNKwargs": ("PromptOptions", "SamplingOptions", "RewardOptions", "ModelOptions", "TrainingOptions"),
    "FeedbackKwargs": ("PromptOptions", "InferenceOptions"),
    "SampleKwargs": ("TemplateOptions", "LoadOptions"),
}
"""What functions take of several classes: a stage writes `**options: Unpack[LikelihoodKwargs]` and takes these."""
KEYWORDS_HEADER: Final = '''"""The options that functions take as keywords, for type checkers.

Generated from the classes of options: change those, then run `python -m zhenlong.api.generate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict
'''


def generated_files() -> dict[Path, str]:
    """Each generated file of the package, with what it should hold."""
    root = Path(__file__).parents[1]
    return {root / "__init__.pyi": stub_source(), root / "options" / "keywords.py": keywords_source()}


def stub_source() -> str:
    """The source of `__init__.pyi`: an import of every public name, and `__all__`."""
    public = targets()
    homes = sorted((*target.split(":"), name) for name, target in public.items())
    imports = [f"from {module} import {own_name} as {name}" for module, own_name, name in homes]
    names = [f'    "{name}",' for name in sorted(public)]
    head = "# Written by `python -m zhenlong.api.generate` from registry.py and api/public_names.py.\n"
    return "\n".join([head, *imports, "", "__version__: str", "__all__ = [", *names, "]", ""])


def keywords_source() -> str:
    """The source of `options/keywords.py`."""
    parts = [KEYWORDS_HEADER]
    for path in CLASSES:
        lines = [f"    {one.name}: {one.type.replace(chr(39), chr(34))}" for one in read_options(path)]
        parts.append("\n".join([f"class {_kwargs(path.partition(':')[2])}(TypedDict, total=False):", *lines]) + "\n")
    for name, classes in FAMILIES.items():
        parts.append(f"class {name}({', '.join(map(_kwargs, classes))}, total=False):\n    pass\n")
    return "\n\n".join(parts)


def _kwargs(options_class: str) -> str:
    return options_class.removesuffix("Options") + "Kwargs"


if __name__ == "__main__":
    for path, source in generated_files().items():
        path.write_text(source, encoding="utf-8")
