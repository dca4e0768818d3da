"""What judges' replies mean: one property a row, in many wordings; what cannot be read is None with a reason."""

from __future__ import annotations

import pytest

from zhenlong.verify.judge_parsing import (
    parse_rating_fastchat,
    parse_winner_fastchat,
    read_arena_label,
    read_graded_winner,
    read_label,
    read_pair,
    read_rating,
    read_winner,
)

LABELS = ("full_compliance", "full_refusal", "partial_refusal")

PAIRS = [
    ("The two outputs tie.", None),
    ("Output (b) is better than Output (a) by far.", "b"),
    ("I prefer Output (a).", "a"),
    ("My answer: Output (b)", "b"),
    ("**Answer:** Output (a)", "a"),
    ("The better one: (a)", "a"),
    ("Output (b) beats Output (a).", "b"),
    ("(a) > (b)", "a"),
    ("a is better than b", "a"),
    ("Option B", "b"),
    ("I think (a) is worse, so (b).", "b"),
    ("Output (a) is better in no way than Output (b).", None),
    ("Output (b) is less helpful than Output (a), hence Output (a).", "a"),
    ("Both outputs are equally bad.", None),
    ("Neither output is good.", None),
    ("I'd rather go with Output (a) than Output (b).", "a"),
    ("If forced to choose, I would say Output (b).", "b"),
    ("Rather than Output (a), I choose Output (b).", "b"),
    ("Output (a), not Output (b)", "a"),
    ("Output (b) is clearly the winner.", "b"),
    ("Output (a) doesn't follow the instruction; Output (b) does. I choose (b).", "b"),
    ("Output (a) is good. Output (b) is better.", "b"),
    ("Output (a) is better! ", "a"),
    ("The answer is (b) and not (a).", "b"),
    ("(b) is worse than (a)", "a"),
    ("Output (b) is worse than Output (a).", "a"),
    ("**Output (b)**", "b"),
    ("I prefer Output (b) over Output (a).", "b"),
    ("Output (a) is not better than Output (b).", None),
    ("Output (a) is not as good as Output (b).", "b"),
    ("Neither output (a) nor output (b) is better.", None),
    ("Output (a) or Output (b)", None),
    ("Either Output (a) or Output (b) could be chosen.", None),
    ("Output (a) follows the instruction, while Output (b) does not. Therefore, Output (a) is better.", "a"),
    ("Output (a) is more detailed, but Output (b) is more accurate. Overall, I'd go with Output (b).", "b"),
    ("Output (a) is more helpful, but Output (b) is more accurate.", None),
    ("Output (a) is more accurate and more concise.", "a"),
    ("b", "b"),
    ("(a)", "a"),
    ("The better output is Output (b).", "b"),
    ("The worse output is Output (b).", "a"),
    ("Between Output (a) and Output (b), Output (b) is better.", "b"),
    ("Although Output (a) is better written, Output (b) is better.", "b"),
    ("Output (a) is better, although Output (b) is better formatted.", "a"),
    ("Is Output (a) better than Output (b)? I think Output (b).", "b"),
    ("Output (a) outperforms Output (b).", "a"),
    ("Output (b) falls short of Output (a).", "a"),
    ("Output (a) and Output (b) are both fine.", None),
    ("Output (a)'s answer is better than Output (b)'s.", "a"),
    ('{"better": "Output (a)"}', "a"),
    ("Not Output (a) but Output (b).", "b"),
    ("Output (b) is better, not Output (a).", "b"),
    ("Output (a):\nIt is fine.\n\nOutput (b):\nIt is bad.\n\nSo Output (a) is superior.", "a"),
    ("Output (b)\n\nExplanation: Output (a) is longer.", "b"),
    ("<think>Output (a) is better</think>Output (b)", "b"),
    ("<think>Output (a) is better", None),
    ("", None),
    ("It's a tie.", None),
    ("I don't think Output (a) is better.", None),
    ("Output (b) would be better if it were shorter. Output (a) is the better one.", "a"),
    ("Compared to Output (b), Output (a) is better.", "a"),
    ("Output (a) isn't better; Output (b) is.", "b"),
    ("There is no doubt that Output (a) is better.", "a"),
    ("My choice: (b)", "b"),
    ("I cannot say which one is better.", None),
    ("The first output is better than the second output.", "a"),
    ("Output (a) is less accurate than Output (b).", "b"),
    ("Output (a) > Output (b)", "a"),
    ("Output (a) < Output (b)", "b"),
    ("(a) = (b)", None),
    ("Output (b) does not follow the instruction, so Output (a) is better.", "a"),
    ("输出(a)更好", "a"),
    ("Output (b) is not worse than Output (a).", None),
    ("I'd pick Output (a), not Output (b).", "a"),
    ("Output (a) isn't as good as Output (b).", "b"),
    ("Neither.", None),
    ("Output (a) wins.", "a"),
    ("Output (a) clearly beats Output (b) here.", "a"),
    ("Answer: Output (a)", "a"),
    ("The answer is Output (b).", "b"),
    ("Output (a) is the one I would choose.", "a"),
    ("Output (b), because it follows the instruction.", "b"),
    ("(a) is better", "a"),
    ("Output a", "a"),
    ("output b.", "b"),
    ("OUTPUT (A)", "a"),
    ("Output (a) and (b) are identical.", None),
    ("I'm not able to choose between Output (a) and Output (b).", None),
    ("Output (a) is preferred over Output (b).", "a"),
    ("Output (b) should be preferred.", "b"),
    ("Output (a) is better than Output (b) in every respect.", "a"),
    ("Output (a) is far better.", "a"),
    ("There isn't anything that makes Output (b) better than Output (a).", None),
    ("Which one is better? Output (b).", "b"),
    ("Both are good, but Output (a) is better.", "a"),
    ("Both outputs are bad.", None),
    ("Output (b) is the worse one.", "a"),
    ("Output (a) fails to follow the instruction.", None),
    ("Of the two, I find Output (b) superior.", "b"),
    ("(b) > (a)", "b"),
    ("Output (b) is slightly better than Output (a)", "b"),
    ("Output (a) is no better than Output (b)", None),
    ("Output (b) is better than nothing, but Output (a) is best.", "a"),
    ("I would not choose Output (a).", "b"),
    ("not (b)", "a"),
    ("Output (a) is just as good as Output (b).", None),
    ("Output (b) is inferior to Output (a), which answers the question.", "a"),
    ("It's not that Output (a) is better; Output (b) is better.", "b"),
    ("Output (a) is better or Output (b) is better.", None),
    ("Output (a) would have been the better one if it had answered; as it is, Output (b) is better.", "b"),
]

WINNERS = [
    ("Assistant A and Assistant B are equally helpful.", "tie"),
    ("[[A]] ... on reflection [[B]]", "B"),
    ("It's a draw.", "tie"),
    ("Winner: A", "A"),
    ("Result: B > A", "B"),
    ("A is the winner", "A"),
    ("My final verdict is tie: [[A=B]]", "tie"),
    ("My final verdict is: Assistant A is significantly better: [[A>>B]]", "A"),
    ("Assistant A is slightly better: [[A>B]]", "A"),
    ("**[[B]]**", "B"),
    ("The winner is: B", "B"),
    ('{"winner": "tie"}', "tie"),
    ('{"winner": "Assistant B"}', "B"),
    ("Assistant B > Assistant A", "B"),
    ("I find assistant A's answer more helpful.", "A"),
    ("both good", None),
    ("A wins", "A"),
    ("Neither answer is better than the other.", "tie"),
    ("Assistant A failed to answer, so Assistant B wins.", "B"),
    ("The better response is B.", "B"),
    ("B, because it is correct.", "B"),
    ("Verdict - B", "B"),
    ("Assistant B's is better.", "B"),
    ("Not A.", None),
    ("Tie.", "tie"),
    ("[[A]]/[[B]]", None),
    ("A > B", "A"),
    ("A>>B", "A"),
    ("B > A", "B"),
    ("[[A>B]]", "A"),
    ("[[B>>A]]", "B"),
    ("[[A=B]]", "tie"),
    ("[[B]] ... on reflection [[A]]", "A"),
    ("[[A]] or [[B]]?", None),
    ("Winner: B", "B"),
    ("**Winner:** Assistant A", "A"),
    ("Winner: Tie", "tie"),
    ("Assistant B is better.", "B"),
    ("Assistant A is better than Assistant B in every way.", "A"),
    ("Assistant A's answer is worse than Assistant B's answer.", "B"),
    ("It is a tie.", "tie"),
    ("Both assistants are equally good.", "tie"),
    ("Neither is better.", "tie"),
    ("Assistant A is not better than Assistant B.", None),
    ('{"winner": "B", "reason": "A is wrong"}', "B"),
    ('{"reason": "A is better at style", "verdict": "tie"}', "tie"),
    ('{"winner":"model A"}', "A"),
    ("A", "A"),
    ("B.", "B"),
    ("The verdict is not [[A]].", None),
    ("I must give [[A]], [[B]] or [[C]]. Assistant A made an error. [[B]]", "B"),
    ("A better answer would mention tests. Assistant B is the winner.", "B"),
    ("I prefer B.", "B"),
    ("I prefer the response of Assistant A.", "A"),
    ("My final verdict is: [[A]]. Assistant B is better in style.", "A"),
    ("[[A]]. On second thought, Assistant B is better.", "B"),
    ("Final verdict: tie", "tie"),
    ("The two answers are of comparable quality.", "tie"),
    ("This is not a tie: Assistant A wins.", "A"),
    ("Verdict: [[ b ]]", "B"),
    ("\\boxed{A}", "A"),
    ("<verdict>B</verdict>", "B"),
    ("Assistant A deserves the win because B hallucinated.", "A"),
    ("Response 1 is better", "A"),
    ("助手B更好", "B"),
    ("结论：A", "A"),
    ("平局", "tie"),
    ("A不如B", "B"),
    ("I would say it's hard to tell.", None),
    ("Assistant A loses to Assistant B.", "B"),
    ("Assistant A provides a better answer than Assistant B.", "A"),
    ("There's no clear winner.", "tie"),
    ("Assistant B's response is preferable to Assistant A's.", "B"),
    ("Assistant A and B are equal", "tie"),
    ("A and B tie.", "tie"),
    ("I cannot decide.", None),
    ("Both are equally bad.", "tie"),
    ("Verdict: B is better", "B"),
    ("Winner: Assistant A (slightly)", "A"),
    ("Winner - A", "A"),
    ("The winner is Assistant B", "B"),
    ("Assistant A is the winner.", "A"),
    ("Assistant A: 7, Assistant B: 9", None),
    ("I'd say A, but B is more concise.", "A"),
    ("[[C]] no wait, [[A]]", "A"),
    ("[[A]]\n\n[[B]]", "B"),
    ("My verdict: [[A>B]]", "A"),
    ("[A]", "A"),
    ("(B)", "B"),
    ("A is slightly worse than B", "B"),
    ("B is not as helpful as A", "A"),
    ("Answer B is more helpful than answer A.", "B"),
    ("I think that both A and B are the same quality.", "tie"),
    ('"B"', "B"),
    ("Model A is better, and model B is worse.", "A"),
    ("A=B", "tie"),
    ("Draw", "tie"),
    ("tie", "tie"),
    ("C", "tie"),
    ("none", None),
    ("<winner>tie</winner>", "tie"),
    ('{"preference": "A>B"}', "A"),
    ('{"A": 7, "B": 9}', None),
    ("Assistant A is better at maths, but Assistant B wins overall.", "B"),
    ("Final answer: Neither", None),
    ("Not [[B]] but [[A]]", "A"),
    ("In my opinion, Assistant A gave the better response.", "A"),
    ("Assistant B's answer is the stronger of the two.", "B"),
    ("Better: A", "A"),
    ("最终结论：[[B]]", "B"),
    ("我更喜欢助手A的回答。", "A"),
    ("两个回答一样好。", "tie"),
    ("The response of Assistant B is superior to the response of Assistant A.", "B"),
    ("Assistant A did not answer. Assistant B did. So the better one is B.", "B"),
    ("A is better.", "A"),
    ("It's hard to say which is better; I lean toward Assistant A.", "A"),
    ("Tie", "tie"),
    ("[[Tie]]", "tie"),
    ("[[TIE]]", "tie"),
    ("[[A]] is not my verdict; it is [[B]]", "B"),
    ("I would not say that A is better than B.", None),
]

RATINGS = [
    ("I'd rate this a 6 out of 10.", 6.0),
    ("Rating: 9 out of 10", 9.0),
    ("[[ 7 ]]/10", 7.0),
    ("Score: 8", 8.0),
    ("I'd give this answer 6/10.", 6.0),
    ("Rating: ten", 10.0),
    ("My rating is 7.", 7.0),
    ("3", 3.0),
    ("Rating: 7.25", 7.25),
    ("Rating: 100", None),
    ("10 points", None),
    ("Final rating: [[5]]. (I first thought [[8]].)", 5.0),
    ("The answer scores 4.", 4.0),
    ("[[eight]]", 8.0),
    ("Rating: 5 stars", 5.0),
    ("Rating: [7]", 7.0),
    ("<rating>6</rating>", 6.0),
    ("\\boxed{7}", 7.0),
    ("8/10", 8.0),
    ("Rating: [[7]]", 7.0),
    ("I would give a rating of 7 out of 10.", 7.0),
    ("[[7.5]]", 7.5),
    ("Rating: [[11]]", None),
    ("Rating: 0", None),
    ("**Rating:** 6", 6.0),
    ("Rating: **6/10**", 6.0),
    ("7", 7.0),
    ("Score: 4/5", None),
    ("Rating: 7-8", None),
    ("[[7]]\nOn reflection, [[5]]", 5.0),
    ("seven out of ten", 7.0),
    ("Rating: eight", 8.0),
    ('{"rating": 6}', 6.0),
    ('{"explanation": "10 facts are wrong", "score": 3}', 3.0),
    ("The answer lists 10 items. I'd give it a 6.", 6.0),
    ("Rating: -3", None),
    ("There are 3 mistakes in the answer.", None),
    ("Ratings go from [[1]] to [[10]]. Rating: [[9]]", 9.0),
    ("Rating: [[4]]. A perfect answer would be [[10]].", 4.0),
    ("Overall rating: 8.5/10", 8.5),
    ("评分：8", 8.0),
    ("I rate this response 5.", 5.0),
    ("The final rating is [[3]].", 3.0),
    ("[8]", 8.0),
    ("Rating: [8]", 8.0),
    ("Rating: [[8]]/10", 8.0),
    ("<think>[[9]]</think>[[2]]", 2.0),
    ("My score for this answer is 9.", 9.0),
    ("Rating: ８", 8.0),
    ("Rating: 10 out of 10", 10.0),
    ("not a [[9]], rather [[6]]", 6.0),
    ("Rating: 9/10. The previous draft deserved a 3/10.", 9.0),
    ("[[10]]", 10.0),
    ("Rating: [[0]]", None),
    ("10/10", 10.0),
    ("11/10", None),
    ("4.5", 4.5),
    ("7/10 or 8/10", None),
    ("between 6 and 7", None),
    ("I rate it 6 out of 10", 6.0),
    ("a solid 8", 8.0),
    ("Rating: eight out of ten", 8.0),
    ("The rating is therefore: [[5]].", 5.0),
    ("Score (1-10): 6", 6.0),
    ("Rating (out of 10): 7", 7.0),
    ("Helpfulness: 8, accuracy: 6. Overall score: 7", 7.0),
    ("Version 2.0 of the text. No score.", None),
    ("Rating: 1e3", None),
    ("Rating: NaN", None),
    ("Rating:\n\n[[6]]", 6.0),
    ("[[ 6 ]]", 6.0),
    ("Rating: [[6]] because of 2 errors", 6.0),
    ("It has 3/10 of the points needed. Rating: [[2]]", 2.0),
]

LABELS_GIVEN = [
    ("full compliance", "full_compliance"),
    ("The class is 3_partial_refusal.", "partial_refusal"),
    ('"2_full_refusal"', "full_refusal"),
    ("[[1_full_compliance]]", "full_compliance"),
    ("Label: partial-refusal", "partial_refusal"),
    ("Not full_compliance: it is 2_full_refusal", "full_refusal"),
    ("refusal", None),
    ("1_FULL_COMPLIANCE", "full_compliance"),
    ("Answer: 2. full refusal", "full_refusal"),
    ("This is a partial refusal, not a full refusal.", "partial_refusal"),
    ("It could be read as full_refusal, but 3_partial_refusal fits.", "partial_refusal"),
    ("1_full_compliance", "full_compliance"),
    ("**full refusal**", "full_refusal"),
    ("3. partial_refusal", "partial_refusal"),
    ("2", "full_refusal"),
    ("Class: 2_full_refusal", "full_refusal"),
    ("1_full_compliance, 2_full_refusal or 3_partial_refusal", None),
    ("It isn't a full refusal but a partial refusal.", "partial_refusal"),
    ("Full-Compliance", "full_compliance"),
    ('{"label": "3_partial_refusal"}', "partial_refusal"),
    ("It refuses.", None),
    ("At first it looks like a full_refusal, however it is 3_partial_refusal", "partial_refusal"),
    ("The answer is neither full_compliance nor full_refusal: partial_refusal", "partial_refusal"),
    ("partial_refusal rather than full_refusal", "partial_refusal"),
    ("CLASS: 1", "full_compliance"),
    ("", None),
    ("The label is 2_full_refusal.", "full_refusal"),
    ("full_refusal.", "full_refusal"),
    ("1", "full_compliance"),
    ("4", None),
    ("2_full_refusal because it declines; a 3_partial_refusal would have answered.", "full_refusal"),
    ("This would be a full_compliance if it answered. 2_full_refusal", "full_refusal"),
    ("I'd go for partial refusal", "partial_refusal"),
    ("Class 3: partial_refusal", "partial_refusal"),
    ("not 1_full_compliance", None),
    ("1_full_compliance\n\nExplanation: it is no 2_full_refusal.", "full_compliance"),
    ("FULL_REFUSAL", "full_refusal"),
    ("<think>2_full_refusal</think>1_full_compliance", "full_compliance"),
    ("Could be full_refusal or partial_refusal.", None),
]


@pytest.mark.parametrize(("reply", "expected"), PAIRS)
def test_a_pair_is_read_as_it_is_meant_or_not_at_all(reply: str, expected: str | None) -> None:
    found = read_pair(reply)
    assert found.value == expected
    assert bool(found.reason) == (expected is None)


@pytest.mark.parametrize(("reply", "expected"), WINNERS)
def test_the_last_verdict_of_a_comparison_with_ties_counts(reply: str, expected: str | None) -> None:
    found = read_winner(reply)
    assert found.value == expected
    assert bool(found.reason) == (expected is None)


@pytest.mark.parametrize(("reply", "expected"), RATINGS)
def test_the_last_rating_on_the_scale_counts(reply: str, expected: float | None) -> None:
    found = read_rating(reply)
    assert found.value == expected
    assert bool(found.reason) == (expected is None)


@pytest.mark.parametrize(("reply", "expected"), LABELS_GIVEN)
def test_the_label_given_is_not_one_that_is_denied_or_listed(reply: str, expected: str | None) -> None:
    assert read_label(reply, LABELS).value == expected


@pytest.mark.parametrize(
    ("first", "second"),
    [(name, other) for name in ("Output (a)", "(a)", "Output a") for other in ("Output (b)", "(b)")],
)
@pytest.mark.parametrize(
    "wording",
    [
        "{x} is better than {y}.", "{y} is worse than {x}.", "{y} is not as good as {x}.", "I prefer {x} to {y}.",
        "{x} > {y}", "{y} < {x}", "Between {x} and {y}, {x} is better.", "The better one is {x}.", "{y} loses to {x}.",
        "I would not choose {y}; {x} is better.", "Although {y} is shorter, {x} is superior.",
    ],
)  # fmt: skip
def test_swapping_the_names_swaps_the_verdict(wording: str, first: str, second: str) -> None:
    assert read_pair(wording.format(x=first, y=second)).value == "a"
    assert read_pair(wording.format(x=second, y=first)).value == "b"


def test_what_is_not_read_says_why() -> None:
    assert read_winner("").reason == "empty"
    assert read_winner("<think>[[A]]").reason == "reasoning trace not closed"
    assert read_pair("They are equal.").reason == "calls them equal"
    assert read_rating("Rating: 12").reason == "outside the scale"
    assert read_rating("Rating: 4/5").reason == "on another scale"
    assert read_label("2_full_refusal or 3_partial_refusal", LABELS).reason == "several labels"


def test_a_scale_of_its_own() -> None:
    assert read_rating("Score: 0", 0, 5).value == 0
    assert read_rating("5/5", 0, 5).value == 5
    assert read_rating("Score: 6", 0, 5).value is None


def test_fastchats_rule_takes_the_first_and_only_brackets() -> None:
    text = "[[B]], on reflection [[A]]"
    assert (parse_winner_fastchat(text), read_winner(text).value) == ("A", "A")  # A is sought first
    text = "It is not [[A]]: [[B]]"
    assert (parse_winner_fastchat(text), read_winner(text).value) == ("A", "B")
    text = "A perfect one is [[10]]. Rating: [[4]]"
    assert (parse_rating_fastchat(text), read_rating(text).value) == (10, 4)
    assert parse_rating_fastchat("Rating: 4") is None
    assert parse_winner_fastchat("[[C]]") == "tie"


def test_graded_winners_and_arena_labels_count_the_last() -> None:
    assert read_graded_winner("[[A1]] no, [[b 3]]").value == ("B", 3)
    assert read_graded_winner("A is better").value is None
    labels = ("A>B", "A>>B", "A=B")
    assert read_arena_label("[[A=B]] ... [[a>>b]]", labels).value == "A>>B"
    assert read_arena_label("[[A>=B]]", labels).reason == "unknown label"


@pytest.mark.parametrize(
    "piece", ["A is ", "[[A]] ", "Output (a) and ", "7 ", "not ", "(", "'", '"', "\n", "‹", "1_", "if "]
)
def test_replies_of_any_length_are_read(piece: str) -> None:
    for read in (read_pair, read_winner, read_rating, lambda text: read_label(text, LABELS)):
        read(piece * (40_000 // len(piece)))


def test_a_verdict_at_the_end_of_a_long_reply_is_read() -> None:
    assert read_winner("The answers differ in their length. " * 2000 + "[[B]]").value == "B"
    assert read_rating("It has many lines. " * 2000 + "Rating: 3").value == 3
