"""Writes `option_types.py`: the classes of options as TypedDicts, so that type checkers know every option of a stage.

    python -m zhenlong.generate_option_types

Run it after a change of a class of options. It reads the source; a test says when the file is stale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from zhenlong.signature import read_options

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
    "zhenlong.stages.options:SamplingOptions",
    "zhenlong.stages.options:RolloutOptions",
    "zhenlong.stages.options:GroupRolloutOptions",
    "zhenlong.inference.options:InferenceOptions",
    "zhenlong.evaluate.run.options:EvaluationOptions",
)
FAMILIES: Final = {
    "LikelihoodKwargs": ("DataOptions", "ModelOptions", "TrainingOptions"),
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
TARGET: Final = Path(__file__).parent / "option_types.py"
HEADER: Final = '''"""The options that functions take as keywords, for type checkers.

Generated from the classes of options: change those, then run `python -m zhenlong.generate_option_types`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict
'''


def option_types() -> str:
    """The source of `option_types.py`."""
    parts = [HEADER]
    for path in CLASSES:
        lines = [f"    {one.name}: {one.type.replace(chr(39), chr(34))}" for one in read_options(path)]
        parts.append("\n".join([f"class {_kwargs(path.partition(':')[2])}(TypedDict, total=False):", *lines]) + "\n")
    for name, classes in FAMILIES.items():
        parts.append(f"class {name}({', '.join(map(_kwargs, classes))}, total=False):\n    pass\n")
    return "\n\n".join(parts)


def _kwargs(options_class: str) -> str:
    return options_class.removesuffix("Options") + "Kwargs"


if __name__ == "__main__":
    TARGET.write_text(option_types(), encoding="utf-8")
