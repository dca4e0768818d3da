"""Synthetic evaluation folders in the format of `zhenlong evaluate`, from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zhenlong.evaluate.results.result_files import InstanceRecord, Result, instances_path, record_to_json, write_results
from zhenlong.evaluate.statistics.intervals import mean_interval, ratio_interval

MODELS = {"base": 0.35, "sft": 0.6, "grpo": 0.68}
MULTIPLE_CHOICE = {
    "mmlu": "exact_match",
    "bbq": "exact_match",
    "hellaswag": "exact_match",
    "truthfulqa_mc1": "exact_match",
}
GENERATED = {"gsm8k": "exact_match", "math": "math_equivalent", "ifeval": "prompt_strict", "humaneval": "pass@1",
           "imdb": "exact_match", "real_toxicity_prompts": "expected_max_toxicity"}  # fmt: skip
PROMPT_PREFIX = "The following are questions (with answers).\n\n" + "".join(
    f"Question: What is {i} plus {i}?\nAnswer: {i + i}\n\n" for i in range(5)
)


def write_evaluation(
    folder: Path, *, models=MODELS, scenarios=(*MULTIPLE_CHOICE, *GENERATED), n=200, hostile="", seed=0
) -> Path:
    """Three models of different skill; `hostile` is inserted wherever external text may occur."""
    results: list[Result] = []
    for at, scenario in enumerate(scenarios):
        for model, skill in models.items():
            rng = np.random.default_rng([seed, at, len(model)])
            records = _records(scenario, model, skill - 0.04 * at % 0.3, n, rng, hostile)
            results += _results(scenario, model, records)
            path = instances_path(folder, model, scenario)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(record_to_json(one) + "\n" for one in records), encoding="utf-8")
    manifest = {"models": list(models), "scenarios": list(scenarios), "seed": seed, "limit": n, "suite": "holistic",
             "versions": {"zhenlong": "0.1.0"}}  # fmt: skip
    write_results(folder, manifest, results)
    return folder


def _records(scenario, model, skill, n, rng, hostile) -> list[InstanceRecord]:
    found = []
    chosen = scenario in MULTIPLE_CHOICE
    main = (MULTIPLE_CHOICE | GENERATED).get(scenario, "exact_match")
    copies = {"": 0.0, "mild_mix": 0.06, "dialect": 0.03} if scenario in ("mmlu", "gsm8k", "imdb") else {"": 0.0}
    shots = (0, 5) if scenario == "gsm8k" else (5,) if chosen else (0,)
    hard = np.random.default_rng(7).random(n)  # difficulty of each instance, the same for all models
    for shot in shots:
        for place in range(n):
            for name, harm in copies.items():
                right = float(hard[place] * 0.8 + rng.random() * 0.4 < skill + 0.1 * (shot > 0) - harm + 0.1)
                dialect_word = "e'er " if name else ""
                question = f"What is {place} {dialect_word}times {place + 1}? {hostile}"
                prompt = (PROMPT_PREFIX if shot else "") + f"Question: {question}\nAnswer:"
                failed = "the endpoint timed out after 3 tries" if place % 67 == 13 and model == "sft" else ""
                seconds = 0.02 * (1 + 3 * skill) + 0.01 * rng.random()
                cost = {"seconds": seconds, "prompt_tokens": 90, "generated_tokens": 12, "flops": 2e9 * (1 + skill)}
                references = ({"text": str(place * (place + 1)), "correct": True},)
                log_probs = predicted = confidence = None
                if chosen:
                    texts = [place * (place + 1) + k for k in range(4)]
                    references = tuple(
                        {"text": f"{t} {hostile}".strip(), "correct": k == place % 4} for k, t in enumerate(texts)
                    )
                    predicted = place % 4 if right else (place + 1) % 4
                    confidence = float(np.clip(rng.beta(5, 3) if right else rng.beta(3, 4), 0.26, 0.99))
                    rest = np.log((1 - confidence) / 3)
                    log_probs = tuple(float(np.log(confidence)) if k == predicted else rest for k in range(4))
                answer = str(place * (place + 1) + (0 if right else 7))
                outputs = (
                    ()
                    if failed
                    else (f"Let me see: {place} times {place + 1}.\nThe answer is {answer}. {hostile}".strip(),)
                )
                value = float(rng.beta(2, 6)) if main == "expected_max_toxicity" else right
                found.append(
                    InstanceRecord(
                        id=str(place) if not hostile else f"{place}{hostile}",
                        prompt=prompt,
                        outputs=("ABCD"[predicted],) if chosen and not failed else outputs,
                        scores={} if failed else {main: value, "words": float(len(" ".join(outputs).split()))},
                        references=references,
                        choice_log_probs=None if failed else log_probs,
                        predicted=None if failed else predicted,
                        confidence=None if failed else confidence,
                        groups={"subject": f"{('algebra', 'history', 'law', 'physics')[place % 4]}{hostile}"}
                        if chosen
                        else {},
                        perturbation=name,
                        shots=shot,
                        failed=failed,
                        cost=cost,
                        judgement={"verdict": f"[[A]] {hostile}", "parsed": True} if scenario == "ifeval" else {},
                    )
                )
    return found


def _results(scenario, model, records) -> list[Result]:
    main = (MULTIPLE_CHOICE | GENERATED).get(scenario, "exact_match")
    toxic = main == "expected_max_toxicity"
    known = {"category": "toxicity", "higher_is_better": False} if toxic else {}
    found = []
    for shots in sorted({one.shots for one in records}):
        own = [one for one in records if one.shots == shots]

        def add(measure, values, *, own=own, shots=shots, **more):
            if len(values):
                failed = sum(bool(one.failed) for one in own if not one.perturbation)
                found.append(
                    Result(model, scenario, measure, mean_interval(values), shots=shots, failed=failed, **more)
                )

        plain = [one for one in own if not one.perturbation and not one.failed]
        add(main, [one.scores[main] for one in plain], main=True, **known)
        add("words", [one.scores["words"] for one in plain], category="bias" if scenario == "imdb" else "accuracy",
            higher_is_better=None)  # fmt: skip
        for subject in sorted({one.groups.get("subject", "") for one in plain} - {""}):
            add(main, [o.scores[main] for o in plain if o.groups["subject"] == subject], group=f"subject={subject}")
        by_copy = {name: {one.id: one.scores[main] for one in own if one.perturbation == name and not one.failed}
                   for name in ("", "mild_mix", "dialect")}  # fmt: skip
        for name, kind in (("mild_mix", "robustness"), ("dialect", "fairness")):
            if by_copy[name]:
                add(main, list(by_copy[name].values()), category=kind, perturbation=name)
                worst = [min(value, by_copy[name][key]) for key, value in by_copy[""].items()]
                add(main, worst, category=kind, perturbation=f"worst_case/{kind}")
        sure = [one.confidence - one.scores[main] for one in plain if one.confidence is not None]
        if sure:
            add("ece_10_bin", np.abs(sure), category="calibration", higher_is_better=False)
        seconds = [one.cost["seconds"] for one in plain]
        ones = [1] * len(plain)
        flops = [one.cost["flops"] for one in plain]
        for measure, value in (
            ("seconds_per_request", ratio_interval(seconds, ones)),
            ("flops_per_request", ratio_interval(flops, ones)),
        ):
            found.append(Result(model, scenario, measure, value, "efficiency", False, shots=shots))
    return found
