"""The options of an evaluation: of `zhenlong evaluate`, of a recipe's step and of `evaluate` in Python alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import yaml

from zhenlong.data.template_sources import parse_template_spec, template_spec
from zhenlong.errors import UserError
from zhenlong.evaluate.perturb import CANONICAL_PERTURBATIONS, PERTURBATIONS
from zhenlong.inference.options import BackendSettings, InferenceOptions
from zhenlong.options import require_option

NamedFiles = Literal["data", "examples", "baseline_outputs", "reference_answers", "attack_template"]


@dataclass(frozen=True)
class EvaluationOptions(InferenceOptions):
    """What is evaluated, and how. Files by name are words `name=path`, or a mapping."""

    suite: str = ""
    """A list of scenarios: quick, world, holistic, helm, safety, chat, reasoning, code, tools, or your YAML file."""
    scenario: Sequence[str] = ()
    """A scenario, a pattern such as helm_*, your YAML file, or lm_eval:<task>. Give it again for each."""
    limit: int | None = None
    """Instances of each scenario, a sample that is the same for every model; unset: what the suite says, else all."""
    shots: str | Sequence[int] = ""
    """In-context examples, such as 5, or 0,2,4 for several runs; unset takes what each scenario says."""
    trials: int = 1
    """Runs with other examples (the seed of their choice is the number of the trial) and other draws."""
    seed: int = 0
    """Seed of sampled answers and of generated scenarios."""
    perturbations: str = ""
    """none, all, canonical (HELM's), or names separated by commas; unset takes what the suite says."""
    judge: str = ""
    """The model that judges conversations, where a scenario needs one."""
    judge_max_tokens: int | None = None
    """Longest reply of the judge, with its reasoning; unset takes what each metric says (1 to 16,000)."""
    toxicity_classifier: str = ""
    """Scorer of toxicity metrics: a classifier's folder or hub id, or FOLDER:LABEL; unset takes the lexicon, which
    finds about half."""
    data: Sequence[str] | Mapping[str, str] = ()
    """A file in place of a scenario's data, as name=path. Give it again for each scenario."""
    examples: Sequence[str] | Mapping[str, str] = ()
    """A file in place of a scenario's in-context examples, as name=path."""
    baseline_outputs: Sequence[str] | Mapping[str, str] = ()
    """The answers that a judge compares with, as name=path, rows with id and output."""
    reference_answers: Sequence[str] | Mapping[str, str] = ()
    """The answers that a judge is shown as right, as name=path."""
    metric_option: Sequence[str] | Mapping[str, Any] = ()
    """An option of metrics, as name=value, such as a judge's own prompt. Given to all that have it."""
    attack_template: Sequence[str] | Mapping[str, str] = ()
    """A file in place of an attack's template, as name=path, such as code_go_list=mine.txt."""
    sandbox: Literal["auto", "none"] = "auto"
    """auto isolates programs that models wrote, and refuses where it cannot; none runs them without isolation."""
    chat_template: str = "auto"
    """The tokenizer's own (auto) or a named one, chatml, llama2, llama3, alpaca, a Jinja file; none is plain text."""
    chat_template_kwargs: str = ""
    """Arguments of the template, such as enable_thinking=false; endpoints are sent them."""
    as_chat: bool = False
    """Put text prompts, too, as a user's turn in the chat template."""
    max_tokens: int | None = None
    """Longest answer, where a scenario allows more."""
    tokens_per_microbatch: int = 8192
    """Tokens of one forward pass when scoring; fewer need less memory."""
    refresh: bool = False
    """Ask every model and the judge again, whatever the cache holds."""
    progress: bool = True
    """Show a bar for each scenario, on a terminal."""

    def validate(self) -> None:
        super().validate()
        has_template = parse_template_spec(self.template_spec)[0] != "none" or not self.chat_template_kwargs
        require_option(
            "chat_template_kwargs", self.chat_template_kwargs, "no arguments of the template none", has_template
        )
        require_option("trials", self.trials, "1 or more", self.trials >= 1)
        tokens = self.judge_max_tokens
        require_option("judge_max_tokens", tokens, "1 or more", tokens is None or tokens >= 1)
        require_option("limit", self.limit, "1 or more", self.limit is None or self.limit >= 1)
        require_option("shots", self.shots, "numbers of 0 or more", all(count >= 0 for count in self.shot_counts))
        self.asked()  # all that is written as text can be read

    @property
    def template_spec(self) -> str:
        """The template with its arguments."""
        return template_spec(self.chat_template, self.chat_template_kwargs)

    @property
    def shot_counts(self) -> tuple[int, ...]:
        """The numbers of in-context examples asked for; none where each scenario says its own."""
        try:
            given = self.shots.split(",") if isinstance(self.shots, str) else self.shots
            return tuple(int(count) for count in given) if self.shots else ()
        except ValueError:
            expected = "a number of examples, or several such as 0,2,4"
            raise UserError(f"--shots {self.shots}: expected {expected}") from None

    @property
    def perturbation_names(self) -> tuple[str, ...] | None:
        """The perturbations asked for; None takes what the suite says."""
        known = {"none": (), "all": tuple(PERTURBATIONS), "canonical": tuple(CANONICAL_PERTURBATIONS)}
        if not self.perturbations:
            return None
        names = known.get(self.perturbations, tuple(self.perturbations.split(",")))
        unknown = [name for name in names if name not in PERTURBATIONS]
        if unknown:
            raise UserError(
                f"--perturbations: {unknown[0]!r} is not known; expected none, all, canonical or some of "
                f"{', '.join(PERTURBATIONS)}"
            )
        return names

    def files(self, option: NamedFiles) -> dict[str, str]:
        """The files that an option names, by the scenario's or the attack's name."""
        return _assignments(option, getattr(self, option))

    @property
    def metric_options(self) -> dict[str, Any]:
        """The options of metrics; values that are text are read as YAML: numbers, true and false, lists, words."""
        given = _assignments("metric_option", self.metric_option)
        read = given if isinstance(self.metric_option, Mapping) else {k: yaml.safe_load(v) for k, v in given.items()}
        sandbox = {"sandbox": self.sandbox} if self.sandbox != "auto" else {}
        tokens = {"judge_max_tokens": self.judge_max_tokens} if self.judge_max_tokens else {}
        toxicity = {"scorer": self.toxicity_classifier} if self.toxicity_classifier else {}
        return read | sandbox | tokens | toxicity

    def asked(self) -> dict[str, Any]:
        """What decides the numbers, for evaluation.json: a later run into the same folder has to ask alike."""
        return {
            "suite": self.suite,
            "shots": self.shot_counts,
            "trials": self.trials,
            "limit": self.limit,
            "seed": self.seed,
            "perturbations": self.perturbation_names,
            "data": self.files("data"),
            "examples": self.files("examples"),
            "baseline_outputs": self.files("baseline_outputs"),
            "reference_answers": self.files("reference_answers"),
            "metric_option": self.metric_options,
            "as_chat": self.as_chat,
            "max_tokens": self.max_tokens,
            "attack_template": self.files("attack_template"),
            "chat_template": self.template_spec,
            "judge": self.judge,
        }

    def backend_settings(self, chat_template: str) -> BackendSettings:
        """What these options say to a backend."""
        return replace(super().backend_settings(chat_template), tokens_per_microbatch=self.tokens_per_microbatch)


def _assignments(option: str, given: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return dict(given)
    found = {}
    for one in given:
        name, sign, value = one.partition("=")
        if not (name and sign and value):
            raise UserError(f"--{option} {one}: expected name=path, such as gsm8k=rows.jsonl")
        found[name] = value
    return found
