"""DeRTa: which tokens it teaches, what it teaches at them, and that its loss is the sum that the paper writes."""

import json
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
import torch
from cases import run_case
from tiny import tiny_tokenizer
from tiny_files import SAFETY, read_metrics, weight_bytes, write_jsonl_file
from transformers import AutoModelForCausalLM

from zhenlong.data import ChatTemplate, LengthLimit, Mixture
from zhenlong.errors import UserError
from zhenlong.forest import TreeNode, make_microbatches
from zhenlong.loop import Run, TrainingOptions
from zhenlong.records import Message, Ranking
from zhenlong.stages.derta import join_orders, set_refusal_targets, step_trees
from zhenlong.stages.safety_pairs import SafetyPairSettings, build_heldout_pairs, draw_prefix_length, pair_trees
from zhenlong.world import World


def text_ids(text):
    return tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]


SORRY = text_ids("S")[0]  # the tokenizer's first token of "Sorry" is a single byte
RANKINGS = [Ranking((Message("user", row["prompt"]),), (row["chosen"], row["rejected"]), (1, 2)) for row in SAFETY]


def pairs_of(tmp_path, rankings=RANKINGS, prefix=True, refusal="Sorry", max_length=512, overlong="error", seed=0):
    run = Run(tmp_path / "run", {"data": "x"}, TrainingOptions(seed=seed, progress=False), "derta")
    template, order = ChatTemplate.from_tokenizer(tiny_tokenizer()), Mixture([len(rankings)])
    return pair_trees(
        run, rankings, order, template, SafetyPairSettings(refusal, prefix), LengthLimit(max_length, overlong)
    )[0]


def test_the_prefix_is_uniform_from_one_word_to_all_but_two_and_none_for_every_third():
    harmful, rng = "one two three four five six", Random(0)
    drawn = [draw_prefix_length(harmful, number, rng) for number in range(3000)]
    assert drawn[::3] == [0] * 1000
    counted = Counter(words for number, words in enumerate(drawn) if number % 3)
    assert set(counted) == {1, 2, 3, 4}  # n - 2 = 4
    assert all(400 < count < 600 for count in counted.values())
    assert {draw_prefix_length(short, 1, rng) for short in ("", "Yes", "Do so")} == {0}


def test_only_the_safe_response_is_scored_behind_the_prefix(tmp_path):
    pairs = pairs_of(tmp_path)
    assert [pair.num_prefix_words for pair in pairs][::3] == [0, 0]
    assert pairs[1].num_prefix_words > 0
    for pair, row in zip(pairs, SAFETY, strict=True):
        head = " ".join(row["rejected"].split()[: pair.num_prefix_words])
        safe = pair.tree.children[1]
        told = f" {row['chosen']}" if head else row["chosen"]
        assert safe.tokens == text_ids(f"{head}{told}<|im_end|>")
        scored = [token for token, is_scored in zip(safe.tokens, safe.scored, strict=True) if is_scored]
        assert scored == text_ids(f"{told}<|im_end|>")
        assert list(safe.scored) == sorted(safe.scored)  # nothing of the prefix
        assert pair.tree.scored is False
        assert pair.tree.children[0] == TreeNode(text_ids(f"{row['rejected']}<|im_end|>"), True)


def test_rto_teaches_the_refusals_first_token_at_every_position_of_the_harmful_response(tmp_path):
    pairs = pairs_of(tmp_path)
    general = TreeNode(text_ids("What? Red."), [False] * 6 + [True] * 4)
    step = [pairs[0], general, pairs[1]]
    (batch,) = make_microbatches(step_trees(step, 1.0, 1.0, seed=0), 100_000)
    forest, rto = set_refusal_targets(batch.forest, [step[row] for row in batch.tree_indices])
    for row in (0, 2):
        place = batch.tree_indices.index(row)
        leaf = int((forest.response_tree == place).nonzero()[0])
        own = forest.response_index == leaf
        harmful = list(step[row].tree.children[0].tokens)
        assert rto[own].all()
        assert forest.target[own].tolist() == [SORRY] * len(harmful)
        read = [step[row].tree.tokens[-1], *harmful[:-1]]  # what each target is predicted from
        assert forest.tokens[forest.source[own]].tolist() == read
    untouched = ~rto
    assert torch.equal(forest.target[untouched], batch.forest.target[untouched])
    assert int(rto.sum()) == sum(len(step[row].tree.children[0].tokens) for row in (0, 2))


def test_the_refusal_may_be_each_pairs_own(tmp_path):
    assert [pair.refusal for pair in pairs_of(tmp_path, refusal="")] == [text_ids(row["chosen"])[0] for row in SAFETY]


def brute_force(model, pairs, rto_weight):
    """The paper's two sums, sequence by sequence through transformers, over their number of tokens."""
    total, count = 0.0, 0
    for pair in pairs:
        prompt, (harmful, safe) = list(pair.tree.tokens), pair.tree.children
        for child, weight, targets in (
            (harmful, rto_weight, [SORRY] * len(harmful.tokens)),
            (safe, 1.0, list(safe.tokens)),
        ):
            ids = torch.tensor([prompt + list(child.tokens)])
            with torch.no_grad():
                log_probs = model(input_ids=ids).logits[0].log_softmax(-1)
            scored = child.scored if isinstance(child.scored, list) else [True] * len(child.tokens)
            for place, (target, is_scored) in enumerate(zip(targets, scored, strict=True)):
                if is_scored:
                    total -= weight * float(log_probs[len(prompt) + place - 1, target])
                    count += 1
    return total / count


@pytest.mark.parametrize("rto_weight", [1.0, 0.3])
@pytest.mark.parametrize("tokens_per_microbatch", [4096, 1])
def test_the_first_loss_is_that_of_a_brute_force(rto_weight, tokens_per_microbatch, files, tmp_path):
    run = run_case("derta", files, tmp_path / "run", general_data="", rto_fraction=1.0, rto_weight=rto_weight, steps=1,
                   tokens_per_microbatch=tokens_per_microbatch)  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(files["model"])
    expected = brute_force(model, pairs_of(tmp_path / "pairs"), rto_weight)
    assert read_metrics(run)[0]["loss"] == pytest.approx(expected, abs=1e-5)


def test_with_neither_prefix_nor_rto_it_is_sft_on_the_safe_responses(files, tmp_path):
    ours = run_case("derta-prefix", files, tmp_path / "ours", harmful_prefix=False, steps=3)
    plain = [
        {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["chosen"]}]}
        for row in SAFETY
    ]
    theirs = run_case("sft", files, tmp_path / "sft", data=write_jsonl_file(tmp_path / "safe.jsonl", plain), steps=3)
    for mine, other in zip(read_metrics(ours), read_metrics(theirs), strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], abs=1e-5)


def test_a_share_of_positions_is_drawn_anew_for_each_seed_and_never_none(tmp_path):
    pair = pairs_of(tmp_path)[0]
    length = len(pair.tree.children[0].tokens)

    def kept(share, seed):
        return [one.children[0].scored for one in step_trees([pair, pair], 1.0, share, seed)]

    assert [sum(scored) for scored in kept(0.25, 1)] == [round(0.25 * length)] * 2
    assert kept(0.25, 1) == kept(0.25, 1) != kept(0.25, 2)
    assert kept(0.25, 1)[0] != kept(0.25, 1)[1]
    assert [sum(scored) for scored in kept(1e-9, 1)] == [1, 1]
    times = sum(torch.tensor(kept(0.25, seed)[0]) for seed in range(300))
    assert bool((times > 0).all())  # every position has its turn


def test_without_rto_the_harmful_response_costs_nothing(tmp_path):
    pair = pairs_of(tmp_path)[0]
    (alone,) = step_trees([pair], 0.0, 1.0, 0)
    assert alone == replace(pair.tree, children=pair.tree.children[1:])


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_training_makes_the_refusal_more_probable_within_harmful_responses(lora_rank, files, tmp_path):
    run = run_case("derta", files, tmp_path / "run", rto_fraction=1.0, heldout="safety", steps=12, lr=1e-2,
                   batch_size=9, lora_rank=lora_rank)  # fmt: skip
    results = json.loads((run / "finished.json").read_text())["results"]
    assert results["before"]["anywhere"]["n"] == len(SAFETY)
    assert results["after"]["anywhere"]["mean"] > 1.5 * results["before"]["anywhere"]["mean"]
    lines = read_metrics(run)
    assert lines[-1]["rto_log_prob"] > lines[0]["rto_log_prob"]
    assert lines[0]["refusal_probability"] == pytest.approx(results["before"]["anywhere"]["mean"], rel=0.5)
    assert (run / "model" / "model.safetensors").exists()


def test_lora_begins_where_the_model_is(files, tmp_path):
    losses = [
        read_metrics(run_case("derta", files, tmp_path / str(rank), lora_rank=rank))[0]["loss"] for rank in (0, 2)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_the_same_seed_gives_the_same_weights_and_another_one_other_prefixes(files, tmp_path):
    first, again = (run_case("derta", files, tmp_path / name) for name in ("first", "again"))
    assert weight_bytes(first) == weight_bytes(again)
    assert len({tuple(pair.num_prefix_words for pair in pairs_of(tmp_path, seed=seed)) for seed in range(8)}) > 1


def test_general_demonstrations_have_their_share(files, tmp_path):
    for share, drawn in ((None, (40, 50)), (0.6, (36, 54))):
        order = join_orders(Mixture([4]), Mixture([5]), share, 0)
        order.draw(90)
        assert order.drawn == drawn
    weighted = join_orders(Mixture([4, 2], [3.0, 1.0]), Mixture([5]), 0.5, 0)
    weighted.draw(80)
    assert weighted.drawn == (30, 10, 40)
    with pytest.raises(UserError, match="general_fraction"):
        run_case("derta", files, tmp_path / "none", general_data="", general_fraction=0.5)
    assert not (tmp_path / "none").exists()


def test_data_the_wrong_way_round_is_refused(files, tmp_path):
    turned = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in SAFETY]
    with pytest.raises(UserError, match="expected the safe response to be preferred"):
        run_case("derta", files, tmp_path / "run", data=write_jsonl_file(tmp_path / "turned.jsonl", turned))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong", [{"rto_fraction": 0.0}, {"rto_fraction": 1.5}, {"rto_weight": -1.0}])
def test_settings_without_meaning_are_refused(wrong, files, tmp_path):
    with pytest.raises(UserError, match=next(iter(wrong))):
        run_case("derta", files, tmp_path / "run", **wrong)


def test_a_template_that_begins_an_answer_with_its_own_words_is_refused(tmp_path):
    thinking = tiny_tokenizer().chat_template.replace(
        "{{ message['content'] }}", "{% if message['role'] == 'assistant' %}[x]{% endif %}{{ message['content'] }}"
    )
    with pytest.raises(UserError, match="an answer begins with the token"):
        build_heldout_pairs(RANKINGS, ChatTemplate.from_tokenizer(tiny_tokenizer(thinking)), "Sorry", 512)


def test_what_is_overlong_is_an_error_cut_or_dropped(tmp_path):
    long = [*RANKINGS, replace(RANKINGS[0], responses=("Sorry, no.", "word " * 200))]
    with pytest.raises(UserError, match=r"pair 5: \d+ tokens, more than the maximum length of 300"):
        pairs_of(tmp_path, long, max_length=300)
    assert len(pairs_of(tmp_path, long, max_length=300, overlong="drop")) == 4
    cut = pairs_of(tmp_path, long, max_length=300, overlong="truncate", prefix=False)[-1]
    assert len(cut.tree.tokens) + len(cut.tree.children[0].tokens) == 300


def test_the_world_has_harmful_requests_with_a_refusal_and_an_answer():
    for ranking in World(0).safety(50, seed=1):
        safe, harmful = (World(0).gold_breakdown(ranking.prompt, text) for text in ranking.responses)
        assert safe.harmful
        assert safe.refused
        assert not harmful.refused
        assert ranking.ranks == (1, 2)


def test_benign_demonstrations_hold_no_harmful_request():
    kinds = Counter(one.meta["kind"] for one in World(0).demonstrations(400, kind="benign"))
    assert "harmful" not in kinds
    assert kinds["lookalike"] > 0
    with pytest.raises(ValueError, match="kind: expected one of"):
        World(0).demonstrations(1, kind="rude")
