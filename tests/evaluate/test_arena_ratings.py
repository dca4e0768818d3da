"""Arenas: closed forms of Bradley-Terry, and simulated judges whose style bias control has to remove."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import GroupKFold

from zhenlong.errors import UserError
from zhenlong.evaluate.judges.arena import elo_ratings, fit_strengths, win_rates, with_style_features
from zhenlong.evaluate.judges.arena_hard import (
    PENALTY,
    v01_style_controlled,
    v01_win_rate,
    v2_style_controlled,
    v2_win_rate,
)
from zhenlong.evaluate.judges.bradley_terry import Battle, battle_matrix, fit_bradley_terry
from zhenlong.evaluate.judges.length_control import (
    PUBLISHED_LENGTH_EFFECT,
    cross_validated_inverse_penalty,
    fit_with_prior,
    length_controlled_win_rate,
    read_gamed_baselines,
)
from zhenlong.evaluate.judges.pairwise_games import PairwiseGame
from zhenlong.evaluate.judges.style_control import (
    Style,
    difference_of_counts,
    difference_of_densities,
    measure_style,
    standardize_features,
)
from zhenlong.evaluate.metrics.arena_hard import arena_hard, arena_hard_v01, arena_hard_v2, judge_preferences
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.evaluate.scenarios.instances import load_instances
from zhenlong.evaluate.scenarios.scenario import get_scenario
from zhenlong.inference.requests import GeneratedOutput


def fought(wins: int, ties: int, losses: int, a: str = "a", b: str = "b") -> list[Battle]:
    return [Battle(a, b, score) for score, n in ((1.0, wins), (0.5, ties), (0.0, losses)) for _ in range(n)]


def test_two_models_strengths_differ_by_the_log_odds_of_the_win_rate():
    found = fit_strengths(fought(13, 4, 3))
    assert found.by_model["a"] - found.by_model["b"] == pytest.approx(logit((13 + 2) / 20), abs=1e-5)
    assert found.win_rate("a", "b") == pytest.approx(15 / 20, abs=1e-5)
    assert found.elo("a") - found.elo("b") == pytest.approx(400 * math.log10(15 / 5), abs=1e-2)


def test_the_order_of_the_two_models_does_not_matter():
    turned = [Battle("b", "a", 1 - one.score) for one in fought(13, 4, 3)]
    assert fit_strengths(turned).by_model["a"] == pytest.approx(fit_strengths(fought(13, 4, 3)).by_model["a"], abs=1e-6)


def test_a_weight_is_that_many_battles():
    weighted = [Battle("a", "b", 1.0, 3), Battle("a", "b", 0.0)]
    assert fit_strengths(weighted).win_rate("a", "b") == pytest.approx(0.75, abs=1e-5)


def test_true_strengths_are_recovered():
    truth = {"a": 1.2, "b": 0.3, "c": -0.4, "d": -1.1}
    rng = np.random.default_rng(0)
    battles = []
    for _ in range(3000):
        a, b = rng.choice(list(truth), 2, replace=False)
        battles.append(Battle(a, b, float(rng.random() < expit(truth[a] - truth[b]))))
    found = fit_strengths(battles)
    assert all(abs(found.by_model[name] - truth[name]) < 0.2 for name in truth)
    rated = elo_ratings(battles[:500], anchor="c", points=800, num_resamples=30)
    assert list(rated) == ["a", "b", "c", "d"]
    assert rated["c"].mean == 800
    assert not rated["c"].is_known  # the anchor is set, not measured
    assert rated["a"].ci95[0] < 800 + 400 / math.log(10) * 1.6 < rated["a"].ci95[1]
    against = win_rates(battles[:500], "c", num_resamples=30)
    assert against["a"].mean == pytest.approx(expit((rated["a"].mean - 800) * math.log(10) / 400))
    assert "c" not in against


def test_the_fit_equals_scikit_learns():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 2))
    score = (rng.random(300) < expit(0.4 + x @ [1.0, -0.5])).astype(float)
    battles = [Battle("m", "z", s, 1.0, tuple(row)) for s, row in zip(score, x, strict=True)]
    plain = fit_bradley_terry(battle_matrix(battles), anchor="z")
    theirs = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(np.c_[np.ones(300), x], score)
    assert [plain.by_model["m"], *plain.style] == pytest.approx(theirs.coef_[0], abs=1e-4)

    # upstream's penalised fit: every battle twice, +-ln 10 in the models' columns, C = 1
    doubled = np.concatenate([np.c_[np.full(300, math.log(10)), np.full(300, -math.log(10)), x]] * 2)
    theirs = LogisticRegression(fit_intercept=False, tol=1e-10).fit(doubled, np.concatenate([score, score]))
    ours = fit_bradley_terry(battle_matrix(battles), anchor="z", penalty=PENALTY)
    theirs_in_nats = (theirs.coef_[0][0] - theirs.coef_[0][1]) * math.log(10)
    assert [ours.by_model["m"], *ours.style] == pytest.approx([theirs_in_nats, *theirs.coef_[0][2:]], abs=1e-4)


def test_battles_that_cannot_be_rated_are_a_one_line_error():
    with pytest.raises(UserError, match="no battles"):
        elo_ratings([])
    with pytest.raises(UserError, match="no battle of z"):
        elo_ratings(fought(1, 0, 0), anchor="z")
    with pytest.raises(UserError, match=r"groups of models: a, b \| c, d"):
        elo_ratings([*fought(1, 0, 0), *fought(1, 0, 0, "c", "d")])


def test_markdown_is_counted_outside_of_code():
    answer = "# Title\n\nSome **bold** and __more__ text.\n- one\n* two\n1. three\n```\n# no\n- no\n**no**\n```\n#tag"
    found = measure_style(answer)
    assert (found.headers, found.lists, found.bold) == (1, 3, 2)
    assert found.length > measure_style(answer.split("```")[0]).length


def test_differences_in_style_equal_upstreams():
    a, b = Style(30, 3, 0, 1), Style(10, 0, 0, 1)
    assert difference_of_counts(a, b) == (20 / 41, 3 / 4, 0.0, 0.0)
    d = 3 / 31
    bold = (1 / 31 - 1 / 11) / (1 / 31 + 1 / 11 + 1)
    assert difference_of_densities(a, b) == pytest.approx((0.5, d / (d + 1), 0.0, bold))
    assert difference_of_counts(b, a) == tuple(-value for value in difference_of_counts(a, b))
    values = standardize_features([(1.0, 5.0, 0.0, 2.0), (3.0, 5.0, 1.0, 4.0)], [1, 1], "style", center=True)
    assert values[:, 0].tolist() == [-1.0, 1.0]
    assert values[:, 1].tolist() == [0.0, 0.0]  # never differs: no information, and no division by zero
    assert standardize_features([(1.0, 5.0, 0.0, 2.0)] * 2, [1, 1], "length", center=False).shape == (2, 1)
    assert standardize_features([(1.0, 5.0, 0.0, 2.0)] * 2, [1, 1], "markdown", center=False).shape == (2, 3)
    few, many = [(1.0,) * 4, (4.0,) * 4], [(1.0,) * 4, (4.0,) * 4, (4.0,) * 4, (4.0,) * 4]
    weighted = standardize_features(few, [1, 3], "length", center=True, ddof=1)
    assert weighted[:, 0].tolist() == pytest.approx(
        standardize_features(many, [1] * 4, "length", center=True, ddof=1)[:2, 0].tolist()
    )


def biased(difference, feature: str, strength: float, bias: float, n: int = 150, seed: int = 0) -> list:
    """Questions on which the model has more of a feature than the baseline, with a judge biased towards it.

    The scores are the judge's probabilities, so any remaining bias comes from the method and not from sampling.
    """
    rng = np.random.default_rng(seed)
    asked = []
    for _ in range(n):
        counts = [{"length": int(rng.integers(100, 300)), "headers": 3, "lists": 3, "bold": 3} for _ in range(2)]
        if feature == "length":
            counts[0]["length"] += int(rng.integers(0, 400))
        else:
            counts[0]["headers"], counts[1]["headers"] = int(rng.integers(0, 14)), int(rng.integers(0, 7))
            counts[0]["length"] = counts[1]["length"] = 200
        model, baseline = (Style(**one) for one in counts)
        place = ("length", "headers").index(feature)
        share = float(expit(strength + bias * difference(model, baseline)[place]))
        games = tuple(PairwiseGame(first, share, weight=int(rng.choice([1, 3]))) for first in (False, True))
        asked.append((games, (model, baseline)))
    return asked


VERSIONS = [
    (difference_of_counts, v01_win_rate, v01_style_controlled),
    (difference_of_densities, v2_win_rate, v2_style_controlled),
]


@pytest.mark.parametrize(("difference", "plain", "controlled"), VERSIONS, ids=["v01", "v2"])
@pytest.mark.parametrize(
    ("feature", "own", "other"), [("length", "length", "markdown"), ("headers", "markdown", "length")]
)
@pytest.mark.parametrize("strength", [0.0, -0.6])
def test_control_removes_a_judges_bias_for_the_controlled_feature_only(
    difference, plain, controlled, feature, own, other, strength
):
    asked = biased(difference, feature, strength, bias=60.0 if (feature, plain) == ("headers", v2_win_rate) else 3.0)
    truth = 100 * expit(strength)
    assert plain(asked).mean > truth + 8
    for control in ("style", own):
        assert abs(controlled(asked, control).mean - truth) < 1, control
    if (feature, plain) != ("length", v2_win_rate):  # v2's Markdown is a density: it knows of the length
        assert controlled(asked, other).mean > truth + 8  # controlling for something else takes nothing out


def test_control_changes_nothing_for_an_unbiased_judge():
    for difference, plain, controlled in VERSIONS:
        asked = biased(difference, "length", 0.5, bias=0.0)
        assert controlled(asked, "style").mean == pytest.approx(plain(asked).mean, abs=0.5)


def test_many_models_at_equal_style():
    rng = np.random.default_rng(3)
    truth, habit = {"a": 0.0, "b": 0.0, "c": 0.8}, {"a": 300, "b": 60, "c": 150}
    styles = {name: [Style(int(rng.integers(1, 2 * habit[name])), 0, 0, 0) for _ in range(1500)] for name in truth}
    battles, questions = [], []
    for question in range(1500):
        a, b = rng.choice(list(truth), 2, replace=False)
        x = difference_of_counts(styles[a][question], styles[b][question])[0]
        battles.append(Battle(a, b, float(rng.random() < expit(truth[a] - truth[b] + 2 * x))))
        questions.append(question)
    assert fit_strengths(battles).win_rate("a", "b") > 0.65
    even = fit_strengths(with_style_features(battles, styles, questions))
    assert even.win_rate("a", "b") == pytest.approx(0.5, abs=0.07)
    assert even.win_rate("c", "b") == pytest.approx(expit(0.8), abs=0.07)
    with pytest.raises(UserError, match="control"):
        with_style_features(battles, styles, questions, "colour")


def arena(id: str, verdicts, text: str = "answer", baseline: str = "the baseline's answer") -> Outcome:
    instance = Instance(id, "prompt", groups={"category": "hard_prompt"}, data={"baseline": (baseline,)})
    return Outcome(instance, (GeneratedOutput(text),), metadata={"verdicts": verdicts})


def test_much_better_counts_three_times_and_a_tie_half():
    def score(*verdicts):
        (one,) = arena_hard([arena("a", list(verdicts))], None)
        return one.scores

    assert score("B>A", "A>B") == {"arena_score": 100.0, "judge_consistency": 1.0, "judge_unparsed": 0.0}
    assert score("A>>B", "A>B")["arena_score"] == 25.0  # lost three times as A's opponent, won once as A
    assert score("A=B", "B>>A")["arena_score"] == pytest.approx(12.5)
    assert score("A>B", "A>B")["judge_consistency"] == 0.0
    assert score(None, "A>B") == {"arena_score": 100.0, "judge_unparsed": 0.5}
    assert score(None, None) == {"judge_unparsed": 1.0}
    with pytest.raises(UserError, match="instance a: verdicts"):
        score("A>B")
    with pytest.raises(UserError, match="instance a: verdicts"):
        score("A>B", "better")


def test_upstreams_judgment_rows_are_read():
    row = arena("a", None)
    games = [{"score": "B>>A", "judgment": {}}, {"score": None}]
    (one,) = arena_hard([Outcome(row.instance, row.outputs, metadata={"games": games})], None)
    assert one.scores == {"arena_score": 100.0, "judge_unparsed": 0.5}


def test_an_unparsed_game_drops_itself_in_v01_and_its_question_in_v2():
    bare = [replace(one, outputs=()) for one in (arena("a", ["B>A", "A>B"]), arena("b", [None, "B>A"]))]
    scored = arena_hard(bare, None)
    assert set(arena_hard_v2(scored)) == {"win_rate"}  # verdicts without answers: no style to control for
    assert arena_hard_v01(scored)["win_rate"].mean == pytest.approx(100 * 2 / 3, abs=0.01)
    assert arena_hard_v2(scored)["win_rate"].mean == 100.0
    assert arena_hard_v2(scored)["win_rate"].n == 2
    assert arena_hard_v01(arena_hard([arena("a", [None, None])], None)) == {}


def test_the_plain_rate_of_v01_is_the_weighted_mean_score():
    scored = arena_hard([arena("a", ["B>>A", "A=B"]), arena("b", ["A>B", "B>A"]), arena("c", ["B>A", "A>B"])], None)
    found = arena_hard_v01(scored)
    assert found["win_rate"].mean == pytest.approx(100 * (3 + 0.5 + 2) / 8, abs=0.01)
    assert set(found) == {"win_rate", "win_rate_style", "win_rate_length", "win_rate_markdown"}
    assert not found["win_rate"].is_known  # eight battles
    many = arena_hard([arena(f"{n}", ["B>>A", "A=B"] if n % 2 else ["A>B", "B>A"]) for n in range(12)], None)
    low, high = arena_hard_v01(many)["win_rate"].ci95
    assert low < arena_hard_v01(many)["win_rate"].mean < high


class ByLength:
    """A judge that prefers the longer response in any position."""

    name = "long"

    def __init__(self):
        self.asked = []

    def __call__(self, conversations, **options):
        self.asked += conversations
        found = []
        for messages in conversations:
            a, b = messages[-1].content.split("Assistant B's Answer|>")[:2]
            a = a.split("Assistant A's Answer|>\n")[1].split("\n<|The End")[0]
            b = b.split("\n<|The End")[0].strip()
            found.append(GeneratedOutput("My verdict is [[A>B]]" if len(a) > len(b) else "My verdict is [[B>A]]"))
        return found


def test_a_judge_sees_both_orders_and_its_length_bias_is_reported():
    judge = ByLength()
    asked = [arena("a", None, "x" * 50), arena("b", None, "x" * 5), arena("c", None, "x" * 60)]
    scored = arena_hard(asked, judge)
    assert [one.scores["arena_score"] for one in scored] == [100.0, 0.0, 100.0]
    assert all(one.scores["judge_consistency"] == 1.0 for one in scored)
    found = judge_preferences(scored)
    assert found["judge_prefers_longer"].mean == 1.0
    assert found["judge_prefers_first"].mean == 0.5
    assert len(judge.asked) == 6
    assert json.dumps(scored[0].judgement)  # a record can hold it


def length_data(a: float, c: float, n: int = 300, seed: int = 0):
    rng = np.random.default_rng(seed)
    model, baseline = rng.integers(500, 3500, n), rng.integers(300, 2500, n)
    delta = baseline - model
    preferences = expit(a * np.tanh(delta / delta.std(ddof=1)) + c)
    return preferences, list(zip(model.tolist(), baseline.tolist(), strict=True))


@pytest.mark.parametrize("c", [0.0, -0.5])
def test_the_length_controlled_rate_is_the_judges_preference_at_equal_length(c):
    preferences, lengths = length_data(a=-2.0, c=c)
    found = length_controlled_win_rate(preferences, lengths, length_effect=None)
    assert abs(found.mean - 100 * expit(c)) < 1
    assert abs(100 * preferences.mean() - 100 * expit(c)) > 4
    noisy = (np.random.default_rng(1).random(len(preferences)) < preferences).astype(float)
    low, high = length_controlled_win_rate(noisy, lengths, length_effect=None).ci95
    assert low < 100 * expit(c) < high


def test_without_length_bias_the_length_controlled_rate_is_the_win_rate():
    preferences, lengths = length_data(a=0.0, c=0.4)
    fitted = length_controlled_win_rate(preferences, lengths, length_effect=None)
    assert fitted.mean == pytest.approx(100 * preferences.mean(), abs=0.1)
    same = [(100, 100)] * len(lengths)
    for effect in (None, PUBLISHED_LENGTH_EFFECT):
        found = length_controlled_win_rate(preferences, same, length_effect=effect)
        assert found.mean == pytest.approx(100 * preferences.mean(), abs=0.1)


@pytest.mark.parametrize("length", [100, 400, 1000, 2500])
def test_without_difficulties_the_published_length_effect_keeps_the_rate_near_the_truth(length):
    rng = np.random.default_rng(3)
    n = 805
    baseline, model = rng.gamma(4, 500, n).astype(int), rng.gamma(4, length / 4, n).astype(int)
    x, difficulty = np.tanh((baseline - model) / (baseline - model).std(ddof=1)), rng.normal(size=n)
    preferences = expit(-1.5 * x + 0.9 * difficulty - 1.2)
    hard = (rng.random(n) < preferences).astype(float)
    truth = 100 * expit(0.9 * difficulty - 1.2).mean()
    found = length_controlled_win_rate(hard, list(zip(model.tolist(), baseline.tolist(), strict=True)))
    assert abs(found.mean - truth) < 3
    assert found.ci95[0] < found.mean < found.ci95[1]


def test_the_prior_gives_way_to_many_preferences():
    rng = np.random.default_rng(0)
    x = rng.normal(size=200_000)
    y = expit(0.7 * x + 0.2)
    assert fit_with_prior(x, y, np.ones(len(x)), PUBLISHED_LENGTH_EFFECT) == pytest.approx([0.7, 0.2], abs=0.02)
    few = fit_with_prior(x[:5], y[:5], np.ones(5), PUBLISHED_LENGTH_EFFECT)
    assert few[0] == pytest.approx(PUBLISHED_LENGTH_EFFECT[0], abs=0.05)


def test_the_penalty_equals_scikit_learns_choice():
    preferences, lengths = length_data(a=-1.0, c=0.3, n=60)
    hard = (np.random.default_rng(2).random(60) < preferences).astype(float)
    delta = np.array([b - m for m, b in lengths], dtype=float)
    x = np.stack([np.tanh(delta / delta.std(ddof=1)), np.zeros(60), np.ones(60)], 1)
    ours = cross_validated_inverse_penalty(x, hard, np.ones(60))
    folds = list(GroupKFold(5).split(np.r_[x, x], groups=np.tile(np.arange(60), 2)))
    single = [(train[train < 60], held[held < 60]) for train, held in folds]
    theirs = LogisticRegressionCV(
        cv=single, scoring="neg_log_loss", solver="liblinear", l1_ratios=(1.0,), fit_intercept=False, random_state=123,
        use_legacy_attributes=False,
    ).fit(x, hard)  # fmt: skip
    assert ours == pytest.approx(float(theirs.C_))


def test_upstreams_gamed_rows_bring_the_difficulty(tmp_path):
    rng = np.random.default_rng(0)
    n = 300
    difficulty = rng.normal(size=n)
    lines = ["index,preference,std_delta_len,instruction_difficulty,not_gamed_baseline,model"]
    for sign, name in ((1.0, "short"), (-1.0, "long")):
        for i in range(n):
            delta = sign * (1 + rng.random())
            preferred = expit(-1.5 * math.tanh(delta) + 0.9 * difficulty[i])
            lines.append(f"{i},{preferred:.6f},{delta:.6f},{difficulty[i]:.6f},False,{name}")
    path = tmp_path / "df_gamed.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    gamed = read_gamed_baselines(str(path))
    # a model that is always longer: without the gamed rows its length and its quality cannot be told apart well
    lengths = [(2000 + int(rng.integers(0, 200)), 1000) for _ in range(n)]
    delta = np.array([b - m for m, b in lengths])
    x = np.tanh(delta / delta.std(ddof=1))
    preferences = expit(-1.5 * x + 0.9 * difficulty - 0.4)
    truth = 100 * expit(0.9 * difficulty - 0.4).mean()
    found = length_controlled_win_rate(preferences, lengths, range(n), gamed)
    assert abs(found.mean - truth) < 3
    assert 100 * preferences.mean() > truth + 20
    with pytest.raises(UserError, match="no difficulty for instruction 999"):
        length_controlled_win_rate(preferences, lengths, [999] * n, gamed)
    (tmp_path / "wrong.csv").write_text("index,preference\n1,0.5\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"df_gamed\.csv"):
        read_gamed_baselines(str(tmp_path / "wrong.csv"))


@pytest.mark.real_data
def test_arena_hard_of_the_repository_is_read(datasets_folder):
    instances = load_instances(
        get_scenario("arena_hard_v01"), data=str(datasets_folder / "arena_hard" / "v0.1" / "question.jsonl")
    )
    assert len(instances) == 500
    assert all(one.input.strip() and len(one.id) == 32 for one in instances)
