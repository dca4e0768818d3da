"""SFT and pretraining: which tokens the loss is on, and which data the schedule draws from."""

import json
import math
from itertools import pairwise

import pytest
import torch
from cases import run_case
from tiny_files import DEMONSTRATIONS, DOCUMENTS, model_folder, read_metrics, weight_bytes, write_jsonl_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from zhenlong.data import ChatTemplate
from zhenlong.errors import UserError
from zhenlong.records import Message

IM_END = 258


def first_loss(run):
    return read_metrics(run)[0]["loss"]


def test_the_first_loss_of_sft_is_the_mean_over_the_assistants_tokens(files, tmp_path):
    """The truth: transformers' own summed loss, row by row, with -100 on everything that another speaker says."""
    run = run_case("sft", files, tmp_path / "run", batch_size=5, steps=1)
    model = AutoModelForCausalLM.from_pretrained(files["model"])
    tokenizer = AutoTokenizer.from_pretrained(files["model"])
    total, count = 0.0, 0
    for row in DEMONSTRATIONS:
        ids, labels = [], []
        for message in row["messages"]:
            head, said = f"<|im_start|>{message['role']}\n", f"{message['content']}<|im_end|>"
            for text, scored in ((head, False), (said, message["role"] == "assistant"), ("\n", False)):
                new = tokenizer(text)["input_ids"]
                ids, labels = ids + new, labels + (new if scored else [-100] * len(new))
        scored = sum(label != -100 for label in labels)
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
        total, count = total + float(loss) * scored, count + scored
    assert first_loss(run) == pytest.approx(total / count, abs=1e-5)


def test_the_first_loss_of_pretraining_is_the_mean_over_all_tokens_but_each_first(files, tmp_path):
    run = run_case("pretrain", files, tmp_path / "run", batch_size=4, steps=1)
    model = AutoModelForCausalLM.from_pretrained(files["model"])
    tokenizer = AutoTokenizer.from_pretrained(files["model"])
    total, count = 0.0, 0
    for row in DOCUMENTS:
        ids = torch.tensor([[*tokenizer(row["text"])["input_ids"], tokenizer.eos_token_id]])
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    assert first_loss(run) == pytest.approx(total / count, abs=1e-5)


@pytest.mark.peers("trl")
def test_the_first_step_of_sft_is_that_of_trl(files, tmp_path):
    """The same rows through TRL's own collator and loss, in fp32 without packing or checkpointing."""
    import datasets
    import trl

    model = AutoModelForCausalLM.from_pretrained(files["model"])
    tokenizer = AutoTokenizer.from_pretrained(files["model"])
    template = ChatTemplate.from_tokenizer(tokenizer)
    samples = [template.encode_conversation(tuple(Message(**m) for m in row["messages"])) for row in DEMONSTRATIONS]
    data = datasets.Dataset.from_list(
        [
            {"input_ids": ids, "labels": [token if said else -100 for token, said in zip(ids, mask, strict=True)]}
            for ids, mask in samples
        ]
    )
    settings = trl.SFTConfig(
        output_dir=str(tmp_path / "trl"), per_device_train_batch_size=5, max_steps=1, logging_steps=1, bf16=False,
        gradient_checkpointing=False, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True,
        max_length=None, dataloader_pin_memory=False,
        dataset_kwargs={"skip_prepare_dataset": True}, learning_rate=1e-3, remove_unused_columns=False,
    )  # fmt: skip
    trainer = trl.SFTTrainer(model=model, args=settings, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    theirs = next(line["loss"] for line in trainer.state.log_history if "loss" in line)
    run = run_case("sft", files, tmp_path / "run", batch_size=5, steps=1)
    assert first_loss(run) == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_decay_phase_alone_draws_from_its_own_data(files, tmp_path, batch_size):
    """Every document of a source has the same length, so the tokens of a step say which source it drew from."""
    early = write_jsonl_file(tmp_path / "early.jsonl", [{"text": letter * 9} for letter in "abcd"])
    late = write_jsonl_file(tmp_path / "late.jsonl", [{"text": letter * 29} for letter in "efgh"])
    settings = {"data": early, "schedule": "wsd", "steps": 10, "decay_fraction": 0.3, "warmup_steps": 2}
    run = run_case("pretrain", files, tmp_path / "run", decay_data=late, batch_size=batch_size, **settings)
    total = [0, *(line["tokens"] for line in read_metrics(run))]
    per_step = [(after - before) // batch_size for before, after in pairwise(total)]
    assert per_step == [10] * 7 + [30] * 3


def test_data_for_the_decay_phase_needs_the_schedule_that_has_one(files, tmp_path):
    with pytest.raises(UserError, match="decay_data: needs the wsd schedule"):
        run_case("pretrain", files, tmp_path / "run", decay_data=files["documents"], schedule="cosine")
    assert not (tmp_path / "run").exists()


def test_a_new_model_has_the_shape_asked_for_and_its_tokenizer_takes_any_text(files, tmp_path):
    shape = {"hidden_size": 24, "layers": 1, "heads": 4, "kv_heads": 2, "intermediate_size": 40, "max_length": 64}
    run = run_case("pretrain", files, tmp_path / "run", model="", vocab_size=270, **shape)
    model = AutoModelForCausalLM.from_pretrained(run / "model")
    config = model.config
    sizes = (config.hidden_size, config.num_hidden_layers, config.num_key_value_heads, config.intermediate_size)
    assert sizes == (24, 1, 2, 40)
    assert config.max_position_embeddings == 64
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    assert tokenizer.decode(tokenizer("né 龍 🐉\x00\n")["input_ids"]) == "né 龍 🐉\x00\n"
    assert first_loss(run) == pytest.approx(math.log(len(tokenizer)), abs=0.3)


def test_a_given_tokenizer_may_be_that_of_a_run(files, tmp_path):
    run = run_case("sft", files, tmp_path / "sft")
    shape = {"hidden_size": 16, "heads": 2, "kv_heads": 2}
    made = run_case("pretrain", files, tmp_path / "run", model="", tokenizer=str(run), **shape)
    vocabularies = [AutoTokenizer.from_pretrained(one / "model").get_vocab() for one in (run, made)]
    assert vocabularies[0] == vocabularies[1]


def test_long_documents_are_cut_and_no_token_is_lost(files, tmp_path):
    """29 letters and the end are 30 tokens: pieces of 8, 8, 8 and 6, each but its first token scored."""
    long = write_jsonl_file(tmp_path / "long.jsonl", [{"text": "x" * 29}])
    run = run_case("pretrain", files, tmp_path / "run", data=long, max_length=8, batch_size=4, steps=1)
    assert read_metrics(run)[0]["tokens"] == 30


def test_sources_are_drawn_by_their_weights(files, tmp_path):
    """Three to one, whatever their sizes: 9 of 12 documents are of the first source, of length 10 against 30."""
    one = write_jsonl_file(tmp_path / "one.jsonl", [{"text": "a" * 9}])
    other = write_jsonl_file(tmp_path / "other.jsonl", [{"text": letter * 29} for letter in "efghij"])
    run = run_case("pretrain", files, tmp_path / "run", data=f"{one}*3,{other}*1", batch_size=4, steps=3)
    assert read_metrics(run)[-1]["tokens"] == 9 * 10 + 3 * 30


def test_too_long_conversations_are_an_error_or_counted(files, tmp_path):
    with pytest.raises(UserError, match=r"conversation 2: .* more than the maximum of 60"):
        run_case("sft", files, tmp_path / "error", max_length=60)
    assert not (tmp_path / "error").exists()
    run = run_case("sft", files, tmp_path / "drop", max_length=60, overlong="drop")
    assert (run / "overlong.json").read_text().split() == ["{", '"truncated":', "0,", '"dropped":', "1", "}"]


def test_overlong_rows_are_counted_over_all_sources(files, tmp_path):
    """Two in the first source, one in the second, none in the third: the last one does not have the last word."""
    short, long = chat("short"), chat("long " * 60)
    parts = ([short, long, long], [long, short], [short, short])
    paths = [write_jsonl_file(tmp_path / f"{place}.jsonl", rows) for place, rows in enumerate(parts)]
    run = run_case("sft", files, tmp_path / "run", data=",".join(map(str, paths)), max_length=60, overlong="drop")
    assert json.loads((run / "overlong.json").read_text()) == {"truncated": 0, "dropped": 3}


def chat(answer):
    return {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]}


def test_a_tokenizer_without_template_is_trained_and_saved_with_the_one_chosen(files, tmp_path):
    bare = model_folder(tmp_path / "bare", template=None)
    with pytest.raises(UserError, match="no chat template; choose one with --chat_template chatml"):
        run_case("sft", files, tmp_path / "run", model=bare)
    chosen = run_case("sft", files, tmp_path / "run", model=bare, chat_template="chatml")
    own = run_case("sft", files, tmp_path / "own")
    assert weight_bytes(chosen) == weight_bytes(own)
    saved = AutoModelForCausalLM.from_pretrained(chosen / "model")
    assert IM_END in saved.generation_config.eos_token_id
    assert AutoTokenizer.from_pretrained(chosen / "model").chat_template
