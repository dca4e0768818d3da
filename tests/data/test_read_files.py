"""All local file types, plain and compressed, give the same rows; every broken file gives a one-line error."""

import csv
import gzip
import io
import json

import pyarrow
import pyarrow.parquet
import pytest

from zhenlong.data import read
from zhenlong.data.files import iter_file_rows
from zhenlong.errors import UserError
from zhenlong.records import Demonstration, Document, Rating, Task

ROWS = [
    {"prompt": 'Say é, "quoted",\nin two lines.', "completion": "One\u2028line; tab\there.", "label": True},
    {"prompt": "再说一遍", "completion": "No.", "label": False},
]


def table(delimiter):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ROWS[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def parquet():
    data = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), data)
    return data.getvalue()


FILES = {
    "jsonl": "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode(),
    "json": json.dumps(ROWS, indent=1).encode(),
    "csv": table(","),
    "tsv": table("\t"),
    "parquet": parquet(),
}


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("extension", FILES)
def test_all_file_types_give_the_same_rows(tmp_path, extension, packed):
    path = tmp_path / f"rows.{extension}{packed}"
    path.write_bytes(gzip.compress(FILES[extension]) if packed else FILES[extension])
    ratings = read(str(path), Rating)
    assert [(r.prompt[0].content, r.response, r.desirable) for r in ratings] == [tuple(row.values()) for row in ROWS]


@pytest.mark.parametrize("extension", ["jsonl", "json", "csv", "tsv", "txt"])
def test_a_byte_order_mark_is_not_part_of_the_data(tmp_path, extension):
    data = FILES.get(extension, b"Some text.")
    kind = Rating if extension in FILES else Document
    with_mark, without = tmp_path / f"with.{extension}", tmp_path / f"without.{extension}"
    with_mark.write_bytes(b"\xef\xbb\xbf" + data)
    without.write_bytes(data)
    assert read(str(with_mark), kind) == read(str(without), kind)


def test_conversations_in_a_table_are_json(tmp_path):
    path = tmp_path / "rows.csv"
    turns = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["messages"], [json.dumps(turns)]])
    assert [m.content for m in read(str(path), Demonstration)[0].messages] == ["Hi.", "Hello."]


def test_a_json_file_may_have_one_object_per_line(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('{"text": "a"}\n{"text": "b"}\n')
    assert [d.text for d in read(str(path), Document)] == ["a", "b"]
    path.write_text('{"text": "a"}\n')
    assert [d.text for d in read(str(path), Document)] == ["a"]


@pytest.mark.parametrize("indent", [None, 0, 3])
def test_items_of_a_json_list_have_the_line_on_which_they_start(tmp_path, indent):
    """For any content between and within them: line breaks, brackets in texts, nested lists."""
    items = [{"text": "[a], \n{b}", "more": [[1], [{}]]}, [[2]], "x,y", {"text": "c\u2028"}, None]
    path = tmp_path / "rows.json"
    path.write_text("\n\n " + json.dumps(items, indent=indent, ensure_ascii=False))
    rows = list(iter_file_rows(path))
    assert [dict(row.fields) for row in rows] == [items[0], {}, {}, items[3], {}]
    whole = path.read_text()
    for number, (row, item) in enumerate(zip(rows, items, strict=True), 1):
        written = json.dumps(item, indent=indent, ensure_ascii=False).split("\n")[0]
        place, _, line = row.location.partition(" (line ")
        assert place == f"{path}, row {number}"
        assert written in whole.split("\n")[int(line.rstrip(")")) - 1]


def test_table_rows_are_named_by_line_even_if_cells_contain_line_breaks(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('"text",id\n"a\nb\nc",1\n\nshort\nd,2\n')
    assert [row.location for row in iter_file_rows(path)] == [
        f"{path}, row {row} (line {line})" for row, line in ((1, 2), (2, 6), (3, 7))
    ]


@pytest.mark.parametrize(
    ("option", "texts"),
    [
        ("", ["One\ntwo\n\n \nthree\n"]),
        ("?by=file", ["One\ntwo\n\n \nthree\n"]),
        ("?by=paragraph", ["One\ntwo", "three"]),
        ("?by=line", ["One", "two", "three"]),
    ],
)
def test_a_text_file_is_one_document_unless_split(tmp_path, option, texts):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"One\r\ntwo\r\n\r\n \r\nthree\r\n")
    assert [d.text for d in read(f"{path}{option}", Document)] == texts


def test_a_file_name_may_contain_a_question_mark(tmp_path):
    path = tmp_path / "why?.txt"
    path.write_text("Because.")
    assert read(str(path), Document) == [Document("Because.")]


BROKEN = {
    "empty.jsonl": (b"", "empty.jsonl: the file is empty"),
    "blank.txt": (b" \n ", "blank.txt: the file is empty"),
    "empty.jsonl.gz": (b"", "empty.jsonl.gz: the file is empty"),
    "list.json": (b"[]", "list.json: the list is empty"),
    "header.csv": (b"text\n", "header.csv: no usable rows"),
    "line.jsonl": (
        b'{"text": "a"}\n{"text": \n',
        "line.jsonl, line 2: not valid JSON .* expected one object on each line",
    ),
    "whole.json": (b'[\n{"text": "a"},\n', "whole.json, line 3: not valid JSON"),
    "object.json": (b'{\n"text": "a"\n}', "object.json: expected a list of objects, got one object"),
    "scalar.json": (b"3", "scalar.json: expected a list of objects, got one number"),
    "latin.jsonl": (b'{"text": "a"}\n{"text": "\xe9"}\n', "latin.jsonl, line 2: not UTF-8"),
    "latin.csv": (b"text\na\n\xe9\n", "latin.csv, line 3: not UTF-8"),
    "columns.csv": (b"text,id\na,1\nb\n", r"columns.csv, row 2 \(line 3\): expected 2 columns as in the header, got 1"),
    "twice.csv": (b"text,text\na,1\n", "twice.csv, line 1: a column name occurs twice"),
    "rows.xlsx": (b"a", "rows.xlsx: unknown extension '.xlsx'; expected one of .jsonl"),
    "rows": (b"a", "rows: unknown extension 'none'"),
    "rows.gz": (b"a", "rows.gz: unknown extension"),
    "plain.jsonl.gz": (b'{"text": "a"}', "plain.jsonl.gz: not a whole gzip file"),
    "cut.jsonl.gz": (gzip.compress(b'{"text": "abcdefg"}')[:-9], "cut.jsonl.gz: not a whole gzip file"),
    "rows.parquet": (b"PAR1 no", "rows.parquet: not a readable parquet file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_a_one_line_error(tmp_path, name):
    data, problem = BROKEN[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=problem) as error:
        read(str(tmp_path / name), Document)
    assert "\n" not in str(error.value)


def test_the_error_names_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"gone.jsonl: no such file"):
        read(str(tmp_path / "gone.jsonl"), Document)


@pytest.mark.parametrize("option", ["by=word", "cut=line", "by"])
def test_the_error_for_an_unknown_option_lists_the_known_ones(tmp_path, option):
    (tmp_path / "notes.txt").write_text("One.")
    with pytest.raises(UserError, match=r"expected (file, paragraph or line|by)"):
        read(f"{tmp_path / 'notes.txt'}?{option}", Document)


def test_splitting_is_for_text_files_only(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n')
    with pytest.raises(UserError, match=r"splits .txt files only"):
        read(f"{tmp_path / 'rows.jsonl'}?by=line", Task)
