"""Which option an answer chooses, in more wordings: letters in markup, lists, Chinese, negations, option texts."""

# ruff: noqa: E501

from __future__ import annotations

import pytest

from zhenlong.verify.choices import read_choice

# for each list of options, what chooses A, B, ...; "-": what chooses none, or more than one
# fmt: off
WORDINGS = (
    (("a law of motion", "pro wrestling", "The grandfather", "none of them"), {
        "-": (
            "选AB", "答案是A或者B", "A和B都对", "A、B", "无法确定", "不知道", "Not A, not C, not D.", "Not B.",
            "It is definitely not B.", "The answer is not B.", "B is wrong.", "B is incorrect.",
            "Option B can be ruled out.", "None of A, B or C is right.", "I would exclude A and B.", "Both A and B",
            "A and B are correct", "A & B", "A,B", "A+B", "AB", "A, B and C", "Either B or C.",
            "B or C, I'm not sure.", "The answer is B and C.", "The correct answers are A and B.",
            "B (or possibly C)", "B/C", "\\boxed{A, B}", "\\boxed{A} and \\boxed{B}", "(A) and (B)",
            "I'm torn between A and B.", "It could be B, or C.", "A) a law of motion and B) pro wrestling",
            "Answer: A, B", "**A** or **B**", "I cannot answer this question.", "I do not know the answer.",
            "A good question!", "As an AI, I have no opinion.", "I think so.", "I", "E", "X", "Z) something",
            "<think>The answer is B.</think>", "   ", "???", "Question: next? A) x B) y", "none", "None of these",
            "a law of motion or pro wrestling", "pro wrestling and a law of motion", "B) The grandfather",
            "The answer is B: The grandfather", "Option 5", "B. A law of motion is physics.",
            "the incorrect options are A, C, D", "I don't think it's B.", "It isn't B or C.",
            "B cannot be the answer.", "B can't be right.", "B is not correct", "B doesn't fit.",
            "Option A fails. Option C fails. Option D fails.", "🅱", "\\boxed{E}", "\\boxed{}", "\\boxed{A or B}",
        ),
        "A": (
            "law of motion", "The law of motion.", "A law of motion",
        ),
        "B": (
            "The final answer is $\\boxed{\\textbf{(B)}\\ \\text{pro wrestling}}$.", "$$\\boxed{\\mathrm{B}}$$",
            "\\[\\boxed{\\text{B) pro wrestling}}\\]", "\\boxed{B. pro wrestling}", "\\boxed{\\textbf{B}}",
            "\\boxed{\\text{Option B}}", "\\boxed{\\text{The answer is B}}", "The answer is \\textbf{B}.",
            "**Correct Answer: B**", "**Answer: (B)**", "__B__", "`B`", "```\nB\n```", "# Answer\n\n**B**",
            "## Final Answer: B", "The correct answer is:\n\n**B) pro wrestling**",
            "The correct answer is:\n\nB) pro wrestling\n\nExplanation: A law of motion is from physics, and the grandfather is a person.",
            "> B", "- B", "* **B. pro wrestling**", "The correct answer is **B**: *pro wrestling*.", "***B***",
            "Answer: ***B***", "<b>B</b>", "<answer>\nB\n</answer>", "<answer>(B) pro wrestling</answer>",
            "{\"answer\": \"B\", \"reason\": \"A is physics\"}",
            "{\"reasoning\": \"A is physics, C is a person\", \"answer\": \"B\"}", "{\"choice\":\"B\"}",
            "```json\n{\"answer\": \"B\"}\n```", "[[B]]", "【B】", "答案：【B】", "答案是（Ｂ）。", "答案：Ｂ．",
            "（Ｂ）", "Ｂ", "本题选B。", "因此，正确答案是选项B。", "综上所述，答案选B。", "所以答案为B，而不是A。",
            "答案不是A，而是B。", "A错误，C错误，D错误，故选B。", "A、C、D都不对，选B",
            "选项A不正确，选项B正确，选项C不正确，选项D不正确。", "正确的是B", "应选B项。", "我认为是B",
            "我的答案：B", "**答案：B**", "答案：\\boxed{B}", "B、pro wrestling", "B．pro wrestling",
            "It's not A, it's B.", "A is not right; B is.", "A and C are wrong, so B.",
            "A and C are both incorrect, which leaves B.", "Neither A nor C nor D. It must be B.",
            "The answer isn't A. The answer is B.", "The answer is not A, but B.", "B, not A.", "B and not A",
            "B rather than A", "I'd pick B over A.", "I was going to say A, but B is the right one.",
            "At first I thought A, but the answer is B.", "A? No. B.", "A seems plausible, but B is correct.",
            "While A is tempting, the correct answer is B.", "Although C might be right, B is the best choice.",
            "A is tempting. C is possible. But D cannot be. The best answer: B", "It is A. Wait, no, it is B.",
            "The answer is A. Hmm, actually the answer is B.", "Answer: A\n\nCorrection: the answer is B.",
            "All except B are wrong.", "Eliminate A, eliminate C, eliminate D; B remains.", "Only B fits.",
            "Only option B makes sense.", "B fits best.", "B makes the most sense.",
            "Between A and B, B is the better one.", "Between B and C, I choose B.",
            "<think>The answer is A.</think>B", "<think>The answer is A.</think>\n\nThe correct answer is **B**.",
            "The answer is C.</think>B",
            "<|channel|>analysis<|message|>A or B?<|end|><|start|>assistant<|channel|>final<|message|>B",
            "B\n\nQuestion: What is next?\nA. x\nB. y\nAnswer: C", "PRO WRESTLING", "“Pro wrestling”",
            "'pro wrestling'", "**pro wrestling**", "Pro wrestling!", "Professional: it's pro wrestling, of course.",
            "the answer: pro wrestling", "The answer is \"pro wrestling\" (B).",
            "It is not a law of motion but pro wrestling.", "pro wrestling, not a law of motion",
            "(B) pro wrestling is correct, while (A) a law of motion is not.",
            "A) a law of motion - incorrect\nB) pro wrestling - correct\nC) The grandfather - incorrect\nD) none of them - incorrect",
            "A: wrong\nB: right\nC: wrong\nD: wrong", "A. ❌\nB. ✅\nC. ❌\nD. ❌",
            "A - no\nB - yes\nC - no\nD - no", "Option 2", "Option 2: pro wrestling", "Choice 2",
            "The second option.", "the second one is correct", "2. pro wrestling", "My choice is B!", "Choice: B",
            "I'd say B.", "I vote B", "I'm going with B.", "Going with B", "It has to be B.",
            "The right answer is option (b).", "Selected: B", "Correct: B", "Solution: B", "ANS: B", "Ans. B",
            "The answer, therefore, is B.", "The answer would be B.", "the answer is b", "the correct choice is b)",
            "Answer:B", "Answer is B", "answer: b", "A: B", "The answer is option B.", "Answer: Option B",
            "Answer: Option (B) pro wrestling", "The answer is: (B).", "Final answer\n\nB", "So, B.", "Therefore B.",
            "Hence, (B).", "=> B", "→ B", "∴ B", "B is the correct answer. A is wrong since it is physics.",
            "Sure! The answer is B.", "I believe the answer is B, but I'm not certain.", "B\nA is wrong.",
            "The best answer is B. Options A, C, and D are incorrect.", "The answer is B. A and C are distractors.",
            "The answer is B because A is wrong, and C and D do not fit.",
            "(B). (A) is wrong because it is physics; (C) is a person.", "C is a person, A is physics. B.",
            "Let's go through each option:\nA. a law of motion: this is physics.\nB. pro wrestling: this is staged.\nC. The grandfather: a person.\nD. none of them: no.\n\nTherefore, the answer is B.",
            "Let's go through each option:\n(A) This is physics.\n(B) This is staged.\n(C) A person.\n(D) No.\nThe correct option is therefore (B).",
            "Step 1: Consider A. Step 2: Consider B.\nFinal answer: B",
            "The correct answer is B.\n\nThe incorrect answers are A, C and D.",
            "The wrong answer is A. The right answer is B.", "The answer is B, since A is a law of motion.",
            "It is B that is correct.", "The answer has to be B", "I am confident that B is the answer.",
            "B is my answer.", "B would be my choice.", "B it is.", "Definitely B", "Probably B", "Clearly B.",
            "The best option is B, although C may be defended.", "B. The others are wrong.",
            "My reasoning points to B.", "Based on the above, B",
            "After careful consideration, I conclude that B is correct", "B is the option that fits.",
            "Out of the four, B", "The one that fits is B.", "The odd one out is B", "B stands out.",
            "Among the options, only (B) mentions a fight.", "Hmm, B I guess", "I'm pretty sure it's B",
            "I am not sure, but I think B.", "I don't know, but I'd guess B.",
            "I can't be certain, but the answer is probably B.", "I do not think it is A; I think it is B.",
            "There is no doubt that B is correct.", "No doubt: B", "B, no doubt.", "Without a doubt, B.",
            "It can only be B.", "It can be nothing but B.", "It could be B.", "The answer could be B.",
            "The answer might be B, I guess.", "Nothing but B fits.",
            "The answer is definitely not A or C, so it is B.", "The answer can't be A. So B.",
            "A doesn't fit. B fits.", "Option A fails. Option C fails. Option D fails. Option B works.",
            "Let A be the event. P(A) = 0.5. Therefore the answer is (B).", "Answer: b) pro wrestling",
            "ANSWER: (B)", "Answer (B)", "Answer B", "answer b", "The Answer Is B", "THE ANSWER IS B.", "OPTION B",
            "CHOICE B", "Letter: B", "letter B", "The letter B.", "The correct letter is B.", "Response: B",
            "Output: B", "Result: B", "Verdict: B", "Conclusion: B", "Decision: B", "Pick: B", "I pick (B)",
            "I select option B", "I'll go with option B.", "I'd choose answer B", "I opt for B.", "I settle on B.",
            "I'd bet on B", "Let's go with B.", "We choose B.", "B is what I choose.", "𝐁", "Ⓑ", "**Ｂ**",
            'The answer is B\u200b.', 'The\xa0answer\xa0is\xa0B', "The answer is\nB", "The answer is:\n\n$$B$$",
            "The answer is: \\[ B \\]", "\\(\\boxed{B}\\)", "\\boxed{\\mathbf{B}}", "\\boxed{\\textrm{B}}",
            "\\boxed{\\text{(B)}}", "\\boxed{b}", "\\boxed{ B }", "\\boxed{{B}}", "\\fbox{B}", "\\boxed B",
            "boxed{B}", "\\boxed{\\boxed{B}}", "\\boxed{B}\n\nA and C are wrong.", "$\\text{Answer: B}$",
            "$\\textbf{Answer: (B)}$", "\\text{The answer is } \\mathbf{B}", "\\boxed{\\text{B}.}",
            "\\boxed{\\text{B: pro wrestling}}", "\\boxed{\\text{B} \\quad \\text{pro wrestling}}",
            "\\boxed{\\text{pro wrestling (B)}}", "\\boxed{\\bf B}", "\\boxed{\\displaystyle B}", "\\boxed{2}",
        ),
        "C": (
            "Grandfather", "grandfather.", "A grandfather", "Vitamin B is needed, so the answer is C.",
            "Hepatitis B. The answer: C", "Answer: C (vitamin B)", "P(A|B) = 0.3, hence C.",
            "A = 3, B = 4. The answer is C.", "Person A gives 3 to person B. The correct choice is (C).",
        ),
        "D": (
            "none of them.", "Point A lies left of point B, so the answer is (D).",
            "Suppose A > B. Then by C, the answer is D.",
        ),
    }),
    (("Paris", "London", "New York City", "York"), {
        "-": (
            "Yorkshire", "B. Paris",
        ),
        "A": (
            "The capital is Paris.", "Paris is the capital, London is not.",
        ),
        "B": (
            "Not Paris. London.", "London (B)", "B. London", "b) london", "LONDON",
        ),
        "C": (
            "New York City", "It is New York City.", "New York City, not York",
        ),
        "D": (
            "York", "York, not New York City",
        ),
    }),
    (("heart", "heart attack", "attack on the heart", "stroke"), {
        "A": (
            "The heart",
        ),
        "B": (
            "heart attack", "A heart attack.", "The answer is heart attack.",
        ),
        "C": (
            "attack on the heart", "an attack on the heart",
        ),
    }),
    (("1", "2", "3", "4"), {
        "-": (
            "A) 3",
        ),
        "C": (
            "3", "(3)", "3.", "The answer is 3.", "Answer: 3", "C) 3", "C", "\\boxed{3}", "There are 3.",
        ),
    }),
    (("12", "120", "1200", "21"), {
        "A": (
            "12", "$12$",
        ),
        "B": (
            "120", "\\boxed{120}",
        ),
        "C": (
            "The answer is 1200.",
        ),
    }),
    (("Mitosis only", "Meiosis only", "Both A and B", "None of the above"), {
        "A": (
            "Mitosis only",
        ),
        "B": (
            "Meiosis only.",
        ),
        "C": (
            "Both A and B", "C) Both A and B", "The answer is C, both A and B.",
            "Both A and B are correct, so the answer is C.", "The correct answer is both A and B.", "(C)",
        ),
        "D": (
            "None of the above", "D", "The answer is D) None of the above.", "none of the above.",
        ),
    }),
    (("It is red", "It is round", "It is sweet", "All of the above"), {
        "D": (
            "All of the above", "D. All of the above", "A, B and C are all true, so the answer is D.",
            "All of the above are true.", "(D) All of the above: A, B, and C.",
        ),
    }),
    (("The court will rule for the plaintiff.", "The court will rule for the defendant.", "The court will dismiss the case.", "The court will not decide."), {
        "B": (
            "The court will rule for the defendant.", "The court will rule for the defendant",
            "the court will rule for the defendant, because the contract is void.",
            "B. The court will rule for the defendant.", "B",
        ),
        "D": (
            "The court will not decide.",
        ),
    }),
    (("Yes", "No"), {
        "-": (
            "Yes and no.",
        ),
        "A": (
            "Yes", "Yes.", "yes, it does", "(A) Yes",
        ),
        "B": (
            "No, it is not.", "The answer is no.", "B. No", "Answer: No",
        ),
    }),
    (("True", "False"), {
        "-": (
            "That is not true.", "True or false",
        ),
        "A": (
            "True", "It is true.",
        ),
        "B": (
            "The statement is false.", "false", "B) False",
        ),
    }),
    (("I and II only", "I only", "II only", "I, II, and III"), {
        "A": (
            "I and II only",
        ),
        "B": (
            "I only", "B",
        ),
        "C": (
            "II only",
        ),
        "D": (
            "The answer is I, II, and III.",
        ),
    }),
    (("$\\frac{1}{2}$", "$\\frac{1}{3}$", "$2x+1$", "$x^2$"), {
        "B": (
            "$\\frac{1}{3}$", "\\frac{1}{3}", "The answer is $\\frac{1}{3}$.", "\\boxed{\\frac{1}{3}}",
            "B) $\\frac{1}{3}$",
        ),
        "D": (
            "\\boxed{x^2}", "\\(x^2\\)",
        ),
    }),
    (("The black man", "The white man", "Not enough information"), {
        "-": (
            "The black man and the white man",
        ),
        "A": (
            "The black man",
        ),
        "B": (
            "the white man.", "White man", "It was the white man, not the black man.",
        ),
        "C": (
            "There's not enough information to tell.", "It cannot be determined from the text.",
            "(c) Not enough information", "I can't tell who it was.", "We don't know.", "Not enough info.",
            "unknown",
        ),
    }),
    (("It's a \"trap\"", "It is a trap", "They're done", "the end"), {
        "A": (
            "It’s a “trap”",
        ),
        "B": (
            "It is a trap.",
        ),
        "C": (
            "they’re done",
        ),
    }),
    (("item one", "item two", "item three", "item four", "item five", "item six", "item seven", "item eight", "item nine", "item ten"), {
        "A": (
            "item one",
        ),
        "E": (
            "I believe it's (E) item five",
        ),
        "F": (
            "The answer is \\boxed{F}.",
        ),
        "G": (
            "I choose G",
        ),
        "H": (
            "I think the answer is H.",
        ),
        "I": (
            "I", "(I)", "The answer is I.",
        ),
        "J": (
            "J", "The answer is (J).", "item ten",
        ),
    }),
    (("Canberra", "Sydney", "Melbourne", "Perth"), {
        "-": (
            "A) Sydney", "A. Canberra\nB. Sydney", "Either Canberra or Sydney.",
            "I'm not sure, maybe Canberra or Melbourne?", "(A) Canberra (B) Sydney (C) Melbourne (D) Perth", "A > B",
            "A and B are cities.", "The answer is among A, B, C, D.", "Please choose A, B, C or D.", "None.",
            "None of the options is correct.", "All of them.", "Hobart", "The answer is Hobart.",
            "Answer: None of the above", "N/A", "Sorry, I can't help with that.", "It's a tie between A and B.",
            "A/B", "A|B", "A;B", "A B", "(A)(B)", "AandB", "A\nB", "The answer is A, B", "Answer: A and C",
            "{\"answer\": [\"A\", \"B\"]}", "{\"answer\": \"A, B\"}", "答案不是B", "A和B都有可能", "A还是B？",
            "选项是A、B、C、D",
        ),
        "A": (
            "The capital of Australia is Canberra, not Sydney.", "The capital of Australia is **Canberra**.",
            "Canberra (not Sydney, as many think).", "Many people think it is Sydney, but it is Canberra.",
            "A (Canberra)", "A - Canberra", "A: Canberra", "Canberra, option A",
            "The answer is A) Canberra, since Sydney (B) and Melbourne (C) never were capitals.",
            "Correct answer: (A). Canberra is the capital. Sydney and Melbourne are larger.", "a) canberra",
            "canberra", "It's A!", "A is correct.",
            "The options are A. Canberra, B. Sydney, C. Melbourne, D. Perth. The capital is Canberra. So the answer is A.",
            "Options: (A) Canberra (B) Sydney (C) Melbourne (D) Perth\nAnswer: (A)",
            "Thus, the correct answer is option A, Canberra.",
            "The answer must be A because Canberra was built as the capital.",
            "Answer: A.\n\nSydney (B) is the largest city; Melbourne (C) was the seat of parliament until 1927.",
            "My answer is not B but A", "not B: A", "I initially thought B. However, A is the capital.",
            "B? No, that's the largest city. A.",
            "Let me check B first. B is Sydney, which is not the capital. Then A. A is Canberra, the capital. Answer: A",
            "Elimination: B ✗, C ✗, D ✗. Answer A.", "So the answer is A, right?", "The answer to question 3 is A.",
            "Question 1: A", "1. A", "1) A", "Q1: A", "The final answer is A\n\nI hope it is correct.",
            "The final answer is $\\boxed{A}$. I hope it is correct.", "A\n\n\n\n", "A<|im_end|>", "A</s>",
            "A<|eot_id|>", " A", '\tA.',
            "A. Canberra.\n\nExplanation: Canberra has been the capital since 1913, whereas Sydney (option B) is the biggest.",
            "The answer is B or C, no wait, it's A.", "B was my first guess; A is my final answer.",
            "Final Answer: The final answer is A", "The correct answer is A, as opposed to B.", "A instead of B",
            "A, and not B", "A (not B)", "A, never B", "I'd eliminate C and D, then choose A over B.",
            "Compared with B, A is better.", "A is better than B.",
            "A, B, C, and D are all cities, but the answer is A.", "{\"answer\": \"Canberra\"}",
            "{\"answer\": {\"letter\": \"A\"}}", "{\"final_answer\": \"A\"}", "answer: A\nreason: B is a city, too",
            "<choice>A</choice>", "<final>A</final>", "<ans>A</ans>", "[A]", "{A}", "{\"A\"}", "A.) Canberra",
            "A.Canberra", "(A)Canberra", "A)Canberra", "A:Canberra", "A, Canberra", "A—Canberra", "A – Canberra",
            "选项A：Canberra", "A：Canberra", "选A，不选B", "选A而不是B", "B不对，应该是A", "我会选择A",
            "正确答案：A。", "【答案】A", "【答案】：A", "答：A", "答案 A", "答案为：A", "正确选项是 A。",
            "因此答案是 **A**。", "故答案为A。", "故本题答案选A。", "本题的正确答案应为A选项", "A是正确的",
            "A是正确答案。", "A对", "A项正确，B项错误", "只有A符合题意。", "排除B、C、D，选A。", "答案是第一个选项",
            "ABCD中选A",
        ),
        "B": (
            "A is wrong, B is right, C is wrong, D is wrong",
        ),
    }),
    (("北京", "上海", "广州", "深圳"), {
        "-": (
            "北京和上海",
        ),
        "A": (
            "北京", "北京。", "中国的首都是北京。", "A. 北京", "A、北京", "A：北京", "不是上海，是北京。",
        ),
        "B": (
            "答案是上海", "选B上海", "B（上海）",
        ),
    }),
    (("对", "错"), {
        "A": (
            "对", "A",
        ),
        "B": (
            "错。", "答案：错",
        ),
    }),
    (("Increase in pressure", "Increase in temperature", "Decrease in pressure", "Both an increase in pressure and a decrease in temperature"), {
        "A": (
            "increase in pressure",
        ),
        "B": (
            "Increase in temperature", "An increase in temperature.", "B) Increase in temperature",
        ),
        "C": (
            "The answer is (C) Decrease in pressure, since an increase in pressure would do the opposite.",
            "decrease in pressure, not increase in pressure",
        ),
        "D": (
            "Both an increase in pressure and a decrease in temperature", "D",
        ),
    }),
    (("1914", "1939", "1945", "1989"), {
        "-": (
            "The war ended in 1945, having begun in 1939.", "C: 1939",
        ),
        "C": (
            "1945", "It ended in 1945.", "C. 1945", "(C)", "The answer is 1945.", "1945 (C)",
        ),
    }),
    (("$5", "$10", "$15", "$20"), {
        "B": (
            "$10", "The answer is $10.", "B) $10", "10", "He pays $5 and $5, so $10.", "B",
        ),
    }),
    (("0.5", "0.25", "0.75", "1.0"), {
        "A": (
            "0.5",
        ),
        "B": (
            "0.25", "The answer is 0.25.", "B. 0.25",
        ),
        "D": (
            "1.0",
        ),
    }),
    (("He", "She"), {
        "A": (
            "He.",
        ),
        "B": (
            "She", "B. She",
        ),
    }),
    (("Cell wall", "Nucleus", "Not given", "Cannot be said"), {
        "C": (
            "Not given", "C. Not given", "The answer is Not given.",
        ),
        "D": (
            "Cannot be said",
        ),
    }),
)
# fmt: on


@pytest.mark.parametrize(("options", "wordings"), WORDINGS)
def test_an_answer_chooses_what_it_says(options, wordings):
    for letter, answers in wordings.items():
        place = None if letter == "-" else ord(letter) - ord("A")
        assert [one for one in answers if read_choice(one, options) != place] == [], letter
