"""Data sources: the rows that `prefs.jsonl`, `hf:owner/name@test` or `world:rankings?n=500` refer to."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from zhenlong.data.files import RawRow, iter_file_rows
from zhenlong.data.hub import load_from_hub
from zhenlong.data.message_trees import assemble_trees, best_path
from zhenlong.errors import UserError
from zhenlong.records import RECORD_KINDS, Ranking, Record, to_json

WORLD_KINDS: Final = {f"{name}s": kind for name, kind in RECORD_KINDS.items()} | {"safety": Ranking}


def iter_source_rows(spec: str, limit: int | None = None) -> Iterator[RawRow]:
    """The rows of a source, in order. Raises `UserError` if it cannot be read.

    - `path.ext` a local file; `notes.txt?by=paragraph` splits a text file into documents, and `prefs.jsonl?rows=900:`
      selects a range (from the 901st row; `:900` up to the 900th), for example for held-out data;
    - `folder/` a folder that `datasets` has saved or can load; `folder/@test` another split than `train`;
    - `hf:owner/name[:config][@split]` a data set of the hub (streamed with `limit`, else the split is cached);
    - `hf:owner/name/folder/file.jsonl` one file of such a data set;
    - any of these with `?paths=best` (`&paths=best`): only the path of best-ranked replies of each conversation tree;
    - `world:<kind>[?n=1000&seed=0&split=train&...]` the built-in world; other options are arguments of its method.
    """
    tree_option = None if Path(spec).exists() else re.fullmatch(r"(.+)[?&]paths=(\w*)", spec)
    if tree_option is None:
        return assemble_trees(_iter_rows(spec, limit))
    name, chosen = tree_option.groups()
    if chosen not in ("all", "best"):
        raise UserError(f"{spec}: paths={chosen}: expected all, or best for the best-ranked replies alone")
    trees = assemble_trees(_iter_rows(name, limit))
    return trees if chosen == "all" else (replace(row, fields=best_path(row.fields)) for row in trees)


def _iter_rows(spec: str, limit: int | None) -> Iterator[RawRow]:
    if spec.startswith("world:"):
        return _world_rows(spec)
    if spec.startswith("hf:"):
        return _hub_rows(spec, limit)
    if not Path(spec).exists():
        name, _, options = spec.rpartition("?")
        if name:
            chosen = _parse_options(spec, options, ("by", "rows"))
            row_range = _parse_row_range(spec, chosen.pop("rows", ":"))
            return islice(iter_file_rows(Path(name), **chosen), *row_range)
        if Path(spec.rpartition("@")[0]).is_dir() and "@" in spec:
            return _hub_rows(f"hf:{spec}", limit)
    if Path(spec).is_dir():
        return _hub_rows(f"hf:{spec}", limit)
    return iter_file_rows(Path(spec))


def _parse_options(spec: str, text: str, known: tuple[str, ...]) -> dict[str, str]:
    options = dict(parse_qsl(text, keep_blank_values=True))
    unknown = sorted(set(options) - set(known)) or ([text] if text and not options else [])
    if unknown:
        raise UserError(f"{spec}: unknown option {', '.join(unknown)}; expected {', '.join(known)}")
    return options


def _parse_row_range(spec: str, text: str) -> tuple[int, int | None]:
    """The rows `first:last`, counted from 0, `last` excluded, as arguments of islice."""
    match = re.fullmatch(r"(\d*):(\d*)", text)
    if match is None or (match[2] and int(match[2]) <= int(match[1] or 0)):
        raise UserError(f"{spec}: rows={text}: expected first:last, such as rows=:900 or rows=900:1000")
    return int(match[1] or 0), int(match[2]) if match[2] else None


def _hub_rows(spec: str, limit: int | None) -> Iterator[RawRow]:
    body = spec.removeprefix("hf:")
    name, split = (body, "") if Path(body).is_dir() or "@" not in body else body.rsplit("@", 1)
    config = ""
    if not Path(name).is_dir():
        name, _, config = name.partition(":")
    if not name:
        raise UserError(f"{spec}: names no data set; expected hf:owner/name[:config][@split]")
    if name.count("/") > 1 and not Path(name).is_dir():
        owner, repository, file = body.split("/", 2)
        yield from iter_file_rows(_download_file(spec, f"{owner}/{repository}", file))
        return
    data = _load_dataset(spec, name, config or None, split or "train", streaming=limit is not None)
    for number, row in enumerate(data, 1):
        yield RawRow(f"{spec}, row {number}", row)


def _load_dataset(spec: str, name: str, config: str | None, split: str, streaming: bool) -> Any:
    import datasets  # takes seconds to import, so only where needed

    folder = Path(name)

    def load(only_cached: bool) -> Any:
        if any((folder / file).is_file() for file in ("dataset_dict.json", "state.json")):
            data = datasets.load_from_disk(name)
            if not isinstance(data, datasets.DatasetDict):
                return data
            if split not in data:
                raise UserError(f"{spec}: has no split {split!r}; it has {', '.join(data)}")
            return data[split]
        settings: dict[str, Any] = {"split": split, "streaming": streaming and not only_cached}
        if only_cached:
            settings["download_config"] = datasets.DownloadConfig(local_files_only=True)
        try:
            return datasets.load_dataset(name, config, **settings)
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
            # the hub stores the script's output as Parquet under this name
            return datasets.load_dataset(name, config, **settings, revision="refs/convert/parquet")

    if not folder.is_dir():
        return load_from_hub(spec, load)
    try:
        return load(False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{spec}: the data set cannot be loaded: {reason}") from None


def _download_file(spec: str, repository: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    def load(only_cached: bool) -> str:
        return hf_hub_download(repository, file, repo_type="dataset", local_files_only=only_cached)

    return Path(load_from_hub(spec, load))


def _world_rows(spec: str) -> Iterator[RawRow]:
    from zhenlong.world import World

    kind, _, query = spec.removeprefix("world:").partition("?")
    if kind not in WORLD_KINDS:
        raise UserError(f"{spec}: the world has no {kind or 'kind'!r}; expected world: and {', '.join(WORLD_KINDS)}")
    given = dict(parse_qsl(query))
    world_seed = given.pop("world", "0")
    method: Callable[..., list[Record]] = getattr(World(_parse_int(spec, "world", world_seed)), kind)
    parameters = {name: one.default for name, one in inspect.signature(method).parameters.items()}
    groups: dict[str, Any] = {name: default for name, default in parameters.items() if is_dataclass(default)}
    in_group = {one.name: group for group, default in groups.items() for one in fields(default)}
    plain = [name for name, default in parameters.items() if name == "n" or isinstance(default, int | float | str)]
    accepted = [*plain, *in_group]
    unknown = sorted(set(given) - set(accepted))
    if unknown:
        raise UserError(f"{spec}: unknown option {', '.join(unknown)}; expected {', '.join((*accepted, 'world'))}")
    count = _parse_int(spec, "n", given.pop("n", "1000"))
    options = {name: _parse_value(text) for name, text in given.items() if name in plain}
    for group, default in groups.items():
        own = {name: _parse_value(text) for name, text in given.items() if in_group.get(name) == group}
        options[group] = replace(default, **own)
    try:
        records = method(count, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"{spec}: {error}") from None
    for number, record in enumerate(records, 1):
        yield RawRow(f"{spec}, row {number}", to_json(record))


def _parse_int(spec: str, name: str, text: str) -> int:
    if not text.isdigit():
        raise UserError(f"{spec}: {name}={text!r} is not a whole number; expected one such as {name}=100")
    return int(text)


def _parse_value(text: str) -> Any:
    for parse in (int, float):
        try:
            return parse(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text, text)
