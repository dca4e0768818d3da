"""GGUF files as models: converted once into a Hugging Face folder in the cache.

transformers reads the architecture and the weights, dequantised by the package `gguf`. Two things it leaves out are
done here: it ignores how `tokenizer.ggml.pre` says that text is split before byte-pair encoding (unless it knows the
name), and it refuses to save what it has read from a GGUF file.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.guarded_call import ANYTHING, describe_error

MAGIC: Final = b"GGUF"
CONVERSION: Final = 1
"""Counted up when the folder that a file gives changes: an older folder is converted again."""

_GPT2_CONTRACTIONS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LLAMA3_SPLIT: Final = (
    _GPT2_CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2_SPLIT: Final = _LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
# How llama.cpp splits text before byte-pair encoding, by `tokenizer.ggml.pre`.
_DIGITS_FIRST: Final = frozenset(
    {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
)  # each digit alone, then as GPT-2
_LIKE_GPT2: Final = frozenset({"gpt-2", "phi-2", "olmo", "mpt", "jina-es", "jina-de", "roberta-bpe", "gigachat"})
_SPLITS: Final = {
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "smaug-bpe", "dbrx"), _LLAMA3_SPLIT),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez"), _QWEN2_SPLIT),
}


# Metadata of one entry a token, which transformers reads.
_LISTS: Final = tuple(
    f"tokenizer.ggml.{name}" for name in ("tokens", "scores", "token_type", "merges", "precompiled_charsmap")
)
_SPECIAL_TOKENS: Final = {
    "bos": "bos",
    "eos": "eos",
    "unknown": "unk",
    "seperator": "sep",
    "padding": "pad",
    "mask": "mask",
}
"""llama.cpp's names of special tokens (`seperator` as it writes it) and transformers' names of them."""


def cache_folder() -> Path:
    """Where converted models are kept: `ZHENLONG_CACHE`, else `zhenlong` in the user's cache folder."""
    if own := os.environ.get("ZHENLONG_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "zhenlong"


def converted_folder(path: Path, name: str) -> Path:
    """The folder that the GGUF file was converted into; the first use converts it.

    The folder's name holds the file's path, size and time of change, so another file gets another folder; `source.json`
    in it has the file's SHA-256. Weights keep every value: bfloat16 where all the file's values are bfloat16, else
    float32. Raises `UserError`, and leaves nothing half-written, for a file that is damaged, of an unknown architecture
    or quantisation, or when the cache cannot be written.
    """
    _require_gguf_file(path, name)
    state = path.stat()
    key = f"{path.resolve()} {state.st_size} {state.st_mtime_ns} {CONVERSION}"
    parent = cache_folder() / "models"
    folder = parent / f"{path.stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if (folder / "config.json").is_file():
        return folder
    _require_package(name)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with _locked(parent / f".{folder.name}.lock", name):
            if not (folder / "config.json").is_file():  # another process may have converted it meanwhile
                _remove_leftovers(parent, folder.name)
                _convert(path, folder, name)
    except OSError as error:
        raise UserError(
            f"model {name}: cannot be converted into {folder} ({error.strerror or error}); free the space, or set "
            "ZHENLONG_CACHE to another folder"
        ) from None
    return folder


def _require_gguf_file(path: Path, name: str) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
    except OSError as error:
        raise UserError(f"model {name}: cannot be read ({error.strerror})") from None
    if magic != MAGIC:
        raise UserError(f"model {name}: not a GGUF file; expected one, a folder in Hugging Face format, or a hub id")


def _require_package(name: str) -> None:
    if find_spec("gguf") is None:
        raise UserError(f"model {name}: reading GGUF needs the package gguf: pip install gguf")


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    """Hold the file's lock; wait for another process that converts the same file."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"model {name}: waiting for another process that converts it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_leftovers(parent: Path, folder_name: str) -> None:
    """Remove what a killed conversion left; only called under the lock."""
    for leftover in parent.glob(f".{folder_name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _convert(path: Path, folder: Path, name: str) -> None:
    fields, needed_bytes, keeps_bfloat16 = _read_header(path, name)
    free = shutil.disk_usage(folder.parent).free
    if free < needed_bytes:
        raise UserError(
            f"model {name}: its converted weights need {needed_bytes / 1e9:.1f} GB, {folder.parent} has "
            f"{free / 1e9:.1f} GB; free the space, or set ZHENLONG_CACHE to another folder"
        )
    print(f"model {name}: converting {path.name} once, into {folder}", file=sys.stderr)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write_folder(path, temporary, "bfloat16" if keeps_bfloat16 else "float32", name, fields)
        for one in (temporary, *temporary.iterdir()):
            one.chmod(0o755 if one.is_dir() else 0o644)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_header(path: Path, name: str) -> tuple[dict[str, Any], int, bool]:
    """The file's metadata without its lists, the bytes of its converted weights, whether bfloat16 keeps them."""
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGUFReader
    from gguf.quants import dequantize

    try:
        reader = GGUFReader(path)
        fields = {key: field.contents() for key, field in reader.fields.items() if key not in _LISTS}
        tensors = list(reader.tensors)
    except ANYTHING as error:
        raise UserError(f"model {name}: damaged or truncated GGUF file ({describe_error(error)})") from None
    if not tensors:
        raise UserError(f"model {name}: this GGUF file has no weights (a vocabulary or a part of a split file)")
    for kind in {one.tensor_type for one in tensors}:
        try:
            dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), dtype=np.uint8), kind)
        except (NotImplementedError, KeyError):
            raise UserError(
                f"model {name}: quantised as {kind.name}, which cannot be dequantised here; expected F32, F16, BF16, "
                "Q4_0 to Q8_0, or a K or IQ kind"
            ) from None
    keeps_bfloat16 = all(_is_bfloat16(one) for one in tensors)
    elements = sum(int(one.n_elements) for one in tensors)
    return fields, elements * (2 if keeps_bfloat16 else 4), keeps_bfloat16


def _is_bfloat16(tensor: Any) -> bool:
    """Whether bfloat16 holds the tensor's values: it is stored so, or as float32 with 16 low bits of zero."""
    name = tensor.tensor_type.name
    return name == "BF16" or (name == "F32" and not (tensor.data.view("uint32") & 0xFFFF).any())


def _write_folder(path: Path, folder: Path, dtype: str, name: str, fields: dict[str, Any]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from zhenlong.models.silence import silence_transformers

    source = {"gguf_file": path.name, "trust_remote_code": False}
    try:
        with silence_transformers():
            tokenizer = AutoTokenizer.from_pretrained(path.parent, **source)
            read = AutoModelForCausalLM.from_pretrained(path.parent, dtype=getattr(torch, dtype), **source)
            # What comes from GGUF refuses to be saved: the same weights go into a model that knows nothing of it.
            config = type(read.config)(**{k: v for k, v in read.config.to_dict().items() if k != "quantization_config"})
            with torch.device("meta"):
                model = type(read)(config)
            model.load_state_dict(read.state_dict(), assign=True)
            model.tie_weights()
            model.generation_config = read.generation_config
    except OSError:
        raise
    except ANYTHING as error:
        raise UserError(f"model {name}: this GGUF file cannot be read ({describe_error(error)})") from None
    _split_as_the_file_says(tokenizer, fields, name)
    _set_special_tokens(tokenizer, fields)
    tokenizer.model_max_length = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    with silence_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    description = {
        "file": path.name,
        "sha256": _file_hash(path),
        "license": fields.get("general.license"),
        "name": fields.get("general.name"),
    }
    (folder / "source.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def _split_as_the_file_says(tokenizer: Any, fields: dict[str, Any], name: str) -> None:
    """Split text before byte-pair encoding as `tokenizer.ggml.pre` says; an unknown name is one warning.

    Vocabularies of SentencePiece (tokenizer.ggml.model other than gpt2) name no such rule.
    """
    from tokenizers import Regex, pre_tokenizers

    rule = fields.get("tokenizer.ggml.pre")
    if rule is None or rule == "default":
        return
    if rule in _DIGITS_FIRST:
        steps = [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    elif rule in _SPLITS:
        steps = [
            pre_tokenizers.Split(Regex(_SPLITS[rule]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    else:
        if rule not in _LIKE_GPT2 and isinstance(tokenizer.backend_tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel):
            print(
                f"warning: model {name}: its tokenizer splits text by the rule {rule!r}, which is not known here; text "
                "is split as GPT-2 does, so some words may be tokenised otherwise than in the model's training",
                file=sys.stderr,
            )
        return
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)


def _set_special_tokens(tokenizer: Any, fields: dict[str, Any]) -> None:
    """Name the special tokens that the file names; transformers leaves some of them out, by version."""
    for theirs, ours in _SPECIAL_TOKENS.items():
        token_id = fields.get(f"tokenizer.ggml.{theirs}_token_id")
        if token_id is not None and 0 <= token_id < len(tokenizer):
            setattr(tokenizer, f"{ours}_token", tokenizer.convert_ids_to_tokens(token_id))


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
