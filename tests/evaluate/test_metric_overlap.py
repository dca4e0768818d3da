"""Overlap, copying, set, ranking, classification and language-modelling metrics, against libraries and by hand."""

import math
import random

import numpy as np
import pytest
from nltk.metrics.distance import edit_distance as nltk_edit_distance
from nltk.translate.bleu_score import sentence_bleu
from sklearn.metrics import f1_score

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.classification import classification
from zhenlong.evaluate.metrics.language_modelling import bits_per_byte, perplexity_metric
from zhenlong.evaluate.metrics.ranking import ndcg, recall, reciprocal_rank
from zhenlong.evaluate.metrics.registry import get_metric
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.results.outcome import ChoiceScores, Outcome, ScoredOutcome
from zhenlong.evaluate.statistics.win_rate import mean_win_rate
from zhenlong.inference.requests import GeneratedOutput
from zhenlong.verify import copying, overlap

WORDS = ["the", "a", "cat", "dog", "sat", "on", "mat,", "3.5", "end.", "it's", "U.S.", "&amp;", "no-one"]


def said(text, *right, more=(), instance_input="q"):
    references = tuple(Reference(one) for one in right)
    return Outcome(Instance("x", instance_input, references), tuple(GeneratedOutput(one) for one in (text, *more)))


def measured(name, outcome, **options):
    return get_metric(name).bind(options)(outcome)


def test_words_are_treebank_tokens_of_each_sentence():
    assert overlap.word_tokens("Mr. Ito can't go. He said (no.) Then left.") == [
        *("Mr.", "Ito", "ca", "n't", "go", "."),
        *("He", "said", "(", "no", ".", ")", "Then", "left", "."),
    ]
    assert "nurse" in overlap.word_tokens("she is a nurse. he is a doctor.")


def test_f1_counts_words_once_or_with_repetition():
    assert measured("f1", said("The cat", "a cat!")) == {"f1": 1.0}
    outcome = said("cat cat cat dog", "cat dog", "bird")
    assert measured("f1", outcome)["f1"] == 1.0  # HELM: sets of words, the best reference
    assert measured("f1", outcome, repeated=True)["f1"] == pytest.approx(2 * (2 / 4) / (2 / 4 + 1))  # SQuAD
    assert measured("f1", said("", "the"))["f1"] == 0.0


def test_rouge_stems_and_counts_bigrams():
    outcome = said("the cats were running home", "the cat runs home")
    assert measured("rouge_1", outcome)["rouge_1"] == pytest.approx(2 * 4 / 9)
    assert measured("rouge_2", outcome)["rouge_2"] == pytest.approx(2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3))
    assert measured("rouge_l", outcome)["rouge_l"] == pytest.approx(2 * 4 / 9)


def test_bleu_is_nltks_and_0_without_overlap():
    right, text = "the cat sat on the mat", "the cat sat on a mat"
    assert overlap.bleu(text, right, 1) == pytest.approx(
        sentence_bleu([right.split()], text.split(), weights=(1, 0, 0, 0))
    )
    assert overlap.bleu(text, right, 4) == pytest.approx(1 / 3)
    assert overlap.bleu("dog", right, 1) == overlap.bleu("", right, 1) == overlap.bleu("the cat", right, 4) == 0.0


@pytest.mark.peers("sacrebleu")  # which comes with lm_eval
def test_self_bleu_is_sacrebleus():
    from sacrebleu.metrics import BLEU

    sacrebleu = BLEU(effective_order=True)
    draw = random.Random(0)
    for _ in range(60):
        texts = [" ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 9))) for _ in range(3)]
        scores = [sacrebleu.sentence_score(texts[i], texts[:i] + texts[i + 1 :]).score for i in range(3)]
        assert overlap.self_bleu(texts) == pytest.approx(sum(scores) / 3)


def test_self_bleu_and_entropy_of_several_answers():
    assert measured("self_bleu", said("one two three", more=["one two three"]))["self_bleu"] == pytest.approx(100)
    assert measured("self_bleu", said("one two three", more=[" "])) == {"self_bleu": 0.0}
    outputs = (
        GeneratedOutput("a", -1.0, 2),
        GeneratedOutput("b", -2.0, 3),
        GeneratedOutput("", 0.0, 0),
        GeneratedOutput("c"),
    )
    assert measured("monte_carlo_entropy", Outcome(Instance("x", "q"), outputs)) == {"monte_carlo_entropy": 1.5}
    assert measured("monte_carlo_entropy", said("a")) == {}


@pytest.mark.parametrize(
    ("text", "exact", "iou", "f1"),
    [
        ("Carol is kind and round.", 1, 1, 1),
        ("Carol is round and kind.\nMore is less.", 1, 1, 1),
        ("Carol is kind.", 0, 1 / 2, 2 / 3),
        ("Carol is kind and round and red.", 0, 2 / 3, 4 / 5),
        ("Nothing.", 0, 0, 0),
    ],
)
def test_named_sets(text, exact, iou, f1):
    outcome = said(text, "Carol is kind and round.")
    assert measured("exact_set_match", outcome)["exact_set_match"] == exact
    assert measured("iou_set_match", outcome)["iou_set_match"] == pytest.approx(iou)
    assert measured("f1_set_match", outcome)["f1_set_match"] == pytest.approx(f1)
    assert overlap.iou_set_match("Nothing.", "Nothing.") == 1.0


def test_edit_distance_is_levenshteins():
    draw = random.Random(1)
    for _ in range(300):
        a, b = ([draw.choice("abc") for _ in range(draw.randint(0, 11))] for _ in range(2))
        assert copying.edit_distance(a, b) == nltk_edit_distance(a, b)
    long = [str(n) for n in range(3000)]
    assert copying.edit_distance(long, [*long[1:], "x"]) == 2


def test_copying_is_measured_against_the_same_length_of_the_continuation():
    book = "once upon a time there was a king who slept all day"
    outcome = said(" there was a queen", book, more=["a goat"], instance_input="once upon a time ")
    assert measured("longest_common_prefix", outcome) == {"longest_common_prefix": 3}
    assert measured("longest_common_prefix", outcome, per_prompt_token=True) == {"longest_common_prefix": 3 / 4}
    assert measured("edit_similarity", outcome)["edit_similarity"] == pytest.approx(1 - 1 / 4)
    assert measured("edit_distance", outcome) == {"edit_distance": 1}
    copied = said("there\n\n was  a", "there was a king", instance_input="p")
    assert measured("edit_similarity", copied, single_spaced=True) == {"edit_similarity": 1.0}
    silent = said("", book, instance_input="once ")
    assert measured("edit_distance", silent) == {}
    assert measured("longest_common_prefix", silent)["longest_common_prefix"] == 0
    with pytest.raises(UserError, match="expected one reference"):
        measured("edit_distance", said("a", "b", "c"))


def test_extractive_fragments_by_hand():
    source = "Ann saw two red boats. Bob left."  # 9 tokens
    found = measured(
        "extractive_fragments", Outcome(Instance("x", source), (GeneratedOutput("saw two red cars Bob left"),))
    )
    assert found == pytest.approx({"coverage": 5 / 6, "density": (3**2 + 2**2) / 6, "compression": 9 / 6})
    assert measured("extractive_fragments", said(" ")) == {}


def ranked(scores, relevances, ranks=None):
    tags = [
        (f"relevance={gain}", *((f"rank={ranks[place]}",) if ranks else ())) for place, gain in enumerate(relevances)
    ]
    references = tuple(Reference("p", gain > 0, one) for gain, one in zip(relevances, tags, strict=True))
    return Outcome(Instance("x", "q", references), choices=ChoiceScores(tuple(scores)))


def test_ranking_measures_by_hand():
    outcome = ranked([-1, -2, -3, -4], [0, 2, 0, 1])
    assert reciprocal_rank(outcome) == {"rr@10": 1 / 2}
    assert reciprocal_rank(outcome, k=1) == {"rr@1": 0.0}
    gain = 2 / math.log2(3) + 1 / math.log2(5)
    assert ndcg(outcome)["ndcg@10"] == pytest.approx(gain / (2 + 1 / math.log2(3)))
    assert ndcg(outcome, k=2)["ndcg@2"] == pytest.approx(2 / math.log2(3) / (2 + 1 / math.log2(3)))
    assert recall(outcome, k=2) == {"recall@2": 0.5}
    shallow = ranked([-1, -2, -3], [0, 1, 1], ranks=[40, 1, 2])
    assert reciprocal_rank(shallow) == {"rr@10": 0.5}
    assert reciprocal_rank(shallow, depth=30) == {"rr@10": 1.0}


def test_classification_is_scikit_learns():
    draw = np.random.default_rng(0)
    truth, given = draw.choice(["a", "b", "c"], 80), draw.choice(["a", "b", "c"], 80)
    scored = [ScoredOutcome(said(f" {g.upper()}.", t), {}) for t, g in zip(truth, given, strict=True)]
    found = classification(scored)
    assert found["macro_f1"].mean == pytest.approx(f1_score(truth, given, average="macro"))
    assert found["micro_f1"].mean == pytest.approx(f1_score(truth, given, average="micro"))
    assert found["macro_f1"].ci95[0] < found["macro_f1"].mean < found["macro_f1"].ci95[1]


def test_classification_misses_and_several_labels():
    nothing = [ScoredOutcome(said("neither", "yes"), {}), ScoredOutcome(said("no", "no"), {})]
    assert classification(nothing, labels=["yes", "no"])["micro_f1"].mean == pytest.approx(2 / 3)
    several = [ScoredOutcome(said("red, round", "red, kind"), {})]
    assert classification(several, separator=", ")["micro_f1"].mean == pytest.approx(2 / 3)  # round is no class
    chosen = Outcome(Instance("x", "q", (Reference("yes"), Reference("no", False))), predicted=0)
    assert classification([ScoredOutcome(chosen, {})])["macro_f1"].mean == 1.0


def test_language_modelling_is_over_totals():
    texts = [("abcd", -4.0, 2), ("é", -2.0, 1)]
    scored = [
        ScoredOutcome(Outcome(Instance(str(n), text), text_log_prob=log, text_tokens=tokens), {})
        for n, (text, log, tokens) in enumerate(texts)
    ]
    assert bits_per_byte(scored)["bits_per_byte"].mean == pytest.approx(6 / 6 / math.log(2))  # é is two bytes
    assert perplexity_metric(scored)["perplexity"].mean == pytest.approx(math.exp(6 / 3))
    assert bits_per_byte([ScoredOutcome(said("a"), {})]) == {}


def test_mean_win_rate_by_hand():
    columns = {
        "accuracy": ({"a": 0.9, "b": 0.5, "c": 0.5}, True),
        "error": ({"a": 0.2, "b": 0.1}, False),
        "length": ({"a": 1.0, "b": 2.0}, None),
        "alone": ({"a": 1.0}, True),
        "unknown": ({"a": math.nan, "b": 1.0}, True),
    }
    assert mean_win_rate(columns) == pytest.approx({"a": (1 + 0) / 2, "b": (0.25 + 1) / 2, "c": 0.25})
