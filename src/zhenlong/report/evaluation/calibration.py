"""Reliability diagrams: of the answers that a model was so sure of, how many are right?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zhenlong.evaluate.metrics.calibration import ReliabilityPoint, reliability
from zhenlong.evaluate.results import Record
from zhenlong.report.evaluation.drawing import Chart, Point, Series, drawn, unit_axis
from zhenlong.report.evaluation.folder import Evaluation, Place, model_name
from zhenlong.report.evaluation.numbers import digits_for, spoken

Sure = tuple[list[float], list[float]]  # confidences, and whether the answers are right
LEAST = 30  # answers from which a diagram says something


def confidences(evaluation: Evaluation, place: Place, records: Mapping[str, Sequence[Record]]) -> dict[str, Sure]:
    """Of each model the confidence in its unperturbed answers and whether they are right, where it is known.

    Of generated answers only where the scenario measures calibration: elsewhere a score of 1 need not mean right.
    """
    found = {}
    measured = bool(evaluation.find(place, "ece_10_bin"))
    main = evaluation.main_measure(place[0])
    for model, own in records.items():
        told = [
            (one.confidence, right)
            for one in own
            if not one.perturbation
            and not one.failed
            and one.shots == place[1]
            and one.confidence is not None
            and (measured or one.choice_log_probs)
            and (right := _right(one, main)) is not None
        ]
        if len(told) >= LEAST:
            found[model] = ([sure for sure, _ in told], [right for _, right in told])
    return found


def diagram(evaluation: Evaluation, place: Place, sure: Mapping[str, Sure]) -> Chart | None:
    """The diagram of a scenario, in ten bins of equally many answers; None where no model's confidence is known."""
    series, said = [], []
    errors = evaluation.find(place, "ece_10_bin")
    for at, model in enumerate(evaluation.models):
        if model not in sure:
            continue
        points = [_point(model_name(model), one) for one in reliability(*sure[model])]
        series.append(Series(at, points))
        error = errors.get(model)
        if error:
            said.append(f"{model_name(model)} {spoken(error.value, digits_for([error.value])).split(',')[0]}")
    if not series:
        return None
    note = f"ECE: {' · '.join(said)}" if said else ""
    title = evaluation.named(place)
    words = f"Reliability diagram of {title}" + (f"; expected calibration error: {', '.join(said)}" if said else "")
    x, y = unit_axis("confidence"), unit_axis("share right")
    return drawn(title, series, x, y, spoken=words, diagonal=True, note=note)


def _point(model: str, found: ReliabilityPoint) -> Point:
    right = found.accuracy
    says = f"{model}: confidence {found.confidence:.2f}, right {right.mean:.2f} (n = {right.n})"
    return Point(found.confidence, right.mean, says, right.ci95)


def _right(record: Record, main: str) -> float | None:
    """Whether the chosen reference is a correct one, else whether the main score is 1; None where neither is told."""
    if record.predicted is not None and record.predicted < len(record.references):
        return float(bool(record.references[record.predicted].get("correct")))
    score = record.scores.get(main)
    return None if score is None else float(score >= 1)
