"""Logs of inspect: a `.json` file, or `.eval`, a zip file with one JSON file for each sample and epoch."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow  # type: ignore[import-untyped]

from zhenlong.errors import UserError
from zhenlong.evaluate.transcripts.transcript import ReadingContext, Transcript, TranscriptRow

ZSTANDARD: Final = 93  # the compression that inspect writes since 0.3.1xx; zipfile knows it from Python 3.14 on
ATTACHMENT_PREFIX: Final = "attachment://"
LOCAL_HEADER_SIZE: Final = 30
LARGEST_SAMPLE: Final = 1 << 30  # bytes of one sample, uncompressed
SAMPLE_FILE: Final = re.compile(r"samples/.+\.json")
FAILED_STOPS: Final = ("content_filter",)
TRUNCATED_STOPS: Final = ("max_tokens", "model_length")


def read_inspect_log(path: Path, context: ReadingContext) -> Transcript:
    """The answer of every sample and epoch. Raises `UserError` for a file that is not a whole log."""
    log = _read_zip(path) if path.suffix == ".eval" else _read_json(path)
    evaluated = log.get("eval")
    if not isinstance(evaluated, Mapping):
        raise UserError(f"{path}: expected a log of inspect with the key eval")
    samples = log.get("samples") or []
    if not samples:
        raise UserError(f"{path}: the log has no samples (status {log.get('status')}); log them with --log-samples")
    try:
        rows = [_row(path, sample, context) for sample in samples]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: a sample is not in inspect's format ({error!r})") from None
    status = log.get("status")
    notes = [f"the log's status is {status}: it may hold only some of the samples"] if status != "success" else []
    return Transcript("a log of inspect", rows, str(evaluated.get("model") or ""), notes)


def _row(path: Path, sample: Mapping[str, Any], context: ReadingContext) -> TranscriptRow:
    id_, epoch = sample["id"], int(sample.get("epoch", 1))
    attachments = sample.get("attachments") or {}
    metadata = sample.get("metadata") or {}
    own = next((str(metadata[name]) for name in context.id_fields if metadata.get(name) is not None), None)
    fields = _answer(sample, attachments)
    place = f"{path}, sample {id_}, epoch {epoch}"
    prompt = _input_text(sample["input"], attachments)
    return TranscriptRow(place, {"sample_id": id_, **fields}, own, prompt=prompt, trial=epoch - 1)


def _answer(sample: Mapping[str, Any], attachments: Mapping[str, Any]) -> dict[str, Any]:
    if sample.get("error"):
        return {"failed": str(sample["error"].get("message") or "error")}
    choices = (sample.get("output") or {}).get("choices") or []
    if not choices:
        return {"failed": "no output"}
    stop = choices[0].get("stop_reason")
    if stop in FAILED_STOPS:
        return {"failed": str(stop)}
    text = _text(choices[0]["message"]["content"], attachments)
    return {"output": text, **({"truncated": True} if stop in TRUNCATED_STOPS else {})}


def _input_text(given: Any, attachments: Mapping[str, Any]) -> str:
    """The input, or the last message of the user."""
    if isinstance(given, str):
        return _resolve(given, attachments)
    users = [one for one in given if one["role"] == "user"]
    return _text(users[-1]["content"], attachments) if users else ""


def _text(content: Any, attachments: Mapping[str, Any]) -> str:
    """The text of a message; parts of other kinds, such as reasoning, are no answer."""
    if isinstance(content, str):
        return _resolve(content, attachments)
    return "".join(_resolve(part["text"], attachments) for part in content if part["type"] == "text")


def _resolve(text: str, attachments: Mapping[str, Any]) -> str:
    """inspect keeps long texts once, as attachments of the sample."""
    return (
        str(attachments.get(text.removeprefix(ATTACHMENT_PREFIX), text)) if text.startswith(ATTACHMENT_PREFIX) else text
    )


def _read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8-sig"))
    return found


def _read_zip(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {one.filename: one for one in archive.infolist()}
            header = names.get("header.json") or names.get("_journal/start.json")
            if header is None:
                raise UserError(f"{path}: expected a log of inspect, with header.json in the zip file")
            log: dict[str, Any] = json.loads(_member(path, archive, header))
            samples = [one for name, one in names.items() if SAMPLE_FILE.fullmatch(name)]
            return {"status": "unfinished", **log, "samples": list(_samples(path, archive, samples))}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (OSError, zipfile.BadZipFile, ValueError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: not a whole log of inspect ({' '.join(str(error).split())[:120]})") from None


def _samples(path: Path, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> Iterator[Any]:
    for member in members:
        yield json.loads(_member(path, archive, member))


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A file of the archive; zstandard is undone here, where zipfile does not know it."""
    if member.file_size > LARGEST_SAMPLE:
        raise UserError(f"{path}: {member.filename} has {member.file_size} bytes; expected at most {LARGEST_SAMPLE}")
    if member.compress_type != ZSTANDARD:
        return archive.read(member)
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(LOCAL_HEADER_SIZE)
        skipped = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")  # name and extra
        file.seek(member.header_offset + LOCAL_HEADER_SIZE + skipped)
        packed = file.read(member.compress_size)
    unpacked: bytes = pyarrow.decompress(packed, member.file_size, codec="zstd", asbytes=True)
    return unpacked
