"""Model names, one-line errors, and atomic saves."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tiny import FAMILIES, tiny_model, tiny_tokenizer
from tiny_files import model_folder

from zhenlong.api.folder_format import FORMAT_NOTE
from zhenlong.errors import UserError
from zhenlong.models import load_model, load_tokenizer, resolve_model_path, save_model


@pytest.fixture
def folder(tmp_path):
    return model_folder(tmp_path / "base")


def contents(path):
    return {one.relative_to(path): one.read_bytes() for one in sorted(path.rglob("*")) if one.is_file()}


def test_a_saved_model_loads_with_equal_weights_and_tokenizer(folder):
    model, tokenizer = load_model(folder, device="cpu")
    assert not model.training
    saved = tiny_model().state_dict()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in saved.items())
    assert tokenizer("né")["input_ids"] == tiny_tokenizer()("né")["input_ids"]
    assert tokenizer.chat_template == tiny_tokenizer().chat_template


def test_a_run_folder_resolves_to_its_model(folder, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.move(folder, tmp_path / "run" / "model")
    assert resolve_model_path(str(tmp_path / "run")) == str(tmp_path / "run" / "model")
    assert load_tokenizer(str(tmp_path / "run")).get_vocab() == tiny_tokenizer().get_vocab()


def refusal(name):
    with pytest.raises(UserError) as error:
        load_model(str(name), device="cpu")
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"model {name}: ")
    return message


def test_an_unfinished_run_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text(f"# {FORMAT_NOTE}\nseed: 0\n")
    assert "has no model yet; finish it first" in refusal(tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    assert (
        "no such folder; expected pocket, smollm2, minilm, a model or run folder, a GGUF file, or a hub id"
        in refusal(tmp_path / "nowhere")
    )


def test_a_file_is_refused(folder):
    assert "not a GGUF file" in refusal(f"{folder}/model.safetensors")


def test_a_folder_without_a_config_is_refused(tmp_path):
    assert "no config.json in" in refusal(tmp_path)


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "model.pt", "weights.pth", "a.pkl"])
def test_a_pickle_is_never_loaded(folder, pickle, tmp_path):
    """Loading this one would create a file."""
    os.remove(f"{folder}/model.safetensors")
    trap = f"cposix\nsystem\n(S'touch {tmp_path}/opened'\ntR.".encode()
    (tmp_path / "base" / pickle).write_bytes(trap)
    assert f"{pickle} is a pickle" in refusal(folder)
    assert not (tmp_path / "opened").exists()


def test_a_folder_without_weights_is_refused(folder):
    os.remove(f"{folder}/model.safetensors")
    assert "no *.safetensors" in refusal(folder)


def test_a_hub_id_that_is_not_cached_is_refused_when_offline():
    assert "not in the cache, and HF_HUB_OFFLINE is set" in refusal("nobody-here/no-such-model")


def test_damaged_weights_are_refused(folder, tmp_path):
    whole = (tmp_path / "base" / "model.safetensors").read_bytes()
    (tmp_path / "base" / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot be loaded" in refusal(folder)


def test_a_damaged_configuration_is_refused(folder, tmp_path):
    (tmp_path / "base" / "config.json").write_text('{"model_type": "llama", ')
    assert "config.json is not JSON" in refusal(folder)


def test_an_unknown_architecture_is_refused(folder, tmp_path):
    (tmp_path / "base" / "config.json").write_text('{"model_type": "abacus"}')
    assert "cannot be loaded" in refusal(folder)


def test_a_folder_without_a_tokenizer_is_refused(folder, tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        os.remove(tmp_path / "base" / name)
    assert "cannot be loaded" in refusal(folder)


def test_weights_of_another_shape_than_the_configuration_are_refused(folder, tmp_path):
    config = (tmp_path / "base" / "config.json").read_text()
    (tmp_path / "base" / "config.json").write_text(config.replace('"hidden_size": 32', '"hidden_size": 64'))
    assert "cannot be loaded" in refusal(folder)


def test_missing_weights_are_refused(folder, tmp_path):
    """A checkpoint of a shorter model: its missing layers would be random numbers."""
    config = (tmp_path / "base" / "config.json").read_text()
    (tmp_path / "base" / "config.json").write_text(config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    assert "lack" in refusal(folder)


def test_a_reward_model_is_refused_as_a_language_model(folder, tmp_path):
    """It has no output layer, and a random one would be useless."""
    save_model(*load_model(folder, kind="reward", device="cpu"), tmp_path / "reward")
    assert "lack 1 weights that a LlamaForCausalLM of its config.json has, such as lm_head.weight" in refusal(
        tmp_path / "reward"
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_every_architecture_round_trips(family, tied, tmp_path):
    save_model(tiny_model(family, tie_word_embeddings=tied), tiny_tokenizer(), tmp_path / "saved")
    model, _ = load_model(str(tmp_path / "saved"), device="cpu")
    wanted = tiny_model(family, tie_word_embeddings=tied).state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())


def test_an_unavailable_device_is_refused(folder):
    with pytest.raises(UserError, match="--device cuda:9: not available"):
        load_model(folder, device="cuda:9")


@pytest.mark.parametrize("fails", ["weights", "tokenizer", "first rename", "second rename"])
def test_a_failed_save_leaves_the_old_folder_and_nothing_else(fails, folder, tmp_path, monkeypatch):
    before = contents(tmp_path)
    model, tokenizer = tiny_model(seed=1), tiny_tokenizer()
    replace, calls = os.replace, []

    def full(*given, **settings):
        raise OSError(28, "No space left on device")

    def counted(*given):
        calls.append(given)
        if str(tmp_path / "base") in map(str, given):
            seen = sum(str(tmp_path / "base") in map(str, one) for one in calls)
            if seen == ("first rename", "second rename").index(fails) + 1:
                full()
        return replace(*given)

    if fails == "weights":
        monkeypatch.setattr(type(model), "save_pretrained", full)
    elif fails == "tokenizer":
        monkeypatch.setattr(type(tokenizer), "save_pretrained", full)
    else:
        monkeypatch.setattr(os, "replace", counted)
    with pytest.raises(UserError, match="cannot write the model there"):
        save_model(model, tokenizer, tmp_path / "base")
    monkeypatch.undo()
    assert contents(tmp_path) == before


def test_a_save_replaces_the_old_folder_completely(folder, tmp_path):
    (tmp_path / "base" / "stray.txt").write_text("old")
    save_model(tiny_model(seed=1), tiny_tokenizer(), folder)
    assert not (tmp_path / "base" / "stray.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]
    saved = load_file(f"{folder}/model.safetensors")
    assert torch.equal(saved["lm_head.weight"], tiny_model(seed=1).lm_head.weight)


def test_a_folder_that_cannot_be_created_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the model there"):
        save_model(tiny_model(), tiny_tokenizer(), tmp_path / "file" / "model")


def edit_config(folder, tmp_path, **changes):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return copy


def test_code_that_a_folder_brings_is_not_run(folder, tmp_path, monkeypatch):
    copy = edit_config(
        folder, tmp_path, model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}
    )
    (copy / "own.py").write_text("raise SystemExit('code of the folder was run')\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(UserError, match=r"names code of its own \(auto_map\), which is not run"):
        load_model(str(copy))


@pytest.mark.parametrize("changes", [{"num_hidden_layers": 10**8}, {"num_hidden_layers": -1}])
def test_more_layers_than_weights_are_refused_before_they_are_built(folder, tmp_path, changes):
    with pytest.raises(UserError, match=r"num_hidden_layers|cannot be loaded"):
        load_model(str(edit_config(folder, tmp_path, **changes)))


@pytest.mark.parametrize("text", ["[]", "3", '"llama"', "null", "[" * 5000, "{"])
def test_a_configuration_that_is_no_mapping_is_refused(folder, tmp_path, text):
    copy = edit_config(folder, tmp_path)
    (copy / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        load_model(str(copy))


@pytest.mark.parametrize(
    "changes",
    [{"hidden_size": "wide"}, {"hidden_size": None}, {"rope_scaling": 3}, {"vocab_size": -4}, {"hidden_act": 7}],
)
def test_odd_settings_are_one_line(folder, tmp_path, changes):
    with pytest.raises(UserError, match=r"^model .*copy: [^\n]+\Z"):
        load_model(str(edit_config(folder, tmp_path, **changes)))
