"""Rankings collected on a model's own answers."""

from random import Random

import pytest
from tiny import tiny_model, tiny_tokenizer

from zhenlong.data import read
from zhenlong.errors import UserError
from zhenlong.feedback import simulate_preferences
from zhenlong.feedback.simulate_preferences import _to_ranking
from zhenlong.models import save_model
from zhenlong.records import Message, Ranking, Task
from zhenlong.sampling import Completion
from zhenlong.world import World, gold_reward
from zhenlong.world.annotators import PanelOptions, make_panel


def said(text: str, truncated: bool = False) -> Completion:
    return Completion((1,), (0.0,), text, truncated)


def test_noiseless_annotators_put_the_better_answer_first():
    people = make_panel(PanelOptions(noise=0.0))
    agreed = total = 0
    for task in World(0).tasks(60, seed=3):
        ranking = _to_ranking(task, [said("Nobody knows that today."), said(task.reference)], Random(0), people)
        if ranking is not None:
            total += 1
            best = ranking.responses[ranking.ranks.index(1)]
            agreed += gold_reward(task.prompt, best) == max(gold_reward(task.prompt, r) for r in ranking.responses)
    assert total > 30
    assert agreed >= 0.95 * total  # tastes may still turn a near tie


def test_cut_off_empty_and_repeated_answers_are_not_shown():
    task = Task((Message("user", "Where does Mira live?"),), verifier="world")
    shown = [said("Pell."), said("Pell."), said("  "), said("Pell and", truncated=True)]
    assert _to_ranking(task, shown, Random(0), make_panel(PanelOptions(1))) is None


def test_the_file_is_read_back_as_rankings_and_is_the_same_for_the_same_seed(tmp_path):
    save_model(tiny_model(), tiny_tokenizer(), tmp_path / "model")

    def ask(name: str, seed: int) -> str:
        try:
            path = simulate_preferences(
                model=str(tmp_path / "model"), tasks="world:tasks?n=12", output=str(tmp_path / name),
                samples_per_prompt=3, max_tokens=12, noise=0.0, length_bias=1.0, seed=seed,
            )  # fmt: skip
        except UserError as error:
            return str(error)
        assert all(isinstance(one, Ranking) for one in read(str(path), Ranking))
        return path.read_text()

    assert ask("a", 1) == ask("b", 1)


def test_one_response_cannot_be_ranked(tmp_path):
    with pytest.raises(UserError, match="samples_per_prompt: expected 2 or more"):
        simulate_preferences(model="none", tasks="world:tasks?n=1", output=str(tmp_path), samples_per_prompt=1)
