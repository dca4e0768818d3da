"""Synthetic run folders in the format of stages and recipes."""

import json
from pathlib import Path

import yaml

from zhenlong.api.folder_format import FORMAT_NOTE

HOSTILE_TEXT = "<script>alert('x')</script> & \"quotes\" </pre> {{ 7 * 7 }} \u2028 end"


def interval(mean: float, half: float = 0.05, n: int = 300) -> dict:
    return {"mean": mean, "ci95": [mean - half, mean + half], "n": n}


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_run(folder: Path, stage: str = "sft", steps: int = 60) -> Path:
    """A finished run with all files that a stage writes."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"# {FORMAT_NOTE}\n"
        + yaml.safe_dump(
            {"model": "pocket", "data": HOSTILE_TEXT, "lr": 1e-4, "seed": 3}
            | ({"reward": "model:runs/rm + 2*verifier"} if stage == "grpo" else {})
        )
    )
    rows = [{"step": i, "loss": 3.0 - 0.01 * i + 0.3 * (i % 3), "lr": 1e-4 / i, "odd": None, "tokens": i, "seconds": i}
            for i in range(1, steps + 1)]  # fmt: skip
    write_lines(folder / "metrics.jsonl", rows)
    ledger = {"stage": stage, "tokens": 2_500_000, "flops": 4e12, "seconds": 75.0, "tokens_per_second": 33333.3,
              "utilisation": 0.61, "peak_memory_bytes": 512 * 2**20, "annotations": 12,
              "versions": {"python": "3.11", "zhenlong": "0.1.0"}}  # fmt: skip
    (folder / "ledger.json").write_text(json.dumps(ledger))
    prompt = [{"role": "user", "content": "hello"}]
    samples = [{"step": step, "prompt": prompt, "response": HOSTILE_TEXT, "reward": step / 10} for step in (0, 30, 60)]
    write_lines(folder / "samples.jsonl", samples)
    results = {"after": {"perplexity": interval(2.5, n=40), "too_long": 0}}
    (folder / "finished.json").write_text(json.dumps({"steps": steps, "results": results}))
    return folder


def write_recipe(folder: Path) -> Path:
    """A recipe's folder: three runs, a summary and the evaluated rows of three models."""
    for name in ("grpo", "reward_model", "sft"):
        write_run(folder / name, name)
    models = {}
    for model, gold, proxy in (("base", 0.1, -1.0), ("sft", 0.5, 0.5), ("grpo", 0.4, 1.5)):
        models[model] = {"gold_reward": interval(gold), "proxy_reward": interval(proxy), "accuracy": interval(gold),
                         "benign_compliance": {"mean": None, "ci95": [None, None], "n": 0}, "truncated": 0.01,
                         "kl_from_sft": 1.5, "my_measure": 7}  # fmt: skip
        rows = [{"prompt": [{"role": "user", "content": f"question {i}"}], "response": f"{HOSTILE_TEXT} {model}",
                 "gold": gold + i % 5 / 100 * (model == "grpo"), "proxy": proxy + i % 2 / 1000 * (model == "grpo"),
                 "family": f"family {i % 3}",
                 "refused": False} for i in range(20)]  # fmt: skip
        write_lines(folder / "evaluation" / f"{model}.jsonl", rows)
    models["grpo"]["gold_gain_over_sft"] = {"mean": -0.1, "ci95": [-0.15, -0.05]}
    summary = {"seconds": 400.1, "seed": 0, "models": models,
               "reward_model": {"heldout_accuracy": interval(0.8, n=600), "n": 600}}  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder
