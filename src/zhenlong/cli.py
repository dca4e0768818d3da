"""The command line: `zhenlong <stage or tool> --options`; each command is the Python function of the same name.

jsonargparse reads a function's signature and docstring, so options, their help and `--config file.yaml` come from one
place. A user's mistake is one line on stderr and exit code 2, never a traceback.
"""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from zhenlong.errors import UserError

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "pretrain": ("zhenlong.stages.pretrain:pretrain", "train a base model on documents"),
    "sft": ("zhenlong.stages.sft:sft", "fine-tune on demonstrations"),
    "reward_model": ("zhenlong.stages.reward_model:reward_model", "train a reward model on rankings"),
    "dpo": ("zhenlong.stages.dpo:dpo", "optimise a policy on rankings directly"),
    "kto": ("zhenlong.stages.kto:kto", "optimise a policy on single responses labelled desirable or undesirable"),
    "ppo": ("zhenlong.stages.ppo:ppo", "optimise a policy against a reward, with a critic"),
    "grpo": ("zhenlong.stages.grpo:grpo", "optimise a policy against a reward, in groups (RLOO, DAPO, GSPO, ...)"),
    "best_of_n": ("zhenlong.stages.best_of_n:best_of_n", "sample n answers to each prompt and keep the best ones"),
    "raft": ("zhenlong.stages.raft:raft", "fine-tune on the best, or the correct, of a model's own responses; repeat"),
    "derta": ("zhenlong.stages.derta:derta", "teach a model to refuse at any place of a response"),
    "self_reward": (
        "zhenlong.stages.self_reward:self_reward",
        "let a model judge its own answers and learn from it; repeat",
    ),
    "ai_feedback": (
        "zhenlong.feedback.ai_feedback:ai_feedback",
        "let a model say which of two answers is better, and how much",
    ),
    "critique": (
        "zhenlong.feedback.critique:critique",
        "let a model revise its answers by the rules of a constitution",
    ),
    "judge_demonstrations": (
        "zhenlong.feedback.judge_demonstrations:judge_demonstrations",
        "make demonstrations of judging from rankings",
    ),
    "classify": ("zhenlong.stages.classify:classify", "train a text classifier: encoder, decoder or encoder-decoder"),
    "demonstration_pairs": (
        "zhenlong.feedback.demonstration_pairs:demonstration_pairs",
        "rank demonstrations above a model's own responses",
    ),
    "tool_tasks": ("zhenlong.stages.tool_tasks:tool_tasks", "make verifiable tasks of conversations with tool calls"),
    "simulate_preferences": (
        "zhenlong.feedback:simulate_preferences",
        "let simulated annotators rank a model's answers",
    ),
    "data validate": ("zhenlong.data.commands:validate", "every problem of a data set, with file and line"),
    "data convert": ("zhenlong.data.commands:convert", "write a data set in another format"),
    "data profile": ("zhenlong.report.data_profile:profile", "what data sets are like: lengths, copies, language, ..."),
    "data contamination": (
        "zhenlong.evaluate.audit.contamination:contamination",
        "training rows that evaluations ask about",
    ),
    "run": ("zhenlong.stages.recipe:run", "run a recipe: stages and evaluations, one after the other"),
    "evaluate": (
        "zhenlong.stages.evaluate_command:evaluate_command",
        "measure models on scenarios, or on a suite of them",
    ),
    "sample": ("zhenlong.sampling.command:sample_command", "chat with a model, or complete prompts"),
    "score": ("zhenlong.evaluate.results.score_command:score", "grade outputs made elsewhere, without a model"),
    "compare": ("zhenlong.evaluate.compare.compare:compare", "two evaluations, paired by instance, with tests"),
    "gate": ("zhenlong.evaluate.compare.gate:gate", "exit with 1 where a candidate's evaluation lost too much"),
    "leaderboard": ("zhenlong.studies.leaderboard:leaderboard", "one table of a recipe's methods over several seeds"),
    "report": ("zhenlong.report:write_report", "make a run's or a recipe's report.html"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; the process exits with 0, 2 for a user's mistake, or 128 + the signal that stopped it."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0] in ("-h", "--help"):
        print(_overview())
        return
    if given[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"zhenlong {version('zhenlong')}")
        return
    name, rest = given[0].replace("-", "_"), given[1:]
    group = [one for one in COMMANDS if one.startswith(f"{name} ")]
    if group and (not rest or rest[0] in ("-h", "--help")):
        print(_overview(group))
        return
    if group and f"{name} {rest[0]}" in COMMANDS:
        name, rest = f"{name} {rest[0]}", rest[1:]
    elif group:
        _fail(f"{name} {rest[0]}: no such command; expected one of {', '.join(group)}")
    if name not in COMMANDS:
        _fail(f"{given[0]}: no such command; expected one of {', '.join(COMMANDS)}")
    try:
        with _one_line_warnings():
            function = _import_function(COMMANDS[name][0])
            if name == "run":
                _run_recipe(function, rest)
            else:
                _run_command(name, function, rest)
    except UserError as error:
        _fail(str(error))


@contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Warnings without the line of source they come from; those to programmers, about libraries, are left out."""

    def show(message: Warning | str, *_: Any) -> None:
        print(f"zhenlong: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _run_command(name: str, function: Callable[..., Any], arguments: Sequence[str]) -> None:
    from jsonargparse import ArgumentParser, set_parsing_settings  # slow to import, and needed here only

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog=f"zhenlong {name}", exit_on_error=False, description=_summary_line(function))
    own_config = "config" in inspect.signature(function).parameters
    if not own_config:
        parser.add_argument("--config", action="config", help="YAML file with options; those on the command line win.")
    parser.add_function_arguments(function, as_group=False, fail_untyped=False)
    try:
        parsed = parser.parse_args(
            _merge_repeated_options(parser, _complete_flags(parser, _name_positionals(function, arguments)))
        )
    except Exception as error:
        raise UserError(f"zhenlong {name}: {_as_one_line(error)}; see zhenlong {name} --help") from None
    options = parser.instantiate_classes(parsed).as_dict()
    if not own_config:
        options.pop("config", None)
    result = function(**options)
    if isinstance(result, Path):
        print(result)


def _run_recipe(function: Callable[..., Any], arguments: Sequence[str]) -> None:
    """`zhenlong run recipe.yaml --name value ...`: the names are those of the recipe's own arguments."""
    usage = "usage: zhenlong run <recipe.yaml> [--<argument> <value> ...]"
    if not arguments or {"-h", "--help"} & set(arguments):
        print(f"{usage}\n\n{_summary_line(function)}\nThe arguments are those that the recipe lists, such as --output.")
        return
    recipe, rest = arguments[0], list(arguments[1:])
    pairs = [part for one in rest for part in (one.split("=", 1) if one.startswith("--") else [one])]
    names, values = pairs[::2], pairs[1::2]
    if recipe.startswith("-") or len(names) != len(values) or not all(name.startswith("--") for name in names):
        raise UserError(f"zhenlong run: cannot read {' '.join(arguments)!r}; {usage}")
    function(recipe, **{name[2:]: value for name, value in zip(names, values, strict=True)})


def _name_positionals(function: Callable[..., Any], arguments: Sequence[str]) -> list[str]:
    """`compare A B --model-a sft` as `--evaluation_a=A --evaluation_b=B --model_a sft`.

    A parameter that Python takes by position needs no name, one that is a list takes all such words that are left, and
    a name's words may be joined by `-` too.
    """
    by_position = [
        one for one in inspect.signature(function).parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD
    ]
    words: list[str] = []
    rest = list(arguments)
    while rest and not rest[0].startswith("-") and by_position:
        words.append(f"--{by_position[0].name}={rest.pop(0)}")
        if by_position[0].annotation not in ("Sequence[str]", Sequence[str]):
            del by_position[0]
    for argument in rest:
        name, equals, value = argument.partition("=")
        words.append(
            name.replace("-", "_").replace("__", "--", 1) + equals + value if _is_option_name(name) else argument
        )
    return words


def _is_option_name(word: str) -> bool:
    return word.startswith("--") and word[2:].replace("-", "_").isidentifier()


def _complete_flags(parser: Any, arguments: Sequence[str]) -> list[str]:
    """A bare `--flag` of a true-or-false option means true."""
    flags = {name for action in parser._actions for name in action.option_strings if _is_bool(action)}
    found = []
    for argument, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        found.append(argument)
        if argument in flags and following.startswith("--"):
            found.append("true")
    return found


def _merge_repeated_options(parser: Any, arguments: Sequence[str]) -> list[str]:
    """`--model A --model B` of an option that takes several words as the one list that the parser reads."""
    several = {name for action in parser._actions for name in action.option_strings if _is_string_list(action)}
    values: dict[str, list[str]] = {}
    rest: list[str] = []
    left = list(arguments)
    while left:
        name, equals, value = left.pop(0).partition("=")
        if name not in several:
            rest.append(name + equals + value)
            continue
        if not equals and not left:
            raise UserError(f"{name}: expected a value after it")
        word = value if equals else left.pop(0)
        values.setdefault(name, []).extend(json.loads(word) if word.startswith("[") else [word])
    return [*rest, *(f"{name}={json.dumps(words)}" for name, words in values.items())]


def _is_string_list(action: Any) -> bool:
    return getattr(action, "_typehint", None) == Sequence[str]


def _is_bool(action: Any) -> bool:
    return getattr(action, "_typehint", None) is bool or getattr(action, "type", None) is bool


def _import_function(path: str) -> Callable[..., Any]:
    module, name = path.split(":")
    return getattr(import_module(module), name)


def _summary_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().split("\n")[0]


def _as_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _overview(names: Sequence[str] = ()) -> str:
    lines = [f"  {name:<22}{COMMANDS[name][1]}" for name in names or COMMANDS]
    head = "Post-train a language model, and prove that it got better.\n\nusage: zhenlong <command> [--options]\n"
    return "\n".join([head, *lines, "\nzhenlong <command> --help lists its options."])


def _fail(message: str) -> None:
    print(f"zhenlong: error: {message}", file=sys.stderr)
    raise SystemExit(2)
