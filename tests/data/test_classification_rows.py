"""Labelled texts in their usual formats; errors name the location."""

import zipfile
from collections import Counter

import pytest
from tiny_files import write_jsonl_file

from zhenlong.data.classification_rows import read_labelled_texts
from zhenlong.errors import UserError


def labels(spec, **settings):
    return [(row.text, row.label) for row in read_labelled_texts(str(spec), **settings)[0]]


def test_rows_with_a_label_column(tmp_path):
    lines = write_jsonl_file(
        tmp_path / "a.jsonl", [{"text": "x", "label": 1}, {"sentence": "y", "label": "neg", "idx": 4}]
    )
    assert labels(lines) == [("x", "1"), ("y", "neg")]
    (tmp_path / "imdb.csv").write_text('review,sentiment\n"good, really",positive\n')
    assert labels(tmp_path / "imdb.csv") == [("good, really", "positive")]


def test_lines_that_start_with_a_label(tmp_path):
    (tmp_path / "stsa.binary.train").write_text("1 a fine film .\n\n0 dull , 2 hours of it\n")
    assert labels(tmp_path / "stsa.binary.train") == [("a fine film .", "1"), ("dull , 2 hours of it", "0")]
    assert labels(f"{tmp_path / 'stsa.binary.train'}?rows=1:") == [("dull , 2 hours of it", "0")]


def test_archives_interleave_their_labels(tmp_path):
    with zipfile.ZipFile(tmp_path / "lines.zip", "w") as archive:
        archive.writestr("s/README.txt", "about it")
        archive.writestr("s/rt.neg", "dull\nbad caf\u00e9\n".encode("latin-1"))
        archive.writestr("s/rt.pos", "fine\ngood\ngreat\n")
    assert labels(tmp_path / "lines.zip") == [
        ("dull", "neg"), ("fine", "pos"), ("bad caf\u00e9", "neg"), ("good", "pos"), ("great", "pos")
    ]  # fmt: skip
    with zipfile.ZipFile(tmp_path / "files.zip", "w") as archive:
        for label in ("neg", "pos"):
            archive.writestr(f"m/{label}/1.txt", f"{label} one\nof two lines")
    assert labels(tmp_path / "files.zip") == [("neg one of two lines", "neg"), ("pos one of two lines", "pos")]


def test_folders_by_label(tmp_path):
    for label in ("neg", "pos", "unsup"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "0.txt").write_text(f"{label} text")
    assert labels(tmp_path) == [("neg text", "neg"), ("pos text", "pos")]


def test_sources_mix_by_weight(tmp_path):
    a = write_jsonl_file(tmp_path / "a.jsonl", [{"text": f"a{i}", "label": 0} for i in range(10)])
    b = write_jsonl_file(tmp_path / "b.jsonl", [{"text": f"b{i}", "label": 1} for i in range(10)])
    found, order = read_labelled_texts(f"{a}*0.75,{b}*0.25")
    assert Counter(found[place].label for place in order.draw(40)) == {"0": 30, "1": 10}


def test_the_splits_of_the_world_s_reviews_are_disjoint():
    train, held = (labels(f"world:sentiment?n=200&split={split}") for split in ("train", "heldout"))
    assert len(set(train)) == len(set(held)) == 200
    assert not {text for text, _ in train} & {text for text, _ in held}
    assert {label for _, label in train} == {"positive", "negative"}
    assert train == labels("world:sentiment?n=200")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "x"}, "label: expected a name or a whole number"),
        ({"text": " ", "label": 1}, "text: expected some text"),
        ({"text": "x", "label": 0.5}, "label: expected a name or a whole number"),
        ({"text": "x", "label": -1}, "-1 marks a text without a public label"),
    ],
)
def test_a_bad_row_is_an_error_or_skipped(row, said, tmp_path):
    path = write_jsonl_file(tmp_path / "a.jsonl", [{"text": "x", "label": "y"}, row])
    with pytest.raises(UserError, match=rf"line 2: .*{said}"):
        read_labelled_texts(path)
    skipped = []
    assert len(read_labelled_texts(path, skip_bad_rows=True, skipped=skipped)[0]) == 1
    assert len(skipped) == 1


def test_errors_name_a_bad_source(tmp_path):
    (tmp_path / "no.zip").write_text("not a zip")
    with pytest.raises(UserError, match="not a readable zip archive"):
        read_labelled_texts(str(tmp_path / "no.zip"))
    with pytest.raises(UserError, match="cannot be read"):
        read_labelled_texts(str(tmp_path / "absent.train"))
    with pytest.raises(UserError, match="split: expected train or heldout"):
        read_labelled_texts("world:sentiment?split=test")


@pytest.mark.real_data
def test_published_data_sets(datasets_folder):
    sst = Counter(label for _, label in labels(datasets_folder / "sst" / "stsa.binary.train"))
    assert sst == {"1": 3610, "0": 3310}
    for name, each in (("sentence_polarity", 5331), ("movie_reviews", 1000)):
        path = datasets_folder / "movie_sentiment" / f"{name}.zip"
        assert Counter(label for _, label in labels(path)) == {"neg": each, "pos": each}
