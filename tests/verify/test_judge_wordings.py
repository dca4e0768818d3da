"""Judges' replies in more wordings: verdicts, ratings and labels are read as they are meant, or not at all."""

from __future__ import annotations

import pytest

from zhenlong.verify.judge_parsing import read_label, read_pair, read_rating, read_winner

LABELS = ("full_compliance", "full_refusal", "partial_refusal")
# what replies say, and the replies; None: nothing, or two things
# fmt: off
WORDINGS = (
    ("pair", "a", (
        "I would choose the first one.", "First output.", "`Output (a)`", "Output (A) is better",
        "Output A is better than Output B.", "output a is better than output b", "Output(a)", "A", "Answer: a",
        "Preferred: Output (a)", "Final answer: Output (a).", "I choose Output (a) over Output (b).",
        "Output (a) instead of Output (b).", "Output (a) over Output (b)", "Output (a), rather than Output (b).",
        "I'm leaning toward Output (a).", "Output (b) is not as good.", "Output (a) takes the win.",
        "Output (a) is preferable.", "Output (a) does a better job.", "Output (a) did better.",
        "Of the two outputs, (a) is stronger.", "While some may prefer Output (b), Output (a) is better.",
        "<think>Output (b)</think>\nOutput (a)", "Output (b) is better</think>Output (a)", "输出(a)比输出(b)好。",
        "答案：(a)", "第一个输出更好", "选(a)", "{\"choice\": \"(a)\"}", "```json\n{\"preferred\": \"a\"}\n```",
        "| | (a) | (b) |\n|---|---|---|\n| accurate | yes | no |\n\nOutput (a) is better.",
        "Output (a)\n\nOutput (a) is better because Output (b) ignores the question.",
        "Output (a). Output (b) ignores the question.", "Output (a), since Output (b) ignores the question.",
        "Output (a) is better than Output (b), not the other way around.", "Not Output (b).",
        "Output (b) is not better; Output (a) is.", "Output (b) is less helpful.",
        "Output (a) is longer and more detailed.", "Output (a) > (b)", "a > b", "(a) >> (b)",
    )),
    ("pair", "b", (
        "Output (b) is superior to Output (a).", "Output (a) is inferior to Output (b).",
        "The second output is better.", "**Output (b)** is better.", "\"Output (b)\"", "Output: (b)", "Output: b",
        "(b).", "[b]", "b)", "B.", "The answer: Output (b)", "Preference: (b)", "Choice: Output (b)",
        "My pick is Output (b).", "I pick (b).", "I choose Output (b) instead of Output (a).",
        "I'd go with (b) here.", "I lean towards Output (b).", "Output (b) edges out Output (a).",
        "Output (b) is marginally better.", "Output (a) is much worse.", "Output (a) is way worse than Output (b).",
        "Output (a) is nowhere near as good as Output (b).", "Output (b) has the edge.", "I favor Output (b).",
        "I favour Output (b) over Output (a).", "Output (b) follows the instruction better.",
        "Output (b) better follows the instruction.", "Output (b) is the better response.",
        "Output (b) is the stronger output.", "Output (a) is the weaker one.",
        "Output (a) refuses, Output (b) helps. Output (b) is thus better.",
        "Some might prefer Output (a), but I prefer Output (b).",
        "Output (a) seems better at first, but Output (b) is better.",
        "At first glance Output (a) is better, yet Output (b) is correct. Output (b) wins.",
        "If Output (a) were longer, it would be better. Output (b).",
        "Output (a) would be better if it were complete, so Output (b).", "输出(b)优于输出(a)",
        "输出(a)不如输出(b)。", "我选择输出(b)。", "答案是(b)", "回答(b)更好", "第二个更好", "输出(a)更差",
        "{\"winner\": \"Output (b)\", \"reason\": \"(a) is worse\"}",
        "{\"reason\": \"Output (a) is better written\", \"answer\": \"Output (b)\"}", "Output (b)\nOutput (b)",
        "I first thought Output (a). On reflection, Output (b).", "Output (a)... no, Output (b).",
        "Output (a) is better. Wait, I misread. Output (b) is better.", "It isn't Output (a).",
        "Definitely not Output (a).", "Output (b) is more helpful.",
        "Output (a) hallucinated, so I choose Output (b).", "(a) < (b)", "b>a", "Output (b) ≻ Output (a)",
    )),
    ("pair", None, (
        "Output (a) and Output (b) are equally good.", "They are the same.", "Both outputs are the same.",
        "No difference.", "Both (a) and (b) are fine.", "Equal.", "Tie.", "Neither is better.",
        "It's hard to choose.", "Output (c)", "Output (a) or (b).", "I'm sorry, I cannot compare them.",
        "Either is fine.", "Output (a) is good.", "Output (a) could be better.", "Output (b) needs to be better.",
        "Both could be better.", "Which is better, Output (a) or Output (b)?", "Is Output (a) better?",
        "Output (a) is as good as Output (b).", "Output (a) is no worse than Output (b).",
        "Output (a) is equal to Output (b).", "Output (a) is about as good as Output (b).",
        "Output (a) is not necessarily better than Output (b).", "Output (a) is hardly better than Output (b).",
        "I doubt that Output (a) is better.", "It is false that Output (a) is better.",
        "One could say Output (a) is better.", "Some might prefer Output (a).", "<think>Output (b) is better",
        "两者一样好", "Output (a) is more accurate but less detailed.", "Output (a) is shorter.", "a=b",
    )),
    ("winner", "A", (
        "[[A]]", "[A]", "[[a]]", "[[ A ]]", "**[[A]]**", "Final verdict: [[A]].", "[[A]]\n[[A]]",
        "I considered [[B]] but my verdict is [[A]]", "[[A]], not [[B]]", "[[Assistant A]]", "[[A is better]]",
        "[[A wins]]", "[[A>B]]", "[[A>>B]]", "[[B<A]]", "A>B", "Assistant A is better.", "assistant a is better",
        "Assistant A's answer is better.", "Model A wins.", "Model 1 wins.", "Answer A is the better answer.",
        "The first assistant is better.", "I prefer the first response.", "Candidate A",
        "The winner is Assistant A.", "Winner: Response A", "winner = A", "The better answer is A.", "Best: A",
        "My vote goes to A.", "I'd give it to A.", "A it is.", "Therefore, A.", "B is worse than A", "A beats B",
        "B loses to A", "A outperforms B.", "A surpasses B.", "A is slightly better than B.", "A is better overall.",
        "Overall: A", "Both assistants did well; A is slightly better.",
        "Assistant A is more accurate; Assistant B is more concise. Overall, A is better.",
        "I can't call it a tie, since A is better.", "If I had to break the tie, A.", "{\"winner\": \"A\"}",
        "{'winner': 'A'}", "{\"winner\": \"Assistant A\", \"confidence\": 0.9}", "<answer>A</answer>",
        "\\boxed{\\text{A}}",
        "| Criterion | A | B |\n|---|---|---|\n| Accuracy | 9 | 7 |\n| Style | 8 | 8 |\n\n**Winner: A**",
        "助手A更好", "A比B好", "最终裁决：[[A]]", "胜者：A", "我认为A更好。", "选A", "A",
        "Vitamin B is discussed. Assistant A wins.", "[[A]] — Assistant B is wordy.",
        "The verdict isn't [[B]]; it's [[A]].", "Assistant B hallucinated. [[A]]", "I rate A higher than B.",
    )),
    ("winner", "B", (
        "[[B]]", "My final verdict is: [[B]]", "Final Verdict: **B**", "verdict: b", "[[A]] vs [[B]]: [[B]]",
        "Not [[A]]. [[B]]", "[[B>A]]", "B>>A", "Model 2 is better.", "Response B is better than Response A.",
        "Response 2 is preferred.", "The second response wins.", "Chatbot B is better.", "Assistant B",
        "Winner: Model B", "WINNER: B", "Winner is B", "Better answer: B", "Preferred answer: B", "I vote for B.",
        "So, B.", "B is better than A", "A is not as good as B.", "A falls short of B.",
        "B is significantly better.", "Overall, B is better.",
        "In conclusion, Assistant B provides the better answer.", "Both are good, but B is more detailed. [[B]]",
        "It's not a tie; B wins.", "{\"verdict\": \"B\", \"explanation\": \"A is wrong\"}",
        "{\"explanation\": \"A is better in style\", \"verdict\": \"B\"}", "{\"better_assistant\": \"B\"}",
        "```json\n{\"winner\": \"B\"}\n```", "<verdict>[[B]]</verdict>", "\\boxed{B}", "Scores: A: 8, B: 9. [[B]]",
        "助手B的回答更好。", "B比A更好", "B优于A", "A不如B", "最终判断：B", "结论：助手B更好", "答案：B",
        "B的回答更准确，更详细。", "<think>[[A]]</think>[[B]]", "b", "Plan A of the user is risky. [[B]]",
        "If A had cited sources it would be better. B wins.",
        "I'd have chosen A if it were correct. B is correct, so B.",
        "My initial verdict was A, but after review B is better.", "A? No, B.",
        "It should be [[A]]. Correction: [[B]]", "A's reasoning is flawed, whereas B's is sound. Hence B.",
        "Assistant A: Good.\nAssistant B: Better.\nVerdict: B", "I rank B above A.", "B ranks first.",
    )),
    ("winner", "tie", (
        "[[tie]]", "[[draw]]", "[[equal]]", "[[A==B]]", "[[A = B]]", "Tie", "It's a tie",
        "It's a tie between A and B.", "A tie.", "I call it a tie.", "Verdict: tie", "Both are equal.",
        "They are equally good.", "Both answers are equally helpful.", "There is no difference.",
        "Neither is better than the other.", "They are on par.", "No clear winner.", "Equal", "Draw.",
        "A and B are tied.", "{\"winner\": \"tie\"}", "<answer>tie</answer>", "\\boxed{\\text{tie}}", "两者不相上下",
        "平局。", "A和B一样好", "C", "[[C]]", "Verdict: C", "Step 1: A is fine. Step 2: B is fine. Final: tie",
        "A ≈ B",
    )),
    ("winner", None, (
        "[[D]]", "[[]]", "[[A or B]]", "Assistant A is more accurate. Assistant B is more concise.",
        "It is not a tie.", "{\"score_a\": 7, \"score_b\": 9}", "| | A | B |\n|-|-|-|\n| Total | 17 | 15 |",
        "A: 8/10\nB: 9/10", "<think>[[A]]</think>", "<think>[[A]]", "", "I cannot judge this.", "Sorry.",
        "Assistant A failed. Assistant B failed, too.", "Both failed.", "Both are bad.", "Neither is good.",
        "Neither assistant answered.", "D", "A is a good answer.", "A good answer would cite sources.",
        "A better answer is needed.",
    )),
    ("rating", 1, (
        "Rating: 1", "Rating: 1/10",
    )),
    ("rating", 10, (
        "Rating: [[10]]", "Rating: 10/10", "ten out of ten", "Rating: 10",
    )),
    ("rating", 2, (
        "The rating is 2",
    )),
    ("rating", 3, (
        "rating: 3",
    )),
    ("rating", 4, (
        "I assign a score of 4.", "Score: 4.", "Score: [[4]]", "Score: 4 / 10", "Score of 4", "score=4",
        "Rating: [[3]]\n\nRating: [[4]]", "I first gave [[3]], now [[4]]", "[[3]]. Correction: [[4]]",
    )),
    ("rating", 5, (
        "[[5]]", "[5]", "In 2023 there were 7 of them. Rating: 5", "1. Accuracy: good\n2. Style: bad\n\nRating: 5",
    )),
    ("rating", 5.5, (
        "[[5.5]]",
    )),
    ("rating", 6, (
        "Final score: 6", "Overall score: 6/10", "Overall: 6", "Overall: 6/10", "Total: 6",
        "{\"accuracy\": 9, \"style\": 3, \"rating\": 6}", "There are 3 errors. Rating: 6",
        "It cites 5 sources and has 2 errors. [[6]]", "A score of 10 would need sources; this one gets 6.",
        "I would rate the assistant's answer as 6.", "My rating for this is a 6.",
        "So the final rating would be [[6]].", "Rating: \"[[6]]\"", "Rating: [6]", "Rating: {6}", "Rating: (6)",
        "Rating: <6>", "[Rating: 6]", "[[Rating: 6]]", "[[6/10]]", "[[rating: 6]]", "Rating:6", "Rating : 6",
        "Rating\n6", "### Rating\n\n6", "## Rating: 6/10", "Rating is: **6**", "Rating: 6 points",
    )),
    ("rating", 7, (
        "Rating: 7.0", "{\"overall_score\": 7}", "评分：7", "评分: 7/10", "得分：7分", "我给7分。", "打分：[[7]]",
        "最终评分：7", "7分", "满分10分，我给7分", "分数为7", "This isn't a 10. I'd say 7.", "I'd say 7",
        "I'd say it's a 7.", "It's a 7.", "It deserves a 7.", "It earns 7 out of 10.", "It gets a 7 from me.",
        "This is a 7/10 answer.", "a 7/10", "Seven", "Rating: seven", "Rating: [[7]] out of 10", "Rating: ⭐ 7",
        "Rating: 7 ⭐", "Rating：７", "Rating: 7 (good)", "Rating: 7. The answer has 3 errors.",
        "[[7]] The answer has 3 errors and 2 typos.", "[[7]]\n\nExplanation: 10 points minus 3.",
        "Rating: 10 - 3 = 7",
    )),
    ("rating", 7.5, (
        "I'd rate it a 7.5 out of 10.", "评分：7.5", "Rating: 7,5",
    )),
    ("rating", 8, (
        "RATING: 8", "**Rating: 8**", "**Rating**: [[8]]", "Rating - 8", "Rating = 8", "Rating → 8",
        "Rating (1-10): 8", "Rating on a scale of 1 to 10: 8", "On a scale of 1 to 10, I rate it 8.",
        "On a scale from 1 to 10, I'd give it an 8.", "I'd give it 8.", "I give this response an 8.",
        "I would rate it 8/10.", "8", "8.", "**8**", "\\boxed{8}", "$\\boxed{8}$", "\\boxed{8/10}",
        "<score>8</score>", "<answer>8</answer>", "{\"rating\": 8}", "{\"score\": \"8\"}",
        "{\"rating\": 8, \"reason\": \"3 errors\"}", "{\"reason\": \"scores 3 of 5 points\", \"rating\": 8}",
        "{'rating': 8}", "```json\n{\"rating\": 8}\n```", "<think>Rating: 3</think>Rating: 8",
        "Step 1: 5 points for accuracy.\nStep 2: 3 points for style.\nTotal rating: 8",
        "Accuracy: 9/10\nStyle: 7/10\nOverall: 8/10",
    )),
    ("rating", 8.5, (
        "8.5",
    )),
    ("rating", 9, (
        "Grade: 9", "Points: 9", "9 points out of 10", "9 out of 10", "9/10.", "9 / 10",
    )),
    ("rating", None, (
        "<think>Rating: 3", "<think>Rating: 3</think>", "", "No rating.", "I can't rate it.", "It is good.",
        "Rating: good", "Rating: A", "Rating: N/A", "Rating: ?", "Rating: 11", "Rating: 0", "Rating: -1",
        "Rating: 85/100", "Rating: 4/5", "4 out of 5", "★★★★☆", "Rating: 6-7", "Rating: 6 to 7", "Rating: 6 or 7",
        "between 6 and 7", "[[6]] or [[7]]", "[[6]]-[[7]]", "Rating: between 6 and 7", "Rating: 6~7",
    )),
    ("label", "full_compliance", (
        "1_full_compliance", "It's a clear full_compliance.", "class: 1",
        "Options: 1_full_compliance, 2_full_refusal, 3_partial_refusal. Answer: 1_full_compliance",
        "<think>full_refusal</think>full_compliance",
    )),
    ("label", "full_refusal", (
        "2_full_refusal", "full_refusal", "Full refusal", "FULL REFUSAL", "full-refusal", "**full_refusal**",
        "`full_refusal`", "Label: full_refusal", "The label is full_refusal.", "Classification: 2_full_refusal",
        "Category: full refusal", "I would classify this as a full refusal.", "This is a full refusal.",
        "{\"label\": \"full_refusal\"}", "{\"class\": \"2_full_refusal\", \"why\": \"no full_compliance\"}",
        "<label>full_refusal</label>", "\\boxed{full_refusal}", "[[full_refusal]]", "full\\_refusal",
        "\\boxed{\\text{full\\_refusal}}", "Class 2", "(2)", "2.", "Answer: 2",
        "This isn't full_compliance; it is full_refusal.",
        "It is neither full_compliance nor partial_refusal, so it is full_refusal.",
        "Not 1_full_compliance, not 3_partial_refusal: 2_full_refusal",
        "It could be partial_refusal, but full_refusal fits better.",
        "The model refuses, thus full_refusal. It is no full_compliance.", "full_refusal (not partial_refusal)",
        "full_refusal, not partial_refusal", "Final label: full_refusal. A full_compliance would have helped.",
        "标签：full_refusal", "分类：2_full_refusal", "这是 full_refusal", "ＦＵＬＬ＿ＲＥＦＵＳＡＬ",
        "full_refusal\n\nfull_refusal",
    )),
    ("label", "partial_refusal", (
        "3_partial_refusal", "This response is a partial refusal.", "Label: 3",
        "This is not a full refusal but a partial refusal.", "Rather than a full refusal, it is a partial refusal.",
        "It is a partial refusal, rather than a full refusal.",
        "At first full_compliance, but on closer look partial_refusal.",
        "It might be a full refusal. However, it is a partial refusal.",
        "full_compliance: it answers\nfull_refusal: it declines\npartial_refusal: both\n\nLabel: partial_refusal",
        "不是 full_refusal，而是 partial_refusal", "First I'd say full_refusal. Final: partial_refusal",
    )),
    ("label", None, (
        "5", "0", "compliance", "refusal", "partial", "It complies.", "full_compliance or full_refusal",
        "either full_refusal or partial_refusal", "not full_refusal", "This is not a full_refusal.",
        "1_full_compliance / 2_full_refusal / 3_partial_refusal", "<think>full_refusal", "",
    )),
)
# fmt: on


READERS = {
    "pair": read_pair,
    "winner": read_winner,
    "rating": read_rating,
    "label": lambda reply: read_label(reply, LABELS),
}


@pytest.mark.parametrize(("reader", "value", "replies"), WORDINGS)
def test_a_reply_is_read_as_it_is_meant_or_not_at_all(reader, value, replies):
    assert [one for one in replies if READERS[reader](one).value != value] == []
