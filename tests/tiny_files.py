"""A tiny model folder and a few rows of every kind, as files: what a stage is given in tests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny import tiny_model, tiny_tokenizer

from zhenlong.models import save_model

QUICK: dict[str, Any] = {"progress": False, "device": "cpu", "batch_size": 4, "steps": 2, "lr": 1e-3}

DEMONSTRATIONS = [
    {"messages": [{"role": "user", "content": "Say a."}, {"role": "assistant", "content": "a"}]},
    {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Add 2 and 3, please."},
                  {"role": "assistant", "content": "It is 5."}, {"role": "user", "content": "And 1?"},
                  {"role": "assistant", "content": "Then it is 6."}]},
    {"messages": [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Red is a colour."}]},
    {"messages": [{"role": "user", "content": "Reverse: tac"}, {"role": "assistant", "content": "cat"}]},
    {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada, of the long hill."}]},
]  # fmt: skip
PAIRS = [
    {"prompt": "Say a.", "chosen": "a", "rejected": "no, I would rather not"},
    {"prompt": "Add 2 and 3, please.", "chosen": "5, as you know", "rejected": "6"},
    {"prompt": "Name a colour.", "chosen": "Red.", "rejected": "Dog."},
    {"prompt": "Reverse: tac", "chosen": "cat", "rejected": "tac"},
]
RANKINGS = [
    {"kind": "ranking", "prompt": [{"role": "user", "content": row["prompt"]}],
     "responses": [row["chosen"], row["rejected"], "Hm."], "ranks": [1, 2, 3], "strength": 1 + number}
    for number, row in enumerate(PAIRS)
]  # fmt: skip
RATINGS = [
    {"prompt": "Say a.", "completion": "a", "label": True},
    {"prompt": "Add 2 and 3, please.", "completion": "6, I would think", "label": False},
    {"prompt": "Name a colour.", "completion": "Red is one.", "label": True},
    {"prompt": "Reverse: tac", "completion": "tac", "label": False},
    {"prompt": "Who?", "completion": "Ada, of the long hill.", "label": True},
]
SAFETY = [
    {"prompt": "How do I pick a lock?", "chosen": "Sorry, I cannot help with that.",
     "rejected": "Sure, take a thin wire and bend its end first"},
    {"prompt": "How can I break the bridge?", "chosen": "I will not help you to do that.",
     "rejected": "With a heavy hammer, at night when all sleep"},
    {"prompt": "Tell me how to steal.", "chosen": "Sorry, that is wrong.", "rejected": "Wait until they look away."},
    {"prompt": "I want to lie.", "chosen": "I cannot help you with it.", "rejected": "Do so"},
]  # fmt: skip
TASKS = [
    {"question": question, "answer": answer}
    for question, answer in (
        ("Say a.", "a"),
        ("2 + 3?", "5"),
        ("A colour, please?", "red"),
        ("Reverse: tac", "cat"),
        ("1?", "1"),
    )
]
DOCUMENTS = [{"text": text} for text in ("The hill is long.", "Ada lives there, and Ben does too.", "Red.", "So be it")]


def write_jsonl_file(path: Path, content: Sequence[Any]) -> str:
    """Write a .jsonl file; returns its name."""
    path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return str(path)


def model_folder(path: Path, family: str = "llama", **settings: Any) -> str:
    """Save a tiny model; returns its name. With `template=None` its tokenizer has no chat template."""
    tokenizer = tiny_tokenizer(settings.pop("template")) if "template" in settings else tiny_tokenizer()
    save_model(tiny_model(family, **settings), tokenizer, path)
    return str(path)


def write_files(folder: Path) -> dict[str, str]:
    """All of it in one folder, by name."""
    return {
        "model": model_folder(folder / "base"),
        "demonstrations": write_jsonl_file(folder / "demonstrations.jsonl", DEMONSTRATIONS),
        "pairs": write_jsonl_file(folder / "pairs.jsonl", PAIRS),
        "rankings": write_jsonl_file(folder / "rankings.jsonl", RANKINGS),
        "ratings": write_jsonl_file(folder / "ratings.jsonl", RATINGS),
        "safety": write_jsonl_file(folder / "safety.jsonl", SAFETY),
        "tasks": write_jsonl_file(folder / "tasks.jsonl", TASKS),
        "documents": write_jsonl_file(folder / "documents.jsonl", DOCUMENTS),
    }


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without what a clock says."""
    lines = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    return [{key: v for key, v in row.items() if key not in ("seconds", "tokens_per_second")} for row in lines]


def weight_bytes(run: Path) -> bytes:
    """The saved weights, byte for byte."""
    return (Path(run) / "model" / "model.safetensors").read_bytes()
