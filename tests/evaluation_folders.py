"""Evaluations as folders, from nothing but the values of their instances."""

import numpy as np

from zhenlong.evaluate.results.result_files import InstanceRecord, Result, instances_path, record_to_json, write_results
from zhenlong.evaluate.statistics.intervals import Interval, mean_interval

LOSS = "loss"  # the one measure where less is better


def records(values, measure="exact_match", start=0, **more):
    """One record for each value; None: it failed."""
    return [
        InstanceRecord(
            id=str(number),
            prompt=f"question {number}",
            scores={} if value is None else {measure: float(value)},
            references=({"text": f"answer {number}", "correct": True},),
            failed="timed out" if value is None else "",
            **more,
        )
        for number, value in enumerate(values, start)
    ]


def results_of(scenario, rows, model="m"):
    """The results that these records stand for: one for each measure, shots, perturbation and group."""
    keys = {(name, one.shots, one.perturbation) for one in rows for name in one.scores}
    found = []
    for measure, shots, perturbation in sorted(keys):
        alike = [one for one in rows if (one.shots, one.perturbation) == (shots, perturbation)]
        groups = sorted({pair for one in alike for pair in one.groups.items()}) if not perturbation else []
        for name, wanted in [("", ""), *groups]:
            own = [one for one in alike if measure in one.scores and (not name or one.groups.get(name) == wanted)]
            found.append(
                Result(
                    model=model,
                    scenario=scenario,
                    measure=measure,
                    value=mean_interval([one.scores[measure] for one in own]),
                    higher_is_better=measure != LOSS,
                    shots=shots,
                    perturbation=perturbation,
                    category="robustness" if perturbation else "accuracy",
                    group=f"{name}={wanted}" if name else "",
                    main=not name and not perturbation,
                )
            )
    return found


def write_evaluation(folder, scenarios, model="m", manifest=None, extra=()):
    """Write the evaluation of one model: scenario -> records; `extra` are results without a value per instance."""
    found = [one for name, rows in scenarios.items() for one in results_of(name, rows, model)]
    for name, rows in scenarios.items():
        path = instances_path(folder, model, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(record_to_json(one) + "\n" for one in rows))
    write_results(folder, {"models": {model: {}}, **(manifest or {})}, [*found, *extra])
    return str(folder)


def corpus(scenario, measure, mean, low, high, model="m"):
    return Result(model, scenario, measure, Interval(mean, (low, high), 100), "calibration", False)


def random_outcomes(n, fraction, seed=0):
    """n outcomes of which about this share is 1."""
    return list((np.random.default_rng(seed).random(n) < fraction).astype(float))
