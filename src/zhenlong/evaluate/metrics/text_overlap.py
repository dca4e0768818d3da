"""Overlap of a text with references, the true continuation, its source, or the model's other samples."""

from __future__ import annotations

from collections.abc import Callable

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.registry import Measure, instance_metric
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.verify import copying, overlap


@instance_metric("f1", Measure("f1"))
def f1(outcome: Outcome, *, repeated: bool = False) -> dict[str, float]:
    """Word F1 with the best-matching correct reference; HELM's rule, or SQuAD's with `repeated`."""
    return {"f1": _best_over_references(outcome, lambda said, right: overlap.token_f1(said, right, repeated=repeated))}


@instance_metric("rouge_1", Measure("rouge_1"))
def rouge_1(outcome: Outcome) -> dict[str, float]:
    """ROUGE-1 F-measure with the best-matching correct reference, stemmed."""
    return {"rouge_1": _best_over_references(outcome, lambda said, right: overlap.rouge(said, right, "1"))}


@instance_metric("rouge_2", Measure("rouge_2"))
def rouge_2(outcome: Outcome) -> dict[str, float]:
    """ROUGE-2 F-measure with the best-matching correct reference, stemmed."""
    return {"rouge_2": _best_over_references(outcome, lambda said, right: overlap.rouge(said, right, "2"))}


@instance_metric("rouge_l", Measure("rouge_l"))
def rouge_l(outcome: Outcome) -> dict[str, float]:
    """ROUGE-L F-measure with the best-matching correct reference, stemmed."""
    return {"rouge_l": _best_over_references(outcome, lambda said, right: overlap.rouge(said, right, "l"))}


@instance_metric("bleu_1", Measure("bleu_1"))
def bleu_1(outcome: Outcome) -> dict[str, float]:
    """Sentence BLEU-1 with the best-matching correct reference."""
    return {"bleu_1": _best_over_references(outcome, lambda said, right: overlap.bleu(said, right, 1))}


@instance_metric("bleu_4", Measure("bleu_4"))
def bleu_4(outcome: Outcome) -> dict[str, float]:
    """Sentence BLEU-4 with the best-matching correct reference."""
    return {"bleu_4": _best_over_references(outcome, lambda said, right: overlap.bleu(said, right, 4))}


@instance_metric("exact_set_match", Measure("exact_set_match"))
def exact_set_match_metric(outcome: Outcome) -> dict[str, float]:
    """1 if the response's first line names the same set as a correct reference ("x is a and b.")."""
    return {"exact_set_match": _best_over_references(outcome, overlap.exact_set_match)}


@instance_metric("iou_set_match", Measure("iou_set_match"))
def iou_set_match_metric(outcome: Outcome) -> dict[str, float]:
    """Intersection over union of the sets named by the response's first line and a correct reference."""
    return {"iou_set_match": _best_over_references(outcome, overlap.iou_set_match)}


@instance_metric("f1_set_match", Measure("f1_set_match"))
def f1_set_match_metric(outcome: Outcome) -> dict[str, float]:
    """F1 of the sets named by the response's first line and a correct reference."""
    return {"f1_set_match": _best_over_references(outcome, overlap.f1_set_match)}


@instance_metric("longest_common_prefix", Measure("longest_common_prefix", "accuracy", False))
def longest_common_prefix_metric(
    outcome: Outcome, *, single_spaced: bool = False, per_prompt_token: bool = False
) -> dict[str, float]:
    """Tokens copied from the start of the true continuation, maximum over samples; lower is better.

    `single_spaced` collapses white space; `per_prompt_token` divides by the prompt's length.
    """
    pairs = _continuations(outcome, single_spaced)
    longest = max((copying.longest_common_prefix(said, right) for said, right in pairs), default=0)
    scale = len(copying.treebank_tokens(outcome.instance.input)) if per_prompt_token else 1
    return {"longest_common_prefix": longest / max(scale, 1)}


@instance_metric("edit_distance", Measure("edit_distance", "accuracy", True))
def edit_distance_metric(
    outcome: Outcome, *, single_spaced: bool = False, per_prompt_token: bool = False
) -> dict[str, float]:
    """Token edit distance of the closest sample to the true continuation of its length; empty without output."""
    pairs = _continuations(outcome, single_spaced)
    if not pairs:
        return {}
    least = min(copying.edit_distance(said, right) for said, right in pairs)
    scale = len(copying.treebank_tokens(outcome.instance.input)) if per_prompt_token else 1
    return {"edit_distance": least / max(scale, 1)}


@instance_metric("edit_similarity", Measure("edit_similarity", "accuracy", False))
def edit_similarity_metric(outcome: Outcome, *, single_spaced: bool = False) -> dict[str, float]:
    """1 - edits / length for the sample closest to the true continuation: 1 is a copy, lower is better."""
    pairs = _continuations(outcome, single_spaced)
    return {"edit_similarity": max((copying.edit_similarity(said, right) for said, right in pairs), default=0.0)}


@instance_metric(
    "extractive_fragments", *(Measure(name, "accuracy", None) for name in ("coverage", "density", "compression"))
)
def extractive_fragments_metric(outcome: Outcome) -> dict[str, float]:
    """Coverage, density and compression of a summary of the instance's input; empty for an empty summary."""
    found = copying.extractive_fragments(outcome.instance.input, outcome.text.strip())
    return {} if found is None else vars(found)


@instance_metric("self_bleu", Measure("self_bleu", "accuracy", None))
def self_bleu_metric(outcome: Outcome) -> dict[str, float]:
    """Similarity of the samples of one prompt, 0 to 100; 0 with fewer than two non-empty samples."""
    return {"self_bleu": overlap.self_bleu([output.text for output in outcome.answers])}


@instance_metric("monte_carlo_entropy", Measure("monte_carlo_entropy", "accuracy", None))
def monte_carlo_entropy(outcome: Outcome) -> dict[str, float]:
    """Entropy in nats: the mean of -log p over samples (HELM, disinformation_metrics.py); empty without log p.

    p is the distribution that was sampled, after temperature and top-p, where it is known, as it is of a local model.
    Endpoints report their own log-probabilities, most of them at temperature 1; then the mean is a cross-entropy.
    """
    known = [
        output.log_prob if output.sampled_log_prob is None else output.sampled_log_prob
        for output in outcome.answers
        if output.num_tokens != 0
    ]
    values = [-log_prob for log_prob in known if log_prob is not None]
    return {"monte_carlo_entropy": sum(values) / len(values)} if values else {}


def _best_over_references(outcome: Outcome, score: Callable[[str, str], float]) -> float:
    said = outcome.answer_text.strip()
    if not outcome.instance.correct_texts:
        raise UserError(f"instance {outcome.instance.id}: has no correct reference to compare with")
    return max(score(said, right) for right in outcome.instance.correct_texts)


def _continuations(outcome: Outcome, single_spaced: bool) -> list[tuple[list[str], list[str]]]:
    """Each non-empty sample with as many characters of the true continuation, both as tokens.

    The reference is the continuation, or the whole text including the prompt.
    """
    if len(outcome.instance.references) != 1:
        count = len(outcome.instance.references)
        raise UserError(f"instance {outcome.instance.id}: expected one reference, the true continuation, got {count}")
    form = copying.collapse_spaces if single_spaced else str
    right = form(outcome.instance.references[0].text.removeprefix(outcome.instance.input))
    said = [form(output.text.strip()) for output in outcome.answers]
    return [(copying.treebank_tokens(one), copying.treebank_tokens(right[: len(one)])) for one in said if one]
