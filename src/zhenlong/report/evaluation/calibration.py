"""Reliability diagrams: accuracy against confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zhenlong.evaluate.metrics.calibration import ReliabilityPoint, reliability_points
from zhenlong.evaluate.results.result_files import InstanceRecord
from zhenlong.report.evaluation.evaluation_data import EvaluationData, ScenarioShots
from zhenlong.report.evaluation.number_format import decimals_for, describe_interval
from zhenlong.report.evaluation.svg_charts import Chart, Point, Series, build_chart, unit_axis

ConfidencesAndCorrectness = tuple[list[float], list[float]]  # confidences, correctness (0 or 1)
MIN_ANSWERS = 30  # no diagram with fewer answers


def confidences_by_model(
    evaluation: EvaluationData, scenario_shots: ScenarioShots, records: Mapping[str, Sequence[InstanceRecord]]
) -> dict[str, ConfidencesAndCorrectness]:
    """For each model, confidence and correctness of its unperturbed answers, if known.

    Generated answers count only if the scenario measures calibration: elsewhere a score of 1 need not mean correct.
    """
    found = {}
    measured = bool(evaluation.results_by_model(scenario_shots, "ece_10_bin"))
    main = evaluation.main_measure(scenario_shots[0])
    for model, own in records.items():
        pairs = [
            (one.confidence, right)
            for one in own
            if not one.perturbation
            and not one.failed
            and one.shots == scenario_shots[1]
            and one.confidence is not None
            and (measured or one.choice_log_probs)
            and (right := _correctness(one, main)) is not None
        ]
        if len(pairs) >= MIN_ANSWERS:
            found[model] = ([sure for sure, _ in pairs], [right for _, right in pairs])
    return found


def reliability_diagram(
    evaluation: EvaluationData, scenario_shots: ScenarioShots, confidences: Mapping[str, ConfidencesAndCorrectness]
) -> Chart | None:
    """The diagram of a scenario with ten equal-mass bins; None if no model's confidence is known."""
    series, error_texts = [], []
    calibration_errors = evaluation.results_by_model(scenario_shots, "ece_10_bin")
    for at, model in enumerate(evaluation.models):
        if model not in confidences:
            continue
        points = [_point(evaluation.model_names[model], one) for one in reliability_points(*confidences[model])]
        series.append(Series(at, points))
        error = calibration_errors.get(model)
        if error:
            text = describe_interval(error.value, decimals_for([error.value])).split(",")[0]
            error_texts.append(f"{evaluation.model_names[model]} {text}")
    if not series:
        return None
    note = f"ECE: {' · '.join(error_texts)}" if error_texts else ""
    title = evaluation.scenario_title(scenario_shots)
    aria_label = f"Reliability diagram of {title}" + (
        f"; expected calibration error: {', '.join(error_texts)}" if error_texts else ""
    )
    x, y = unit_axis("confidence"), unit_axis("accuracy")
    return build_chart(title, series, (x, y), aria_label=aria_label, diagonal=True, note=note)


def _point(model: str, found: ReliabilityPoint) -> Point:
    right = found.accuracy
    tooltip = f"{model}: confidence {found.confidence:.2f}, accuracy {right.mean:.2f} (n = {right.n})"
    return Point(found.confidence, right.mean, tooltip, right.ci95)


def _correctness(record: InstanceRecord, main: str) -> float | None:
    """Whether the chosen reference is correct, else whether the main score is 1; None if neither is known."""
    if record.predicted is not None and record.predicted < len(record.references):
        return float(bool(record.references[record.predicted].get("correct")))
    score = record.scores.get(main)
    return None if score is None else float(score >= 1)
