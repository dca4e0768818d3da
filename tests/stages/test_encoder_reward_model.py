"""A reward model on an encoder: prompt and response as a pair of texts, scored by the model's own head."""

import json

import pytest
import torch
import transformers
from tiny import SPECIAL, tiny_model, tiny_tokenizer
from tiny_files import QUICK, RANKINGS, read_metrics, weight_bytes, write_jsonl_file
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from zhenlong.data.pair_template import PairTemplate, reward_model_template
from zhenlong.errors import UserError
from zhenlong.models import load_model, save_model
from zhenlong.models.encoders import context_length, is_encoder
from zhenlong.records import Message, Task
from zhenlong.rewards import TaskResponse, build_reward_fn
from zhenlong.stages.reward_model import reward_model

SIZES = {"vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 48, "pad_token_id": 256, "hidden_dropout_prob": 0.0,
         "attention_probs_dropout_prob": 0.0}  # fmt: skip


def pair_tokenizer(double: bool = False):
    """Byte tokens that write `[CLS] a [SEP] b [SEP]`, or RoBERTa's form with a doubled mark between the two."""
    tokenizer = tiny_tokenizer(None)
    tokenizer.cls_token, tokenizer.sep_token = SPECIAL[1], SPECIAL[2]
    cls, sep = SPECIAL[1], SPECIAL[2]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} {sep} $B {sep}" if double else f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, 257), (sep, 258)],
    )
    return tokenizer


OWN = {
    "Bert": {"max_position_embeddings": 143},
    "Roberta": {"max_position_embeddings": 143 + 257, "type_vocab_size": 1},  # those up to the padding id are not used
}


@pytest.fixture(scope="module", params=["Bert", "Roberta"])
def encoder(request, tmp_path_factory) -> str:
    """The folder of a masked language model: it has no classification head yet."""
    config = getattr(transformers, f"{request.param}Config")(**SIZES, **OWN[request.param])
    torch.manual_seed(0)
    model = getattr(transformers, f"{request.param}ForMaskedLM")(config)
    folder = tmp_path_factory.mktemp("encoders") / request.param
    save_model(model, pair_tokenizer(request.param == "Roberta"), folder)
    return str(folder)


def train(encoder, files, output, **changes):
    settings = {**QUICK, "lr": 3e-3, "data": files["rankings"], **changes}
    return reward_model(model=encoder, output=str(output), **settings)


@pytest.mark.parametrize("double", [False, True])
def test_a_pair_is_written_as_the_tokenizer_joins_two_texts(double: bool) -> None:
    tokenizer = pair_tokenizer(double)
    template = reward_model_template(tokenizer)
    assert isinstance(template, PairTemplate)
    prompt = (Message("user", "Who is Ada?"),)
    joined = template.encode_prompt(prompt) + template.encode_response(prompt, "A poet.")
    assert joined == tokenizer("Who is Ada?", "A poet.")["input_ids"]
    assert template.encode_response(prompt, "A poet.", end_turn=False) == joined[-8:-1]
    turns = (Message("system", "Be kind."), *prompt)
    assert tokenizer.decode(template.encode_prompt(turns)).count("system: Be kind.\nuser: Who is Ada?") == 1
    assert not isinstance(reward_model_template(tiny_tokenizer()), PairTemplate)


def test_it_learns_the_order_and_scores_as_transformers_does_alone(encoder, files, tmp_path) -> None:
    run = train(encoder, files, tmp_path / "reward_model", steps=40, heldout=files["rankings"])
    lines = read_metrics(run)
    assert lines[-1]["loss"] < 0.4 * lines[0]["loss"]
    results = json.loads((run / "finished.json").read_text())["results"]
    assert results["accuracy"]["mean"] == 1
    assert results["length"]["pearson"] is not None
    model = AutoModelForSequenceClassification.from_pretrained(run / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    typed = model.config.type_vocab_size > 1
    answers = [TaskResponse(Task(tuple(Message(**turn) for turn in row["prompt"])), text)
               for row in RANKINGS for text in row["responses"]]  # fmt: skip
    found = build_reward_fn(f"model:{run}", device="cpu")(answers)
    for answer, score in zip(answers, found, strict=True):
        inputs = tokenizer(answer.task.prompt[0].content, answer.text, return_tensors="pt", return_token_type_ids=typed)
        with torch.no_grad():
            assert score == pytest.approx(model(**inputs).logits.item(), abs=1e-5)


def test_the_cut_into_micro_batches_and_the_seed_of_the_new_head(encoder, files, tmp_path) -> None:
    runs = [train(encoder, files, tmp_path / str(size), tokens_per_microbatch=size, steps=1) for size in (16, 4096)]
    first, second = (read_metrics(run)[0] for run in runs)
    assert first["loss"] == pytest.approx(second["loss"], abs=1e-5)
    loaded = [load_model(encoder, kind="reward", seed=seed, device="cpu")[0] for seed in (1, 1, 2)]
    heads = [dict(model.named_parameters()) for model in loaded]
    new = [name for name in heads[0] if "classifier" in name and "weight" in name]
    assert new
    for name in new:
        assert torch.equal(heads[0][name], heads[1][name])
        assert not torch.equal(heads[0][name], heads[2][name])


def test_an_adapter_and_a_resumed_run(encoder, files, tmp_path) -> None:
    whole = train(encoder, files, tmp_path / "whole", steps=4, save_every=2, lora_rank=2)
    with pytest.MonkeyPatch.context() as patch:
        import zhenlong.stages.reward_model as stage

        update, calls = stage.optimizer_step, []

        def dies(*given):
            calls.append(None)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return update(*given)

        patch.setattr("zhenlong.stages.reward_model.optimizer_step", dies)
        with pytest.raises(KeyboardInterrupt):
            train(encoder, files, tmp_path / "run", steps=4, save_every=2, lora_rank=2)
    resumed = train(encoder, files, tmp_path / "run", steps=4, save_every=2, lora_rank=2, resume=True)
    assert weight_bytes(resumed) == weight_bytes(whole)
    assert read_metrics(resumed) == read_metrics(whole)


def test_a_ranking_beyond_the_positions_is_an_error(encoder, files, tmp_path) -> None:
    model, _ = load_model(encoder, kind="reward", device="cpu")
    assert context_length(model.config) == 143
    with pytest.raises(UserError, match="context of 143 tokens"):
        train(encoder, files, tmp_path / "run", max_length=144)
    row = {"prompt": "Hm?", "chosen": "x" * 140, "rejected": "y"}
    with pytest.raises(UserError, match="more than the maximum length of 143"):
        train(encoder, files, tmp_path / "run", data=write_jsonl_file(tmp_path / "long.jsonl", [row]))
    with pytest.raises(UserError, match="context is 143"):
        build_reward_fn(f"model:{train(encoder, files, tmp_path / 'rm', steps=1)}", device="cpu")(
            [TaskResponse(Task((Message("user", "Hm?"),)), "x" * 140)]
        )


def test_what_reads_both_ways_is_an_encoder() -> None:
    assert is_encoder(transformers.BertConfig())
    assert is_encoder(transformers.DebertaV2Config())
    assert not is_encoder(tiny_model().config)
    assert not is_encoder(transformers.BartConfig())
    assert not is_encoder(transformers.T5Config())
    assert context_length(transformers.RobertaConfig(max_position_embeddings=514)) == 512
