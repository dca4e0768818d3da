"""Readers on published data: every row becomes a record, or is listed with a reason."""

import json
from itertools import combinations

import pytest
from tiny import tiny_tokenizer

from zhenlong.data import ChatTemplate, read
from zhenlong.data.builtin_templates import BUILTIN_TEMPLATES
from zhenlong.data.dataset_stats import preference_stats
from zhenlong.data.duplicates import exact_duplicates, jaccard, near_duplicates, shingles
from zhenlong.errors import UserError
from zhenlong.records import Demonstration, Document, Ranking, Rating, Task

pytestmark = pytest.mark.real_data

FILES = [
    ("alpaca/alpaca_en_demo.json", Demonstration, 999),
    ("llamafactory_demo/alpaca_zh_demo.json", Demonstration, 1000),
    ("llamafactory_demo/identity.json", Demonstration, 91),
    ("llamafactory_demo/glaive_toolcall_en_demo.json", Demonstration, 300),
    ("llamafactory_demo/v1_sft_demo.jsonl", Demonstration, 500),
    ("llamafactory_demo/reason_tool_use_demo_50.jsonl", Demonstration, 50),
    ("llamafactory_demo/dpo_en_demo.json", Ranking, 300),
    ("llamafactory_demo/v1_dpo_demo.jsonl", Ranking, 10),
    ("llmbar/Natural/dataset.json", Ranking, 100),
    ("llamafactory_demo/kto_en_demo.json", Rating, 300),
    ("llamafactory_demo/c4_demo.jsonl", Document, 300),
    ("llamafactory_demo/wiki_demo.txt?by=line", Document, 30),
    ("self_instruct/t0_sample/imdb_Reviewer_Enjoyment_Yes_No.jsonl", Demonstration, 200),
    ("oasst_sample/en_100_tree.jsonl", Demonstration, 546),
    ("oasst_sample/en_100_tree.jsonl?paths=best", Demonstration, 100),
    ("oasst_sample/en_100_tree.jsonl", Ranking, 212),
    ("gsm8k/test.jsonl", Task, 1319),
    ("gsm8k/train.jsonl.gz", Demonstration, 7473),
    ("aime/aime2024.jsonl", Task, 30),
    ("xstest/xstest_prompts.csv", Task, 450),
]


@pytest.mark.parametrize(("name", "kind", "count"), FILES)
def test_every_published_row_is_a_record(datasets_folder, name, kind, count):
    assert len(read(f"{datasets_folder / name}", kind)) == count


def test_transcripts_give_pairs_and_bad_rows_are_listed(datasets_folder):
    path = f"{datasets_folder / 'hh_rlhf/harmless-base.test.lines1-1500.jsonl.gz'}"
    skipped = []
    rankings = read(path, Ranking, skip_bad_rows=True, skipped=skipped)
    assert len(rankings) + len(skipped) == 1500
    assert [bad.location.rsplit(" ", 1)[1] for bad in skipped] == ["87", "517", "926", "1104", "1255"]
    assert all("\n\nHuman:" not in message.content for ranking in rankings for message in ranking.prompt)
    assert all(ranking.prompt[-1].role == "user" for ranking in rankings)
    with pytest.raises(UserError, match="line 87: responses: expected some text, got an empty response"):
        read(path, Ranking)


def test_gsm8k_references_are_plain_numbers(datasets_folder):
    tasks = read(f"{datasets_folder / 'gsm8k/train.jsonl.gz'}", Task)
    assert all(task.verifier == "math" for task in tasks)
    assert all(task.reference.lstrip("-").replace(".", "", 1).isdigit() for task in tasks)


def test_tool_conversations_preserve_calls_results_and_signatures(datasets_folder):
    records = read(f"{datasets_folder / 'llamafactory_demo/glaive_toolcall_en_demo.json'}", Demonstration)
    turns = [message for record in records for message in record.messages]
    assert sum(len(message.tool_calls) for message in turns) == 211
    assert sum(message.role == "tool" for message in turns) == 211
    assert {len(message.tools) for message in turns if message.role == "system"} >= {1, 2}


@pytest.mark.parametrize("name", BUILTIN_TEMPLATES)
def test_real_conversations_are_scored_turn_by_turn(datasets_folder, name):
    template = ChatTemplate.from_tokenizer(tiny_tokenizer(None), name)
    records = read(f"{datasets_folder / 'llamafactory_demo/glaive_toolcall_en_demo.json'}", Demonstration, limit=40)
    for record in records:
        ids, scored = template.encode_conversation(record.messages)
        last = max(i for i, message in enumerate(record.messages) if message.role == "assistant")
        prompt = template.encode_prompt(record.messages[:last])
        assert ids[: len(prompt)] == prompt
        answers = sum(message.role == "assistant" for message in record.messages)
        assert sum(s and i == template.stop_ids[0] for i, s in zip(ids, scored, strict=True)) == answers


def test_trees_give_the_paths_and_rankings_of_a_tree_walk(datasets_folder):
    path = datasets_folder / "oasst_sample/en_100_tree.jsonl"
    trees = [json.loads(line)["prompt"] for line in path.read_text().splitlines()]

    def walk(node):
        return [node, *(below for reply in node.get("replies", []) for below in walk(reply))]

    nodes = [node for tree in trees for node in walk(tree)]
    ends = [n for n in nodes if n["role"] == "assistant" and all(m["role"] != "assistant" for m in walk(n)[1:])]
    paths = read(f"{path}", Demonstration)
    assert sorted(one.messages[-1].content for one in paths) == sorted(node["text"] for node in ends)
    answers = [
        [r for r in n.get("replies", []) if r["role"] == "assistant" and r.get("rank") is not None] for n in nodes
    ]
    ranked = {tuple(r["text"] for r in sorted(one, key=lambda r: r["rank"])) for one in answers if len(one) > 1}
    found = [sorted(zip(one.ranks, one.responses, strict=True)) for one in read(f"{path}", Ranking)]
    assert {tuple(text for _, text in one) for one in found} == ranked


def test_tool_results_and_signatures_are_not_scored(datasets_folder):
    template = ChatTemplate.from_tokenizer(tiny_tokenizer(None), "chatml")
    records = read(f"{datasets_folder / 'llamafactory_demo/glaive_toolcall_en_demo.json'}", Demonstration, limit=60)
    for record in (one for one in records if any(m.role == "tool" for m in one.messages)):
        ids, scored = template.encode_conversation(record.messages)
        said = template.tokenizer.decode([i for i, s in zip(ids, scored, strict=True) if s])
        assert said.count("<tool_call>") == sum(len(m.tool_calls) for m in record.messages)
        assert "<tool_response>" not in said
        assert "<tools>" not in said


def test_published_preferences_are_not_determined_by_length(datasets_folder):
    rankings = read(f"{datasets_folder / 'llamafactory_demo/dpo_en_demo.json'}", Ranking)
    found = preference_stats(rankings)
    sizes = [(len(one.responses[0]), len(one.responses[1])) for one in rankings]
    assert found.pairs == 300
    assert found.longer_win_rate == sum((a > b) + (a == b) / 2 for a, b in sizes) / 300
    assert found.length_gap_characters == pytest.approx(sum(a - b for a, b in sizes) / 300)


def test_near_duplicates_of_published_rows_equal_those_of_comparing_all(datasets_folder):
    rows = read(f"{datasets_folder / 'alpaca/alpaca_en_demo.json'}", Demonstration, limit=400)
    texts = [one.messages[0].content for one in rows] + [one.messages[0].content + " Please." for one in rows[:20]]
    sets = [shingles(text) for text in texts]
    first = exact_duplicates(texts).first_index
    every = {(i, j) for i, j in combinations(range(len(texts)), 2) if jaccard(sets[i], sets[j]) >= 0.6}
    assert {(i, j) for i, j, _ in near_duplicates(texts, 0.6).pairs} == {
        (i, j) for i, j in every if first[i] == i and first[j] == j
    }
    assert len(every) >= 10


def test_a_self_instruct_file_has_no_known_format(datasets_folder):
    with pytest.raises(UserError, match=r"seed_tasks.jsonl, line 1: no known row format has the fields id, name"):
        read(f"{datasets_folder / 'alpaca/seed_tasks.jsonl'}", Demonstration)
