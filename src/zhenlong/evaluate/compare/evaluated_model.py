"""The two sides of a comparison: one model of one evaluation each, and the settings in which they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.results.result_files import Result, read_manifest, read_results

IGNORED_SETTINGS: Final = ("models", "scenarios", "suite", "limit", "failed", "notes", "ledger", "judge_ledger")
"""Manifest entries compared separately, shown in the scenarios and instance counts, or telling the cost of a run."""


@dataclass(frozen=True)
class EvaluatedModel:
    """One model of the evaluation in a folder."""

    folder: Path
    model: str
    manifest: Mapping[str, Any]
    results: Sequence[Result]  # of this model

    @property
    def scenarios(self) -> list[str]:
        """The scenarios that the model was evaluated on, in their order."""
        return list(dict.fromkeys(one.scenario for one in self.results))


def load_evaluated_model(folder: str | Path, model: str = "", option: str = "--model") -> EvaluatedModel:
    """A model of an evaluation; the name may be omitted if there is only one.

    Raises `UserError` for a folder without an evaluation, an unknown model, or an ambiguous choice.
    """
    results = read_results(folder)
    known = list(dict.fromkeys(one.model for one in results))
    if not known:
        raise UserError(f"{folder}: the evaluation has no results; expected those of at least one model")
    if not model and len(known) > 1:
        raise UserError(f"{folder}: holds {len(known)} models ({', '.join(known)}); choose one with {option}")
    if model and model not in known:
        near = get_close_matches(model, known, 3, 0.3) or known
        raise UserError(f"{folder}: no model {model!r}; did you mean {', '.join(near)}?")
    chosen = model or known[0]
    return EvaluatedModel(Path(folder), chosen, read_manifest(folder), [one for one in results if one.model == chosen])


def load_evaluated_models(
    folder_a: str, folder_b: str = "", model_a: str = "", model_b: str = ""
) -> tuple[EvaluatedModel, EvaluatedModel]:
    """Two evaluations, or two models of one; the two models of one folder need no names.

    Raises `UserError` if both sides are the same.
    """
    if not folder_b or folder_b == folder_a:
        known = list(dict.fromkeys(one.model for one in read_results(folder_a)))
        if not model_a and not model_b and len(known) == 2:
            model_a, model_b = known
        if model_a == model_b or not (model_a and model_b):
            raise UserError(
                f"{folder_a}: comparing two models of one evaluation needs --model-a and --model-b; "
                f"it holds {', '.join(known) or 'none'}"
            )
    return load_evaluated_model(folder_a, model_a, "--model-a"), load_evaluated_model(
        folder_b or folder_a, model_b, "--model-b"
    )


def setting_differences(a: EvaluatedModel, b: EvaluatedModel) -> Iterator[str]:
    """One line for each setting in which the two evaluations, or the two models as loaded, differ."""
    if a.folder != b.folder:
        own, other = ({k: v for k, v in one.manifest.items() if k not in IGNORED_SETTINGS} for one in (a, b))
        yield from _mapping_differences("", own, other)
        for name in a.scenarios:
            if name in b.scenarios:
                yield from _mapping_differences(
                    f"{name}: ", _manifest_entry(a, "scenarios", name), _manifest_entry(b, "scenarios", name)
                )
    yield from _mapping_differences(
        "the model's ", _manifest_entry(a, "models", a.model), _manifest_entry(b, "models", b.model)
    )


def _mapping_differences(whose: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*a, *b}):
        if a.get(name) != b.get(name):
            if isinstance(a.get(name), Mapping) and isinstance(b.get(name), Mapping):
                yield from _mapping_differences(f"{whose}{name} ", a[name], b[name])
            else:
                yield f"{whose}{name}: {_abbreviated(a.get(name))} in A, {_abbreviated(b.get(name))} in B"


def _manifest_entry(one: EvaluatedModel, kind: str, name: str) -> dict[str, Any]:
    """The entry of a model or a scenario in evaluation.json."""
    entries = one.manifest.get(kind, {})
    found = entries.get(name, {}) if isinstance(entries, Mapping) else {}
    return dict(found) if isinstance(found, Mapping) else {}


def _abbreviated(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
