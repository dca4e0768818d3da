"""Which classifier is better? Several on the same held-out texts: accuracy with intervals, and paired tests."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zhenlong.data import BadRow
from zhenlong.data.classification_rows import LabelledText, read_labelled_texts
from zhenlong.errors import UserError
from zhenlong.evaluate.heldout.classification import Predictions, classification_metrics, predict
from zhenlong.evaluate.statistics.significance import holm_correction, mcnemar, tango_interval
from zhenlong.loop.atomic import write_json, write_text
from zhenlong.models.classifier import Classifier, load_classifier
from zhenlong.report.summary_table import markdown_row


def compare_classifiers(
    *,
    models: Mapping[str, str],
    data: str,
    output: str,
    baseline: str = "",
    labels: str = "",
    max_length: int = 256,
    tokens_per_microbatch: int = 8192,
    skip_bad_rows: bool = False,
) -> dict[str, dict[str, Any]]:
    """Compare classifiers on held-out labelled texts.

    Args:
        models: Name and model of each, such as run folders of `classify`, in the order of the table.
        data: Held-out labelled texts, as `classify` reads them.
        output: Folder for classifiers.json, classifiers.md and <name>.jsonl, each text with what was said of it.
        baseline: The model that the others are compared with; empty takes the first.
        labels: Names of the labels in the data, as `0=negative,1=positive`; empty takes them as they are.
        max_length: Tokens of a text that are read; the rest of a longer one is cut off, as in training.
        tokens_per_microbatch: Tokens in one forward pass.
        skip_bad_rows: Leave bad rows out; classifiers.json says how many.

    Returns the measures of each. The difference of two accuracies has Tango's interval, and McNemar's test of it is
    exact; with several pairs the p-values are Holm's.
    """
    baseline_name = baseline or next(iter(models), "")
    if baseline_name not in models:
        raise UserError(f"baseline: expected one of {', '.join(models) or 'some models'}, got {baseline!r}")
    skipped: list[BadRow] = []
    rows, _ = read_labelled_texts(data, skip_bad_rows=skip_bad_rows, skipped=skipped)
    label_names = {
        old.strip(): new.strip()
        for old, _, new in (classifier.partition("=") for classifier in labels.split(","))
        if new
    }
    rows = [LabelledText(row.text, label_names.get(row.label, row.label)) for row in rows]
    predictions: dict[str, Predictions] = {}
    summary: dict[str, dict[str, Any]] = {}
    for name, model in models.items():
        one = load_classifier(model)
        _require_labels(name, one, rows)
        number = {label: place for place, label in enumerate(one.labels)}
        ids = [one.tokenizer(row.text, truncation=True, max_length=max_length)["input_ids"] for row in rows]
        begun = time.perf_counter()
        predictions[name] = predict(one, ids, [number[row.label] for row in rows], tokens_per_microbatch)
        summary[name] = classification_metrics(predictions[name], one.labels) | {
            "parameters": sum(parameter.numel() for parameter in one.model.parameters()),
            "texts_per_second": len(rows) / (time.perf_counter() - begun),
        }
        _write_rows(Path(output) / f"{name}.jsonl", one, rows, predictions[name])
    pairs = paired_differences(predictions, baseline_name)
    facts = {"data": data, "texts": len(rows), "skipped": len(skipped), "baseline": baseline_name}
    write_json(Path(output) / "classifiers.json", {**facts, "models": summary, "differences": pairs})
    write_text(Path(output) / "classifiers.md", comparison_table(summary, pairs, baseline_name, len(rows)))
    shown = ("accuracy", "f1_macro", "ece_10_bin", "nll", "parameters")
    return {name: {key: values[key] for key in shown} for name, values in summary.items()}


def paired_differences(found: Mapping[str, Predictions], baseline: str) -> list[dict[str, Any]]:
    """Each model's accuracy less the baseline's, paired by text: `only_model` and `only_baseline` count the texts that
    one alone has right."""
    before = found[baseline].correct
    pairs: list[dict[str, Any]] = []
    for name, predictions in found.items():
        if name == baseline:
            continue
        after = predictions.correct
        test = mcnemar(after, before)
        low, high = tango_interval(test.only_a, test.only_b, len(after))
        pairs.append(
            {
                "model": name,
                "difference": {"mean": float((after - before).mean()), "ci95": [low, high], "n": len(after)},
                "only_model": test.only_a,
                "only_baseline": test.only_b,
                "p": test.p,
                "mid_p": test.mid_p,
            }
        )
    for pair, corrected in zip(pairs, holm_correction([pair["p"] for pair in pairs]), strict=True):
        pair["p_holm"] = corrected
    return pairs


def comparison_table(
    summary: Mapping[str, Mapping[str, Any]], pairs: Sequence[Mapping[str, Any]], baseline: str, texts: int
) -> str:
    """The comparison as Markdown."""
    by_name = {pair["model"]: pair for pair in pairs}
    head = [
        "model",
        "parameters",
        "accuracy [95 %]",
        "macro F1",
        "ECE",
        "−log p",
        f"over {baseline} [95 %]",
        "p (Holm)",
    ]
    lines = [markdown_row(head), "|---|" + "---:|" * (len(head) - 1)]
    for name, one in summary.items():
        low, high = one["accuracy"]["ci95"]
        pair = by_name.get(name)
        over, p = "", ""
        if pair:
            ends = pair["difference"]["ci95"]
            over = f"{100 * pair['difference']['mean']:+.1f} [{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]"
            p = f"{pair['p_holm']:.3g}"
        accuracy = f"{100 * one['accuracy']['mean']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        cells = [name, f"{one['parameters']:,}", accuracy, f"{100 * one['f1_macro']:.1f}", f"{one['ece_10_bin']:.3f}"]
        lines.append(markdown_row([*cells, f"{one['nll']:.3f}", over, p]))
    note = (
        f"{texts} texts. In brackets Wilson's interval of a share and Tango's of a paired difference; McNemar's test."
    )
    return "\n".join([*lines, "", note]) + "\n"


def _require_labels(name: str, classifier: Classifier, rows: Sequence[LabelledText]) -> None:
    unknown = sorted({row.label for row in rows} - set(classifier.labels))
    if unknown:
        raise UserError(
            f"model {name}: it knows {', '.join(classifier.labels)}, and the data has {', '.join(unknown[:5])}; "
            "rename the data's with labels"
        )


def _write_rows(path: Path, classifier: Classifier, rows: Sequence[LabelledText], predictions: Predictions) -> None:
    lines = []
    for row, predicted, each in zip(rows, predictions.predicted, predictions.probabilities, strict=True):
        probabilities = {label: round(float(p), 6) for label, p in zip(classifier.labels, each, strict=True)}
        line = {
            "text": row.text,
            "label": row.label,
            "predicted": classifier.labels[int(predicted)],
            "probabilities": probabilities,
        }
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))
