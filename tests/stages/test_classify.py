"""Classifiers of three architectures: trained, resumed, saved, and compared; what the batch is never matters."""

import json
import random

import pytest
import torch
import transformers
from tiny import tiny_model, tiny_tokenizer
from tiny_files import read_metrics, weight_bytes, write_jsonl_file

from zhenlong.errors import UserError
from zhenlong.evaluate.heldout.classification import label_scores
from zhenlong.loop.checkpoint import list_checkpoints
from zhenlong.models import ModelShape, save_model
from zhenlong.models.classifier import architecture_of, init_classifier, load_classifier, train_classifier_tokenizer
from zhenlong.stages import classify as stage
from zhenlong.stages.classify import TokenizedText, classify, label_loss
from zhenlong.stages.compare_classifiers import compare_classifiers

FORMS = ("encoder", "decoder", "encoder_decoder")
SIZES = {"hidden_size": 16, "intermediate_size": 24, "layers": 2, "heads": 2, "vocab_size": 300, "max_length": 32}
QUICK = {"progress": False, "device": "cpu", "batch_size": 4, "steps": 2, "lr": 3e-3, "warmup_steps": 0, **SIZES}


def texts(n, seed=0):
    """Texts whose label is decided by one word."""
    rng = random.Random(seed)
    return [
        {
            "text": f"it was a {word} {rng.choice(('film', 'meal', 'walk'))} {'and long ' * rng.randint(0, 3)}",
            "label": said,
        }
        for word, said in (rng.choice((("fine", "good"), ("dull", "bad"))) for _ in range(n))
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_jsonl_file(tmp_path_factory.mktemp("labelled") / "train.jsonl", texts(60))


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    return write_jsonl_file(tmp_path_factory.mktemp("labelled") / "held.jsonl", texts(30, seed=1))


def fresh(form, head="auto"):
    words = train_classifier_tokenizer([row["text"] for row in texts(20)] + ["good", "bad"], 300, 32)
    return init_classifier(form, ModelShape(16, 2, 2, 2, 24, 32), words, ["bad", "good"], head)


@pytest.mark.parametrize(("form", "head"), [*((form, "auto") for form in FORMS), ("encoder_decoder", "classes")])
def test_scores_do_not_depend_on_what_shares_the_batch(form, head):
    one = fresh(form, head)
    ids = one.tokenizer([row["text"] for row in texts(6)])["input_ids"]
    assert len(set(map(len, ids))) > 1
    with torch.no_grad():
        together = label_scores(one, ids)
        alone = torch.cat([label_scores(one, [each]) for each in ids])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("form", ["encoder", "decoder"])
def test_scores_of_a_head_are_the_librarys(form):
    one = fresh(form)
    ids = one.tokenizer(["a fine film"])["input_ids"]
    with torch.no_grad():
        assert torch.allclose(label_scores(one, ids), one.model(torch.tensor(ids)).logits, atol=1e-5)


def test_scores_of_words_are_the_librarys_likelihood_of_saying_them():
    one = fresh("encoder_decoder")
    ids = one.tokenizer(["a fine film"])["input_ids"]
    for number, word in enumerate(one.verbalizers):
        with torch.no_grad():
            loss = one.model(torch.tensor(ids), labels=torch.tensor([word])).loss
            assert label_scores(one, ids)[0, number].item() == pytest.approx(-loss.item() * len(word), abs=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_how_a_step_is_cut_never_changes_its_gradient(form):
    one = fresh(form)
    step = [
        TokenizedText(ids, i % 2) for i, ids in enumerate(one.tokenizer([row["text"] for row in texts(6)])["input_ids"])
    ]
    found = []
    for groups in ([[0, 1, 2, 3, 4, 5]], [[0], [1, 2], [3, 4, 5]]):
        one.model.zero_grad()
        for group in groups:
            (label_loss(one, step, group).total / len(step)).backward()
        found.append(torch.cat([p.grad.flatten() for p in one.model.parameters() if p.grad is not None]))
    assert torch.allclose(*found, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_it_learns_and_what_is_saved_says_the_same(form, data, held, tmp_path):
    steps = {"steps": 80, "batch_size": 16, "lr": 1e-2}
    run = classify(data=data, heldout=held, output=str(tmp_path / "run"), architecture=form, **{**QUICK, **steps})
    results = json.loads((run / "finished.json").read_text())["results"]
    assert results["labels"] == ["bad", "good"]
    assert results["after"]["accuracy"]["mean"] > max(0.9, results["before"]["accuracy"]["mean"])
    assert results["after"]["accuracy"]["n"] == 30
    assert json.loads((run / "ledger.json").read_text())["flops"] > 0
    found = compare_classifiers(models={"it": str(run)}, data=held, output=str(tmp_path / "e"))
    assert found["it"]["accuracy"] == results["after"]["accuracy"]


@pytest.mark.parametrize("form", FORMS)
def test_killed_and_resumed_it_ends_with_the_same_bits(form, data, tmp_path, monkeypatch):
    longer = {**QUICK, "steps": 6, "batch_size": 25, "save_every": 2, "architecture": form}  # an epoch ends inside
    whole = classify(data=data, output=str(tmp_path / "whole"), **longer)
    update, calls = stage.classifier_step, []

    def killed(*given):
        calls.append(None)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return update(*given)

    monkeypatch.setattr(stage, "classifier_step", killed)
    with pytest.raises(KeyboardInterrupt):
        classify(data=data, output=str(tmp_path / "run"), **longer)
    assert [step for step, _ in list_checkpoints(tmp_path / "run" / "checkpoints")] == [2]
    monkeypatch.setattr(stage, "classifier_step", update)
    resumed = classify(data=data, output=str(tmp_path / "run"), resume=True, **longer)
    assert weight_bytes(resumed) == weight_bytes(whole)
    assert read_metrics(resumed) == read_metrics(whole)


def test_a_language_model_gets_a_head_and_adapters_leave_its_weights_alone(data, held, tmp_path):
    base = tiny_model("qwen2")
    save_model(base, tiny_tokenizer(), tmp_path / "base")
    quick = {key: value for key, value in QUICK.items() if key not in SIZES} | {"max_length": 64}
    run = classify(
        data=data, heldout=held, model=str(tmp_path / "base"), output=str(tmp_path / "r"), lora_rank=2, **quick
    )
    found = load_classifier(str(run))
    assert (found.architecture, found.head, found.labels) == ("decoder", "classes", ("bad", "good"))
    assert torch.equal(found.model.model.embed_tokens.weight, base.model.embed_tokens.weight)
    assert not torch.equal(found.model.model.layers[0].mlp.up_proj.weight, base.model.layers[0].mlp.up_proj.weight)
    assert (run / "model" / "adapter" / "adapter_model.safetensors").exists()


def test_an_encoder_decoder_is_fine_tuned_to_say_the_label_with_adapters(data, tmp_path):
    one = fresh("encoder_decoder")
    del one.model.config.classifier_labels
    save_model(one.model, one.tokenizer, tmp_path / "t5")
    quick = {key: value for key, value in QUICK.items() if key not in SIZES} | {"max_length": 32}
    run = classify(data=data, model=str(tmp_path / "t5"), output=str(tmp_path / "run"), lora_rank=2, **quick)
    assert load_classifier(str(run)).head == "words"


@pytest.mark.parametrize(
    ("config", "form"),
    [("BertConfig", "encoder"), ("ModernBertConfig", "encoder"), ("LlamaConfig", "decoder"), ("GPT2Config", "decoder"),
     ("T5Config", "encoder_decoder"), ("BartConfig", "encoder_decoder")],
)  # fmt: skip
def test_the_architecture_is_told_by_the_configuration(config, form):
    assert architecture_of(getattr(transformers, config)()) == form


def test_a_masked_language_model_that_looks_back_only_is_a_decoder():
    assert architecture_of(transformers.BertConfig(is_decoder=True)) == "decoder"


def test_the_comparison_is_paired(data, held, tmp_path):
    names = {}
    for form, steps in (("encoder", 1), ("decoder", 60)):
        given = {**QUICK, "architecture": form, "steps": steps, "batch_size": 16, "lr": 1e-2}
        names[form] = str(classify(data=data, output=str(tmp_path / form), **given))
    found = compare_classifiers(models=names, data=held, output=str(tmp_path / "e"), baseline="encoder")
    (pair,) = json.loads((tmp_path / "e" / "classifiers.json").read_text())["differences"]
    difference = found["decoder"]["accuracy"]["mean"] - found["encoder"]["accuracy"]["mean"]
    assert pair["difference"]["mean"] == pytest.approx(difference)
    assert (pair["only_model"] - pair["only_baseline"]) / 30 == pytest.approx(difference)
    assert pair["p_holm"] == pair["p"]
    assert (tmp_path / "e" / "classifiers.md").read_text().count("\n|") == 3
    lines = [json.loads(line) for line in (tmp_path / "e" / "decoder.jsonl").read_text().splitlines()]
    assert sum(row["predicted"] == row["label"] for row in lines) / 30 == pytest.approx(
        found["decoder"]["accuracy"]["mean"]
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": "good=1"}, "labels: .* has bad; expected good"),
        ({"labels": "good=,bad=x,good=y"}, "labels: expected names such as"),
        ({"head": "words"}, "head: words needs an encoder-decoder, got encoder"),
        ({"lora_rank": 2}, "lora_rank: a new model has no weights worth freezing"),
        ({"evaluate_every": 2}, "evaluate_every: expected 0, for a classifier answers nothing"),
        ({"overlong": "error", "max_length": 8}, "tokens, more than the maximum length of 8"),
        ({"model": "pocket", "head": "words"}, "head: words needs an encoder-decoder"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(changes, said, data, tmp_path):
    with pytest.raises(UserError, match=said):
        classify(data=data, output=str(tmp_path / "run"), **{**QUICK, **changes})
    assert not (tmp_path / "run").exists()


def test_labels_that_cannot_be_learned_are_refused(data, tmp_path):
    one = write_jsonl_file(tmp_path / "one.jsonl", [row for row in texts(20) if row["label"] == "bad"])
    with pytest.raises(UserError, match="expected two labels or more, got only bad"):
        classify(data=one, output=str(tmp_path / "run"), **QUICK)
    other = write_jsonl_file(tmp_path / "other.jsonl", [{"text": "so so", "label": "mixed"}])
    with pytest.raises(UserError, match="heldout: the labels mixed are not in the data"):
        classify(data=data, heldout=other, output=str(tmp_path / "run"), **QUICK)


def test_a_trained_classifier_goes_on_with_its_own_labels_only(data, tmp_path):
    run = classify(data=data, output=str(tmp_path / "run"), **QUICK)
    quick = {key: value for key, value in QUICK.items() if key not in SIZES}
    again = classify(data=data, model=str(run), output=str(tmp_path / "again"), max_length=32, **quick)
    assert load_classifier(str(again)).labels == ("bad", "good")
    with pytest.raises(UserError, match="was trained on the labels bad, good, but the data has minus, plus"):
        classify(
            data=data, model=str(run), output=str(tmp_path / "x"), labels="bad=minus,good=plus", max_length=32, **quick
        )
    with pytest.raises(UserError, match="is not a classifier"):
        load_classifier("pocket")
