"""How good is the model while it trains? A suite before the first step and at intervals, and a gate that may stop it.

    for step in with_evaluations(run, policy, tokenizer, run.steps(total), chat_template):

The evaluations are folders of the run, `evaluation/step-000100`, like those of `zhenlong evaluate`; their numbers are
in metrics.jsonl as `evaluation/<scenario>/<measure>`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.errors import UserError
from zhenlong.evaluate.compare.evaluated_model import load_evaluated_model
from zhenlong.evaluate.compare.gate import GateVerdict, apply_rules
from zhenlong.evaluate.compare.gate_rules import GateRule, read_rules
from zhenlong.evaluate.results.number_format import format_short
from zhenlong.evaluate.results.result_files import Result
from zhenlong.evaluate.run import evaluate
from zhenlong.evaluate.run.suites import select_entries
from zhenlong.loop import Run
from zhenlong.loop.run import EVALUATION_FOLDER
from zhenlong.stages.heldout_curve import HeldoutCurve


class GateStopped(SystemExit):
    """Training was stopped because an evaluation broke a rule of the gate. Unhandled, the process exits with 1."""

    def __init__(self, failed: Sequence[GateVerdict]) -> None:
        super().__init__(1)
        self.failed = failed


def with_evaluations(
    run: Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    steps: Iterator[int],
    chat_template: str = "auto",
    heldout: HeldoutCurve | None = None,
) -> Iterator[int]:
    """The steps, with an evaluation before the first and after every `evaluate_every` of them and the last.

    `heldout` measures held-out records beside, at its own steps.

    Evaluating changes no later step: modes and random states are as they were. Where a rule of `stop_on_gate` is
    broken, held against the evaluation before the first step, the step's line and a checkpoint are written and
    `GateStopped` is raised. Raises `UserError` for an unknown suite, a mistake in the rules, and where the evaluation
    before the first step is missing in a resumed run.
    """
    options = run.options
    rules = _read_gate_rules(run) if options.evaluate_every else []
    for step in steps:
        if step == 1:
            before = dict(heldout.before_training()) if heldout else {}
            if options.evaluate_every:
                before |= _metrics_of(_run_evaluation(run, 0, model, tokenizer, chat_template))
            if before:
                run.log_step_zero(before)
        yield step
        if heldout:
            heldout.after_step(is_last=step == run.total_steps)
        if run.should_evaluate():
            run.log(_metrics_of(_run_evaluation(run, step, model, tokenizer, chat_template)))
            failed = _broken_rules(run, rules, step)
            if failed:
                run.stop_after_step(GateStopped(failed))


def _read_gate_rules(run: Run) -> list[GateRule]:
    """The rules of the gate; all that can be wrong is found before anything is written."""
    select_entries(run.options.evaluation_suite, [])
    rules = read_rules(run.options.stop_on_gate) if run.options.stop_on_gate else []
    if rules and run.step and not (_evaluation_folder(run, 0) / "results.json").exists():
        raise UserError(
            f"{_evaluation_folder(run, 0)}: not found; stop_on_gate compares with the evaluation before the first "
            "step, so evaluate_every has to be given from the start"
        )
    return rules


def _run_evaluation(
    run: Run, step: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, chat_template: str
) -> Sequence[Result]:
    options, folder = run.options, _evaluation_folder(run, step)
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped after this step, and goes on before it
    with run.eval_mode():
        found = evaluate(
            {run.name: (model, tokenizer)},
            folder,
            suite=options.evaluation_suite,
            limit=options.evaluation_limit or None,
            seed=options.seed,
            chat_template=chat_template,
            cache=str(run.output / EVALUATION_FOLDER / "cache.sqlite"),
            tokens_per_microbatch=options.tokens_per_microbatch,
            progress=False,
        )
    if not found.results:
        reasons = "; ".join(f"{scenario}: {reason}" for _, scenario, reason in found.failed)
        raise UserError(f"evaluation_suite {options.evaluation_suite}: nothing could be evaluated ({reasons})")
    return found.results


def _metrics_of(results: Sequence[Result]) -> dict[str, float]:
    """The numbers over all instances as written, but what answering took; by the number of shots where several are."""
    overall = [one for one in results if not one.group and not one.perturbation and one.category != "efficiency"]
    shots = {name: {one.shots for one in overall if one.scenario == name} for name in {one.scenario for one in overall}}
    return {
        f"evaluation/{one.scenario}{f'@{one.shots}' if len(shots[one.scenario]) > 1 else ''}/{one.measure}": (
            one.value.mean
        )
        for one in overall
    }


def _broken_rules(run: Run, rules: Sequence[GateRule], step: int) -> list[GateVerdict]:
    """The rules that the evaluation after this step breaks, each told on stderr."""
    if not rules:
        return []
    found, _ = apply_rules(
        rules,
        load_evaluated_model(_evaluation_folder(run, 0)),
        load_evaluated_model(_evaluation_folder(run, step)),
        seed=run.options.seed,
    )
    failed = [one for one in found if not one.passed]
    for one in failed:
        print(
            f"{run.output}: stopped on {one.rule.source} after step {step}: {one.measures.name} is worse by "
            f"{format_short(one.drop)} (between {format_short(one.drop_low)} and {format_short(one.drop_high)}, "
            f"allowed {format_short(one.allowed_drop)})",
            file=sys.stderr,
        )
    return failed


def _evaluation_folder(run: Run, step: int) -> Path:
    return run.output / EVALUATION_FOLDER / f"step-{step:06d}"
