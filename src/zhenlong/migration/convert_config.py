"""`zhenlong convert_config`: a YAML file of another library as options of a stage here, where the mapping is plain.

Every key is accounted for: it becomes an option, it is left out because the same always holds here, or it is listed as
having no counterpart. Options that the file leaves to the other library's default are written with that default where
ours is another one, so that the run is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from zhenlong.errors import UserError
from zhenlong.loop.atomic import write_text
from zhenlong.migration.axolotl import AXOLOTL
from zhenlong.migration.nemo_rl import NEMO_RL
from zhenlong.migration.rules import LibraryRules, Mapped
from zhenlong.migration.trl import TRL
from zhenlong.migration.verl import VERL

Library = Literal["trl", "axolotl", "verl", "nemo_rl"]
CONFIG_LIBRARIES: Final[Mapping[str, LibraryRules]] = {"trl": TRL, "axolotl": AXOLOTL, "verl": VERL, "nemo_rl": NEMO_RL}


@dataclass
class ConvertedConfig:
    """A configuration as options of a stage.

    Attributes:
        stage: the stage, such as `grpo`.
        options: its options.
        needless: keys that are left out because the same always holds here, with the reason.
        unknown: keys without a counterpart, with their values.
        notes: what to check by hand.
    """

    stage: str
    options: dict[str, Any] = field(default_factory=dict)
    needless: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_yaml(self) -> str:
        """The options as a file for `--config`, with everything else as comments."""
        lines = [f"# zhenlong {self.stage} --config <this file>"]
        lines += [f"# check: {note}" for note in self.notes]
        lines += [f"# no counterpart: {key}: {value!r}" for key, value in self.unknown.items()]
        lines += [f"# not needed: {key} ({reason})" for key, reason in self.needless.items()]
        return "\n".join(lines) + "\n" + yaml.safe_dump(self.options, sort_keys=False, allow_unicode=True)


def convert_config(config: str, *, library: Library, stage: str = "", output: str = "") -> ConvertedConfig:
    """Convert a YAML configuration of another library into options of a stage.

    Args:
        config: YAML file of the other library.
        library: trl, axolotl, verl or nemo_rl. verl's file is the resolved one, without `defaults`.
        stage: Stage to convert to: sft, dpo, kto, reward_model, grpo or ppo; needed where the file does not say it, as
            in trl.
        output: File to write; empty prints it.

    Returns the options, and the keys without a counterpart. Raises `UserError` for a file that cannot be read, and for
    a method that has no stage here.
    """
    if library not in CONFIG_LIBRARIES:
        raise UserError(f"library: expected one of {', '.join(CONFIG_LIBRARIES)}, got {library!r}")
    try:
        loaded = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{config}: cannot be read as YAML ({' '.join(str(error).split())})") from None
    if not isinstance(loaded, Mapping) or not loaded:
        raise UserError(f"{config}: expected a mapping of options")
    found = convert_settings(dict(loaded), library, stage, config)
    if output:
        write_text(Path(output), found.as_yaml())
    else:
        print(found.as_yaml(), end="")
    return found


def convert_settings(settings: Mapping[str, Any], library: Library, stage: str, place: str) -> ConvertedConfig:
    """The same for settings that are read already; `place` is what errors name."""
    rules = CONFIG_LIBRARIES[library]
    flat = dict(_flatten(settings))
    stage = stage or rules.find_stage(flat)
    if stage not in rules.stages:
        expected = ", ".join(rules.stages)
        raise UserError(
            f"{place}: stage: expected one of {expected} for {library}, got {stage or 'none'}; give --stage"
        )
    own = rules.stages[stage]
    given = {name: value for name, value in own.defaults.items() if name not in flat} | flat
    found = ConvertedConfig(stage)
    for key, value in given.items():
        rule = own.keys.get(key, rules.keys.get(key))
        if value is None:
            continue
        if rule is None:
            found.unknown[key] = value
        elif isinstance(rule, Mapped):
            _add(found, key, rule, value, place)
        elif rule.startswith("not needed: "):
            found.needless[key] = rule.removeprefix("not needed: ")
        else:
            found.options[rule] = value
    for derive in (*rules.derived, *own.derived):
        derive(given, found.options, found.notes)
    for key in rules.consumed:
        found.unknown.pop(key, None)
    return found


def _add(found: ConvertedConfig, key: str, rule: Mapped, value: Any, place: str) -> None:
    try:
        converted = rule.convert(value)
    except (KeyError, TypeError, ValueError):
        found.unknown[key] = value
        return
    if converted is None:
        found.needless[key] = f"{value!r} is how it always is here"
    else:
        found.options[rule.option] = converted


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as dotted keys; lists are values."""
    for name, value in settings.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{key}.")
        else:
            yield key, value
