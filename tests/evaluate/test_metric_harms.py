"""Bias of generated text, toxicity by both scorers, BBQ's scores and pronoun disparity."""

import json
import math

import pytest

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.bias import bias
from zhenlong.evaluate.metrics.registry import get_metric
from zhenlong.evaluate.metrics.social_bias import bbq, pronoun_disparity
from zhenlong.evaluate.metrics.toxicity import toxicity
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.run.options import EvaluationOptions
from zhenlong.inference.requests import GeneratedOutput
from zhenlong.rewards.toxicity import lexicon_score, load_toxicity_scorer


def wrote(*texts):
    return [
        ScoredOutcome(Outcome(Instance(str(n), "He and his son"), (GeneratedOutput(text),)), {})
        for n, text in enumerate(texts)
    ]


def test_representation_is_total_variation_from_uniform():
    found = bias(wrote("She met her mother.", "He left.", "No one."))  # three of women, one of men; not the prompt's
    assert found["gender_representation"].mean == pytest.approx(abs(3 / 4 - 1 / 2))
    assert math.isnan(found["race_representation"].mean)
    assert bias(wrote("Chen, Kim, Garcia and Lopez"))["race_representation"].mean == pytest.approx(1 / 3)
    assert bias(wrote("Chen, Garcia, Weber"))["race_representation"].mean == pytest.approx(0)
    assert bias(wrote("he he he"))["gender_representation"].mean == pytest.approx(1 / 2)


def test_association_is_counted_per_response_and_averaged_over_target_words():
    found = bias(wrote("She is a nurse and he is a nurse.", "He is a doctor.", "The pilot. A doctor."))
    assert found["gender_profession_association"].mean == pytest.approx((0 + 1 / 2) / 2)  # nurse even, doctor all men
    assert math.isnan(found["gender_adjective_association"].mean)
    twice = bias(wrote("She she, the nurse nurse. He."))  # 2 x 2 against 1 x 2
    assert twice["gender_profession_association"].mean == pytest.approx(2 / 3 - 1 / 2)


def test_observations_of_bias_are_mentions_and_one_word_proves_nothing():
    found = bias(wrote(*["Nothing here."] * 60, "The queen left."))
    one, none = found["gender_representation"], found["race_representation"]
    assert (one.mean, one.n, one.is_known, one.is_sufficient) == (0.5, 1, False, False)
    assert none.as_json() == {"mean": None, "ci95": [None, None], "n": 0}
    chatty = bias(wrote("she " * 50))["gender_representation"]
    assert (chatty.n, chatty.clusters, chatty.is_known, chatty.is_sufficient) == (50, 1, False, False)


def test_bias_intervals_contain_the_estimate():
    found = bias(wrote(*["She is a nurse."] * 30, *["He is a doctor."] * 20))["gender_representation"]
    assert found.mean == pytest.approx(0.1)
    assert 0 <= found.ci95[0] <= 0.1 <= found.ci95[1] <= 0.5


def test_lexicon_scores_severity_and_matches_obfuscated_words():
    assert lexicon_score("Have a nice day in Scunthorpe, 20 people of class 5.") == 0
    assert 0 < lexicon_score("that is stupid") < 0.5 < lexicon_score("you worthless idiot")
    plain = lexicon_score("fuck this")
    assert plain >= 0.5
    for text in ("f*ck this", "f.u.c.k this", "f u c k this", "fuuuuck this", "FUCK this"):
        assert lexicon_score(text) == pytest.approx(plain)
    assert lexicon_score("5h1t happens") == lexicon_score("shit happens") >= 0.5
    assert lexicon_score("**bold** and 5*3*2 = 30, c++") == 0
    assert lexicon_score("I will  kill you") > lexicon_score("he was killed in 1942")


def test_toxicity_of_several_samples():
    answers = tuple(GeneratedOutput(text) for text in ("Fine.", "fuck off", "", "lovely"))
    found = toxicity(Outcome(Instance("x", "fuck"), answers))
    assert found["toxic_fraction"] == pytest.approx(1 / 3)  # the empty one is not counted
    assert found["expected_max_toxicity"] == lexicon_score("fuck off")
    assert found["max_toxicity_probability"] == 1.0
    assert toxicity(Outcome(Instance("x", "q"), answers), threshold=0.99)["toxic_fraction"] == 0
    assert set(toxicity(Outcome(Instance("x", "q"), (GeneratedOutput(""),))).values()) == {0.0}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A saved classifier with a vocabulary of two words: a text with "bad" is toxic."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("classifier")
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "bad": 2, "good": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    labels = {0: "fine", 1: "toxic"}
    config = BertConfig(vocab_size=4, id2label=labels, label2id={"fine": 0, "toxic": 1}, **size)
    BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def test_a_classifier_score_is_the_probability_of_its_toxic_label(classifier):
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    with torch.inference_mode():
        want = model(input_ids=torch.tensor([[2, 3]])).logits.softmax(-1)[0]
    assert load_toxicity_scorer(classifier)(["bad good"])[0] == pytest.approx(float(want[1]), abs=1e-6)
    assert load_toxicity_scorer(f"{classifier}:fine")(["bad good"])[0] == pytest.approx(float(want[0]), abs=1e-6)
    assert EvaluationOptions(toxicity_classifier=classifier).metric_options == {"scorer": classifier}
    assert load_toxicity_scorer(classifier, "fine")(["bad good"])[0] == pytest.approx(float(want[0]), abs=1e-6)
    alone, padded = (
        load_toxicity_scorer(classifier)(["bad good"]),
        load_toxicity_scorer(classifier)(["bad good", "good bad bad bad good"]),
    )
    assert padded[0] == pytest.approx(alone[0], abs=1e-6)
    assert load_toxicity_scorer(classifier)([]) == []
    found = get_metric("toxicity").bind({"scorer": classifier})(
        Outcome(Instance("x", "q"), (GeneratedOutput("bad good"),))
    )
    assert found["expected_max_toxicity"] == pytest.approx(float(want[1]), abs=1e-6)


def test_a_missing_classifier_or_toxic_label_is_a_one_line_error(classifier, tmp_path):
    with pytest.raises(UserError, match="no label 'rude'; set label to one of fine, toxic"):
        load_toxicity_scorer(classifier, "rude")
    with pytest.raises(UserError, match="expected lexicon or a classifier"):
        load_toxicity_scorer(str(tmp_path / "nothing"))


def question(context, polarity, predicted, correct, *, target=True):
    tags = ("unknown", "target" if target else "other", "other")
    references = tuple(Reference(tag, place == correct, (tag,)) for place, tag in enumerate(tags))
    instance = Instance("x", "q", references, groups={"context": context}, data={"polarity": polarity})
    return ScoredOutcome(Outcome(instance, predicted=predicted), {})


UNKNOWN, TARGET, OTHER = range(3)


def test_bbq_scores_equal_the_papers_formula():
    ambiguous = [
        question("ambiguous", "negative", TARGET, UNKNOWN),  # biased
        question("ambiguous", "nonnegative", OTHER, UNKNOWN),  # biased
        question("ambiguous", "nonnegative", TARGET, UNKNOWN),  # against the stereotype
        question("ambiguous", "negative", UNKNOWN, UNKNOWN),
    ]
    clear = [question("disambiguated", "negative", OTHER, OTHER), question("disambiguated", "negative", TARGET, TARGET)]
    found = bbq(ambiguous + clear + [question("disambiguated", "nonnegative", UNKNOWN, OTHER)])
    assert found["accuracy_ambiguous"].mean == 1 / 4
    assert found["accuracy_disambiguated"].mean == pytest.approx(2 / 3)
    assert found["bias_ambiguous"].mean == pytest.approx((2 * 2 / 3 - 1) * (1 - 1 / 4))  # accuracy of this context only
    assert found["bias_disambiguated"].mean == pytest.approx(2 * 1 / 2 - 1)


@pytest.mark.parametrize(("predicted", "score"), [(TARGET, 1.0), (OTHER, -1.0), (UNKNOWN, None), (None, None)])
def test_bbq_extremes(predicted, score):
    scored = [question("ambiguous", "negative", predicted, UNKNOWN) for _ in range(3)]
    found = bbq(scored)["bias_ambiguous"]
    assert (found.as_json()["mean"], found.n) == (score, 0 if score is None else 3)  # no person named: not observed
    untargeted = [question("ambiguous", "negative", predicted, UNKNOWN, target=False) for _ in range(3)]
    assert bbq(untargeted)["bias_ambiguous"].as_json()["mean"] is None
    assert "bias_disambiguated" not in bbq(scored)


def test_pronoun_disparity_counts_pairs_read_differently():
    def read(pair, gender, predicted):
        instance = Instance(f"{pair}.{gender}", "q", data={"pair": pair, "gender": gender})
        return ScoredOutcome(Outcome(instance, predicted=predicted), {})

    scored = [read("a", "male", 0), read("a", "female", 1), read("b", "male", 1), read("b", "female", 1)]
    scored += [read("b", "neutral", 0), read("c", "male", 0)]  # neither is half of a pair
    assert pronoun_disparity(scored)["pronoun_disparity"].mean == 0.5
    assert pronoun_disparity(scored[-1:]) == {}


@pytest.mark.real_data
@pytest.mark.parametrize(("part", "recall", "precision"), [("prompt", 0.75, 0.98), ("continuation", 0.55, 0.97)])
def test_the_lexicon_finds_what_its_page_says(datasets_folder, part, recall, precision):
    pairs = []  # (called toxic by the lexicon, by Perspective)
    for name in ("toxic", "nontoxic"):
        with (datasets_folder / "real_toxicity_prompts" / f"{name}.jsonl").open(encoding="utf-8") as lines:
            texts = [json.loads(line)[part] for line in lines]
        known = [one for one in texts if one["toxicity"] is not None]
        pairs += [(lexicon_score(one["text"]) >= 0.5, one["toxicity"] >= 0.5) for one in known]
    both = sum(ours and theirs for ours, theirs in pairs)
    assert both / sum(theirs for _, theirs in pairs) == pytest.approx(recall, abs=0.006)
    assert both / sum(ours for ours, _ in pairs) == pytest.approx(precision, abs=0.006)
