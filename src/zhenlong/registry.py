"""Every stage, tool and recipe step: the one list for the command line, recipes, `import zhenlong` and reports.

Names only: nothing is imported before it is used. To add a stage, write `zhenlong/stages/<name>.py` with a function of
that name and one line here. The order here is the order of the help, of the report and of the documentation.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, Literal, NamedTuple

CommandGroup = Literal["train", "feedback", "data", "evaluate", "inspect"]
StepKind = Literal["", "stage", "data", "evaluation"]

COMMAND_GROUPS: Final[dict[CommandGroup, str]] = {
    "train": "Train",
    "feedback": "Collect feedback and build training data",
    "data": "Check and convert data",
    "evaluate": "Evaluate and compare",
    "inspect": "Run recipes, convert, merge, sample and report",
}


class Entry(NamedTuple):
    """One stage, tool or recipe step.

    Attributes:
        name: as typed after `zhenlong`, and in a recipe; two words for a tool of a group, such as `data validate`.
        target: the function, as "module:function".
        summary: one line for the overview.
        group: where the overview lists it.
        step: what it is in a recipe: a stage that trains in a run folder of its own, a step that writes data, an
            evaluation whose numbers enter the summary, or "" where a recipe has no such step.
        step_target: the function of the recipe step, where it is another one than `target`.
        public_name: its name in Python, where it is another one than `name`.
        label: how reports write the name.
        on_command_line: off for steps that exist in recipes only.
    """

    name: str
    target: str
    summary: str
    group: CommandGroup
    step: StepKind = ""
    step_target: str = ""
    public_name: str = ""
    label: str = ""
    on_command_line: bool = True

    @property
    def python_name(self) -> str:
        """The name below `zhenlong`."""
        return self.public_name or self.name

    def load(self) -> Callable[..., Any]:
        """Import the function."""
        return load_target(self.target)

    def load_step(self) -> Callable[..., Any]:
        """Import the function of the recipe step."""
        return load_target(self.step_target or self.target)


def stage(name: str, label: str, summary: str) -> Entry:
    """The entry of a training stage: the function `name` of `zhenlong/stages/<name>.py`."""
    return Entry(name, f"zhenlong.stages.{name}:{name}", summary, "train", "stage", label=label)


ENTRIES: Final[tuple[Entry, ...]] = (
    stage("pretrain", "Pretraining", "train a base model on documents"),
    stage("sft", "SFT", "fine-tune on demonstrations"),
    stage("reward_model", "Reward model", "train a reward model on rankings"),
    stage("best_of_n", "Best of n", "sample n responses to each prompt and keep the best"),
    stage("raft", "RAFT", "fine-tune on the best, or the correct, of a model's own responses; repeat"),
    stage("dpo", "DPO", "optimise a policy on rankings, without a reward model"),
    stage("kto", "KTO", "optimise a policy on single responses labelled desirable or undesirable"),
    stage("ppo", "PPO", "optimise a policy against a reward, with a value function"),
    stage("grpo", "GRPO", "optimise a policy against a reward, in groups (RLOO, DAPO, GSPO, ...)"),
    stage("derta", "DeRTa", "teach a model to refuse at any point of a response"),
    stage("self_reward", "Self-rewarding", "let a model judge its own responses and learn from them; repeat"),
    stage("classify", "Classifier", "train a text classifier: encoder, decoder or encoder-decoder"),
    Entry(
        "ai_feedback",
        "zhenlong.feedback.ai_feedback:ai_feedback",
        "label preferences between responses with a judge model",
        "feedback",
        "data",
    ),
    Entry(
        "critique",
        "zhenlong.feedback.critique:critique",
        "let a model critique and revise its responses under a constitution",
        "feedback",
        "data",
    ),
    Entry(
        "simulate_preferences",
        "zhenlong.feedback.simulate_preferences:simulate_preferences",
        "let simulated annotators rank a model's responses",
        "feedback",
        "data",
    ),
    Entry(
        "demonstration_pairs",
        "zhenlong.feedback.demonstration_pairs:demonstration_pairs",
        "rank demonstrations above a model's own responses",
        "feedback",
        "data",
    ),
    Entry(
        "judge_demonstrations",
        "zhenlong.feedback.judge_demonstrations:judge_demonstrations",
        "make demonstrations of judging from rankings",
        "feedback",
        "data",
    ),
    Entry(
        "tool_tasks",
        "zhenlong.stages.tool_tasks:tool_tasks",
        "make verifiable tasks from conversations with tool calls",
        "feedback",
        "data",
    ),
    Entry(
        "data validate",
        "zhenlong.data.commands:validate",
        "list every problem of a data set, with file and line",
        "data",
        public_name="validate_data",
    ),
    Entry(
        "data convert",
        "zhenlong.data.commands:convert",
        "write a data set in another format",
        "data",
        public_name="convert_data",
    ),
    Entry(
        "data profile",
        "zhenlong.report.data_profile.command:profile",
        "profile data sets: lengths, duplicates, languages, ...",
        "data",
        public_name="profile_data",
    ),
    Entry(
        "data contamination",
        "zhenlong.evaluate.audit.contamination:contamination",
        "find training rows that overlap with evaluations",
        "data",
        public_name="contamination",
    ),
    Entry(
        "evaluate",
        "zhenlong.stages.evaluate_command:evaluate_command",
        "evaluate models on scenarios or a suite",
        "evaluate",
        "evaluation",
        step_target="zhenlong.stages.evaluate_command:evaluate_step",
    ),
    Entry(
        "evaluate_world",
        "zhenlong.stages.recipe_evaluations:evaluate_world",
        "measure models in the built-in world, with its gold reward",
        "evaluate",
        "evaluation",
        on_command_line=False,
    ),
    Entry(
        "evaluate_heldout",
        "zhenlong.stages.recipe_evaluations:evaluate_heldout",
        "measure models on held-out data: perplexity, preference accuracy, ...",
        "evaluate",
        "evaluation",
        on_command_line=False,
    ),
    Entry(
        "compare_classifiers",
        "zhenlong.stages.compare_classifiers:compare_classifiers",
        "compare classifiers on held-out rows, paired",
        "evaluate",
        "evaluation",
        on_command_line=False,
    ),
    Entry(
        "score",
        "zhenlong.evaluate.run.score_command:score",
        "grade outputs made elsewhere, without a model",
        "evaluate",
    ),
    Entry(
        "reward_accuracy",
        "zhenlong.evaluate.heldout.reward_accuracy_command:reward_accuracy_command",
        "measure a trained reward model on new preference pairs",
        "evaluate",
    ),
    Entry(
        "scenarios",
        "zhenlong.evaluate.run.scenarios_command:scenarios",
        "list the scenarios that evaluate and score know",
        "evaluate",
    ),
    Entry(
        "verify",
        "zhenlong.verify.show_readings:verify_answers",
        "show how answers, verdicts and refusals are read, row by row",
        "evaluate",
        public_name="verify_answers",
    ),
    Entry(
        "compare",
        "zhenlong.evaluate.compare.compare:compare",
        "compare two evaluations, paired by instance, with tests",
        "evaluate",
    ),
    Entry(
        "gate",
        "zhenlong.evaluate.compare.gate:gate",
        "exit with 1 where a candidate's evaluation regressed",
        "evaluate",
    ),
    Entry(
        "leaderboard",
        "zhenlong.studies.leaderboard:leaderboard",
        "one table of a recipe's methods over several seeds",
        "evaluate",
    ),
    Entry(
        "run",
        "zhenlong.stages.recipe:run",
        "run a recipe: stages and evaluations, one after the other",
        "inspect",
    ),
    Entry(
        "convert_config",
        "zhenlong.migration.convert_config:convert_config",
        "convert a YAML file of TRL, axolotl, verl or NeMo-RL",
        "inspect",
    ),
    Entry(
        "merge",
        "zhenlong.models.merge:merge",
        "merge models of one architecture: mean, slerp, task vectors",
        "inspect",
        "data",
    ),
    Entry(
        "sample",
        "zhenlong.sampling.command:sample_command",
        "chat with a model, or complete prompts",
        "inspect",
    ),
    Entry(
        "report",
        "zhenlong.report.page:write_report",
        "write the report.html of a run or a recipe",
        "inspect",
    ),
)


def commands() -> dict[str, Entry]:
    """What the command line offers, by name."""
    return {one.name: one for one in ENTRIES if one.on_command_line}


def steps() -> dict[str, Entry]:
    """What a recipe may hold, by name."""
    return {one.name: one for one in ENTRIES if one.step}


def stages() -> dict[str, Entry]:
    """The training stages, by name, in the order that reports list them."""
    return {one.name: one for one in ENTRIES if one.step == "stage"}


def python_names() -> dict[str, str]:
    """The function that each name below `zhenlong` stands for, as "module:function"."""
    return {one.python_name: one.target for one in ENTRIES}


def load_target(target: str) -> Callable[..., Any]:
    """Import "module:function"."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)
