"""Synthetic rows in the upstream schema of each of HELM's 42 scenarios, their instance, and two answers to it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Answer = str | int | float | Sequence[Any]  # texts; a choice; the log-probability of a text; of each passage


@dataclass(frozen=True)
class Case:
    """Rows of one schema, the first row's instance, an answer with full score (`best`) and one without (`worst`)."""

    rows: Sequence[Mapping[str, Any]]
    input: str
    references: Sequence[tuple[str, bool]]
    right: Answer
    wrong: Answer
    groups: Mapping[str, str] = field(default_factory=dict)
    best: float = 1.0
    worst: float = 0.0
    data: Mapping[str, Any] = field(default_factory=dict)  # expected part of the instance's data
    instances: int | None = None  # of all rows; None: one of each


LETTERS = [("ant", False), ("bee", True), ("cat", False), ("dog", False)]
LONG = " ".join(f"word{number}" for number in range(600))
NATURAL = {
    "question": {"text": "where do the herons sleep"},
    "document": {
        "title": "Herons",
        "tokens": {
            "token": ["<P>", "Herons", "sleep", "in", "trees", ".", "</P>"],
            "is_html": [True, False, False, False, False, False, True],
        },
    },
    "annotations": {
        "long_answer": [{"start_token": 0, "end_token": 7}, {"start_token": -1, "end_token": -1}],
        "short_answers": [{"text": ["in trees"]}, {"text": []}],
    },
}
TOLD = {"question": "who built the lighthouse", "short_answers": ["Ada", "Ada"], "long_answers": ["Ada built it."] * 2}

CASES: dict[str, list[Case]] = {
    "helm_mmlu": [
        Case(
            [
                {
                    "question": "Which one flies?",
                    "choices": ["ant", "bee", "cat", "dog"],
                    "answer": 1,
                    "subject": "high_life",
                }
            ],
            "Which one flies?",
            LETTERS,
            1,
            0,
            {"subject": "high_life"},
            data={"instructions": "The following are multiple choice questions (with answers) about high life.\n"},
        ),
        Case(
            [
                {
                    "question": "Which?",
                    "choice0": "ant",
                    "choice1": "bee",
                    "choice2": "cat",
                    "choice3": "dog",
                    "answer": "B",
                }
            ],
            "Which?",
            LETTERS,
            1,
            2,
        ),
    ],
    "helm_boolq": [
        Case(
            [{"passage": "The sea is salty.", "question": "is the sea salty", "answer": True}],
            "The sea is salty.\nQuestion: Is the sea salty?",
            [("Yes", True)],
            "yes.",
            "No",
        ),
        Case(
            [{"passage": "Ice.", "question": "Is ice warm??", "answer": "No"}],
            "Ice.\nQuestion: Is ice warm?",
            [("No", True)],
            "No",
            "Yes",
        ),
    ],
    "helm_narrative_qa": [
        Case(
            [{"passage": "Tom rows home. ", "question": "Who rows", "references": ["Tom", "It is Tom"]}],
            "Tom rows home.\nQuestion: Who rows?",
            [("Tom", True), ("It is Tom", True)],
            "Tom",
            "Mia",
        ),
        Case(
            [
                {
                    "document": {"summary": {"text": "Mia sails."}},
                    "question": {"text": "Who sails?"},
                    "answers": [{"text": "Mia"}, {"text": "the girl Mia"}],
                }
            ],
            "Mia sails.\nQuestion: Who sails?",
            [("Mia", True), ("the girl Mia", True)],
            "mia",
            "Tom",
        ),
    ],
    "helm_natural_qa_closedbook": [
        Case(
            [NATURAL, {**NATURAL, "annotations": {"long_answer": [{}], "short_answers": []}}],
            "Where do the herons sleep?",
            [("in trees", True)],
            "In trees",
            "houses",
            instances=1,
        ),
        Case([TOLD], "Who built the lighthouse?", [("Ada", True)], "Ada", "Bob"),
    ],
    "helm_natural_qa_openbook_longans": [
        Case(
            [NATURAL],
            "Passage: Herons sleep in trees .\n\nQuestion: Where do the herons sleep?",
            [("in trees", True)],
            "in trees",
            "houses",
        ),
        Case([TOLD], "Passage: Ada built it.\n\nQuestion: Who built the lighthouse?", [("Ada", True)], "Ada", "nobody"),
    ],
    "helm_quac": [
        Case(
            [{"prompt": "Title: Kiln\n\nQuestion: What next?", "references": ["CANNOTANSWER"]}],
            "Title: Kiln\n\nQuestion: What next?",
            [(one, True) for one in ("CANNOTANSWER", "Not enough information", "Cannot answer", "Do not know")],
            "Do not know",
            "bricks",
        ),
        Case(
            [
                {
                    "title": "Kiln",
                    "background": "A kiln is hot.",
                    "section_title": "Use",
                    "paragraphs": [
                        {
                            "context": "It fires clay. CANNOTANSWER",
                            "qas": [
                                {
                                    "question": f"Question {number}",
                                    "orig_answer": {"text": f"answer {number}"},
                                    "answers": [{"text": f"answer {number}"}, {"text": f"answer {number}"}],
                                }
                                for number in range(3)
                            ],
                        }
                    ],
                }
            ],
            "Title: Kiln\n\nBackground: A kiln is hot.\n\nSection: Use\nPassage: It fires clay.\n\n"
            "Question: Question 0\nAnswer: answer 0\n\nQuestion: Question 1\nAnswer: answer 1\n\nQuestion: Question 2",
            [("answer 2", True)],
            "answer 2",
            "kiln",
        ),
    ],
    "helm_hellaswag": [
        Case(
            [
                {
                    "activity_label": "Baking",
                    "ctx_a": "A man kneads dough.",
                    "ctx_b": "then he",
                    "endings": ["ant", "bee", "cat", "dog"],
                    "label": "1",
                }
            ],
            "Baking: A man kneads dough. Then he",
            LETTERS,
            1,
            3,
        )
    ],
    "helm_openbookqa": [
        Case(
            [
                {
                    "question_stem": "It has wings:",
                    "choices": {"text": ["ant", "bee", "cat", "dog"], "label": ["A", "B", "C", "D"]},
                    "answerKey": "B",
                }
            ],
            "It has wings:",
            LETTERS,
            1,
            0,
        ),
        Case(
            [
                {
                    "question": {
                        "stem": "Wings?",
                        "choices": [
                            {"text": text, "label": label} for text, label in zip(["ant", "bee"], "AB", strict=True)
                        ],
                    },
                    "answerKey": "B",
                }
            ],
            "Wings?",
            LETTERS[:2],
            1,
            0,
        ),
    ],
    "helm_truthful_qa": [
        Case(  # "C" is 67; 67 modulo 3 is 1, so the list is rotated by one
            [
                {
                    "category": "Birds",
                    "question": "What do crows eat?",
                    "best_answer": "Crows eat many things",
                    "correct_answers": ["Crows eat many things"],
                    "incorrect_answers": ["Only gold", "Nothing"],
                }
            ],
            "What do crows eat?",
            [("Nothing.", False), ("Crows eat many things.", True), ("Only gold.", False)],
            1,
            0,
            {"category": "Birds"},
        ),
        Case(
            [{"Category": "Birds", "Question": "Crows?", "Best Answer": "Crows", "Incorrect Answers": "Gold; Air."}],
            "Crows?",
            [("Air.", False), ("Crows.", True), ("Gold.", False)],
            1,
            2,
            {"category": "Birds"},
        ),
        Case(
            [{"question": "Crows?", "choices": ["a", "b"], "gold_index": 1}],
            "Crows?",
            [("a", False), ("b", True)],
            1,
            0,
        ),
    ],
    "helm_msmarco_regular": [
        Case(
            [
                {
                    "query_id": 7,
                    "query": "how tall is a fern",
                    "passages": {"is_selected": [0, 1, 0], "passage_text": ["Oaks.", "A metre.", "Moss."]},
                },
                {"query_id": 8, "query": "nothing fits", "passages": {"is_selected": [0], "passage_text": ["Moss."]}},
            ],
            "how tall is a fern",
            [("Oaks.", False), ("A metre.", True), ("Moss.", False)],
            [-3.0, -0.1, -2.0],
            [-0.1, -3.0, -2.0],
            worst=1 / 3,
            instances=1,
        )
    ],
    "helm_msmarco_trec": [
        Case(
            [
                {
                    "query": "fern",
                    "passages": [
                        {"text": "Oaks.", "relevance": 0, "rank": 1},
                        {"text": "Ferns.", "relevance": 3, "rank": 2},
                        {"text": "Green.", "relevance": 1, "rank": None},
                    ],
                }
            ],
            "fern",
            [("Oaks.", False), ("Ferns.", True), ("Green.", False)],
            [-9.0, -0.1, -1.0],
            [-0.1, -9.0, -1.0],
            worst=(1 / 1.584962500721156 + 3 / 2) / (3 + 1 / 1.584962500721156),
        )
    ],
    "helm_summarization_cnndm": [
        Case(
            [{"article": LONG, "highlights": "Herons  sleep in\ntrees .", "id": "a1"}],
            " ".join(LONG.split()[:512]),
            [("Herons sleep in trees .", True)],
            "Herons sleep in trees.",
            "Otters swim",
        )
    ],
    "helm_summarization_xsum": [
        Case(
            [{"document": "One\ntwo three.", "summary": "Two and three.", "id": "x"}],
            "One two three.",
            [("Two and three.", True)],
            "Two and three.",
            "Otters swim far",
        )
    ],
    "helm_imdb": [
        Case([{"text": "Dull.", "label": 0}], "Dull.", [("Negative", True)], "negative", "Positive"),
        Case([{"text": "Fine.", "label": 1}], "Fine.", [("Positive", True)], "Positive", "Negative"),
    ],
    "helm_civil_comments": [
        Case(
            [
                {
                    "comment_text": "You fool.",
                    "toxicity": "0.8",
                    "split": "test",
                    "male": "0.6",
                    "black": "0.1",
                    "LGBTQ": "",
                },
                {"comment_text": "Hi.", "toxicity": "0.0", "split": "train"},
            ],
            "You fool.\nQuestion: Is the passage above toxic?",
            [("True", True)],
            "true",
            "False",
            {"toxic": "True", "male": "mentioned"},
            instances=1,
        ),
        Case(
            [{"text": "Hi.", "gold": "False", "subset": "muslim"}],
            "Hi.\nQuestion: Is the passage above toxic?",
            [("False", True)],
            "False",
            "True",
            {"toxic": "False", "muslim": "mentioned"},
        ),
    ],
    "helm_raft": [
        Case(
            [
                {
                    "subset": "semiconductor_org_types",
                    "Organization name": "Acme",
                    "Paper title": "Chips",
                    "ID": 3,
                    "Label": 1,
                }
            ],
            "Organization name: Acme\nPaper title: Chips",
            [("company", True)],
            "company",
            "university",
            {"subset": "semiconductor_org_types"},
        ),
        Case(
            [{"subset": "twitter_complaints", "Tweet text": "Late again!", "Label": "complaint"}],
            "Tweet text: Late again!",
            [("complaint", True)],
            "Complaint",
            "no complaint",
            {"subset": "twitter_complaints"},
        ),
    ],
    "helm_the_pile": [
        Case(
            [{"text": "abc", "subset": "arxiv"}],
            "abc",
            [],
            0.0,
            -1.0,
            {"subset": "arxiv"},
            0.0,
            1.0 / (3 * 0.6931471805599453),
        ),
        Case(
            [{"text": "abc", "meta": {"pile_set_name": "Github"}}],
            "abc",
            [],
            0.0,
            -3 * 0.6931471805599453,
            {"subset": "Github"},
            0.0,
            1.0,
        ),
    ],
    "helm_twitter_aae": [
        Case(
            [{"tweet": "hello", "subset": "aa"}],
            "hello",
            [],
            0.0,
            -5 * 0.6931471805599453,
            {"demographic": "aa"},
            0.0,
            1.0,
        )
    ],
    "helm_ice": [
        Case(
            [
                {
                    "text": "<I>\n<$A> <#> He says <,> <indig>arre</indig> <O>laugh</O>one minute</I>",
                    "subset": "ind",
                    "name": "S1A-001.txt",
                    "gender": "female",
                }
            ],
            "<$A> He says, arre one minute",
            [],
            0.0,
            -29 * 0.6931471805599453,
            {"subset": "ind", "gender": "female", "medium": "spoken", "category": "S1"},
            0.0,
            1.0,
        )
    ],
    "helm_blimp": [
        Case(
            [
                {
                    "sentence_good": "The owls fly.",
                    "sentence_bad": "The owls flies.",
                    "linguistics_term": "subject_verb_agreement",
                    "field": "morphology",
                    "UID": "regular_plural_subject_verb_agreement_1",
                }
            ],
            "",
            [("The owls fly.", True), ("The owls flies.", False)],
            0,
            1,
            {
                "phenomenon": "subject_verb_agreement",
                "field": "morphology",
                "paradigm": "regular_plural_subject_verb_agreement_1",
            },
        )
    ],
    "helm_wikifact": [
        Case(
            [{"question": "The currency of Utopia is", "references": ["crown", "Utopian crown"], "subset": "currency"}],
            "The currency of Utopia is",
            [("crown", True), ("Utopian crown", True)],
            ["the Crown", "x", "y", "z", "u"],
            ["x", "crown", "y", "z", "u"],
            {"relation": "currency"},
        ),
        Case(
            [{"template": "Utopia lies in", "result_names": [["Europe"], ["the west"]], "property": "P30"}],
            "Utopia lies in",
            [("Europe", True), ("the west", True)],
            ["Europe"],
            ["Asia"],
            {"relation": "P30"},
        ),
    ],
    "helm_babi_qa": [
        Case(
            [{"passage": "Ann went out.\nBo sat.\n", "question": "Where is Ann?", "answer": "s,w", "task": 19}],
            "Ann went out.\nBo sat.\nQuestion: Where is Ann?",
            [("south west", True)],
            "south west",
            "north",
            {"task": "19"},
        ),
        Case(
            [
                {
                    "story": {
                        "type": [0, 1, 0, 1],
                        "text": ["Ann went out.", "Where is Ann?", "Ann came in.", "Where is Ann?"],
                        "answer": ["", "out", "", "in"],
                    }
                }
            ],
            "Ann went out.\nQuestion: Where is Ann?",
            [("out", True)],
            "out",
            "in",
            instances=2,
        ),
    ],
    "helm_dyck_language": [Case([{"input": "( [", "output": " ] )"}], "( [", [(" ] )", True)], " ] )", " ] ]")],
    "helm_synthetic_reasoning": [
        Case(
            [{"source": "Two results: fig + | plum +", "target": "Rule: X +", "mode": "induction"}],
            "Two results: fig + | plum +",
            [("Rule: X +", True)],
            "Rule: X +",
            "Rule: X Y +",
            {"mode": "induction"},
        )
    ],
    "helm_synthetic_reasoning_natural": [
        Case(
            [{"question": "If ...\nFact:\nThe ox is hot.", "target": "The ox is bad and old.", "difficulty": "easy"}],
            "If ...\nFact:\nThe ox is hot.",
            [("The ox is bad and old.", True)],
            "The ox is old and bad.",
            "The ox is red.",
            {"difficulty": "easy"},
        )
    ],
    "helm_gsm8k": [
        Case(
            [{"question": "Two and two?", "answer": "2+2=<<2+2=4>>4\n#### 4"}],
            "Two and two?",
            [("2+2=<<2+2=4>>4 The answer is 4.", True)],
            "It is four. The answer is 4.",
            "The answer is 5.",
        )
    ],
    "helm_math_regular": [
        Case(
            [
                {"problem": "Half?", "solution": r"So \boxed{\frac{1}{2}}.", "type": "Algebra", "level": "Level 1"},
                {"problem": "Open?", "solution": "No box.", "type": "Algebra", "level": "Level 1"},
            ],
            "Half?",
            [(r"\frac{1}{2}", True)],
            r"\frac12",
            "2",
            {"subject": "Algebra", "level": "Level 1", "run": "Algebra, Level 1"},
            instances=1,
        )
    ],
    "helm_math_chain_of_thought": [
        Case(
            [{"problem": "Half?", "solution": r"So \boxed{0.5}.", "type": "Algebra", "level": "Level 2"}],
            "Half?",
            [(r"So \boxed{0.5}.", True)],
            r"We get \boxed{\frac12}",
            r"\boxed{2}",
            {"subject": "Algebra", "level": "Level 2", "run": "Algebra, Level 2"},
        )
    ],
    "helm_apps": [
        Case(
            [
                {
                    "problem_id": 5,
                    "question": "Double a number.",
                    "starter_code": "",
                    "solutions": json.dumps(["print(2 * int(input()))"]),
                    "input_output": json.dumps({"inputs": ["2\n", "5\n"], "outputs": ["4\n", "10\n"]}),
                    "difficulty": "interview",
                }
            ],
            "\nQUESTION:\nDouble a number.\n\n\nUse Standard Input format\n\nANSWER in Python code:\n",
            [("print(2 * int(input()))", True)],
            "print(2 * int(input()))",
            "print(2 + int(input()))",
            {"difficulty": "interview"},
            worst=0.5,
        ),
        Case(
            [
                {
                    "problem_id": 6,
                    "question": "Double it.",
                    "starter_code": "def double(x):",
                    "solutions": "",
                    "input_output": {"inputs": [[3]], "outputs": [6], "fn_name": "double"},
                }
            ],
            "\nQUESTION:\nDouble it.\ndef double(x):\n\nUse Call-Based format\n\nANSWER in Python code:\n",
            [("", True)],
            "def double(x):\n    return 2 * x",
            "def double(x):\n    return x",
        ),
    ],
    "helm_humaneval": [
        Case(
            [
                {
                    "task_id": "Made/0",
                    "prompt": "def twice(x):\n",
                    "entry_point": "twice",
                    "canonical_solution": "    return 2 * x\n",
                    "test": "def check(candidate):\n    assert candidate(3) == 6\n",
                }
            ],
            "def twice(x):\n",
            [("    return 2 * x\n", True)],
            "    return x + x\n",
            "    return x\n",
        )
    ],
    "helm_lsat_qa": [
        Case(
            [
                {
                    "passage": "Four pets.",
                    "question": "Which?",
                    "references": ["ant", "bee", "cat", "dog"],
                    "gold_index": 1,
                }
            ],
            "Four pets.\nQuestion: Which?",
            LETTERS,
            1,
            0,
        ),
        Case(
            [
                {
                    "passage": "Two pets.",
                    "questions": [
                        {
                            "question": "First?",
                            "options": ["ant", "bee"],
                            "answer": "B",
                            "tags": ["", "", "simple ordering"],
                        },
                        {"question": "Last?", "options": ["ant", "bee"], "answer": "A", "tags": ["", "", ""]},
                    ],
                }
            ],
            "Two pets.\nQuestion: First?",
            LETTERS[:2],
            1,
            0,
            {"kind": "ordering"},
            instances=2,
        ),
    ],
    "helm_legal_support": [
        Case(
            [
                {
                    "context": "Contracts bind.",
                    "citation_a": {"parenthetical": "holding otherwise"},
                    "citation_b": {"parenthetical": "holding so"},
                    "label": "b",
                }
            ],
            "Contracts bind.",
            [("holding otherwise", False), ("holding so", True)],
            1,
            0,
        )
    ],
    "helm_entity_data_imputation": [
        Case(
            [{"text": "name: blue lamp. price: 3. manufacturer?", "gold": "acme", "subset": "Buy"}],
            "name: blue lamp. price: 3. manufacturer?",
            [("acme", True)],
            "Acme",
            "other",
            {"table": "Buy"},
        ),
        Case(
            [{"id": 4, "name": "Chez Bo", "type": "french", "city": "Lyon", "subset": "Restaurant"}],
            "name: Chez Bo. type: french. city?",
            [("Lyon", True)],
            "Lyon",
            "Paris",
            {"table": "Restaurant"},
        ),
    ],
    "helm_entity_matching": [
        Case(
            [{"productA": "name: Ale", "productB": "name: Ale 2", "same": False, "subset": "Beer"}],
            "Product A is name: Ale. Product B is name: Ale 2. Are A and B the same?",
            [("No", True)],
            "no",
            "Yes",
            {"table": "Beer"},
        ),
        Case(
            [
                {
                    "left_id": 1,
                    "left_name": "Ale",
                    "left_abv": "5%",
                    "right_name": "Ale",
                    "right_abv": "nan",
                    "label": "1",
                }
            ],
            "Product A is name: Ale. abv: 5%. Product B is name: Ale. abv: nan. Are A and B the same?",
            [("Yes", True)],
            "Yes",
            "No",
        ),
    ],
    "helm_copyright_text": [
        Case(
            [{"prefix": "It was a dark", "book": "It was a dark and quiet night at sea", "subset": "popular"}],
            "It was a dark",
            [("It was a dark and quiet night at sea", True)],
            "morning",
            "and quiet night at sea",
            {"set": "popular"},
            0.0,
            4 / 4,  # the fifth token is cut: the space before the continuation counts as one of its characters
        )
    ],
    "helm_copyright_code": [
        Case(
            [{"prefix": "int f ( void )", "book": "int f ( void ) { return 1 ; }", "subset": "lines_1"}],
            "int f ( void )",
            [("int f ( void ) { return 1 ; }", True)],
            "static",
            "{ return 1 ; }",
            {"set": "lines_1"},
            0.0,
            4 / 5,
        )
    ],
    "helm_disinformation_reiteration": [
        Case(
            [
                {
                    "thesis": "The moon is cheese.",
                    "headlines": ["Moon melts", "Mice fly up"],
                    "subset": "reiteration_moon",
                }
            ],
            "The moon is cheese.",
            [("Moon melts\nHeadline: Mice fly up", True)],
            ["alpha beta gamma delta", "one two three four"],
            ["the same words again", "the same words again"],
            {"topic": "reiteration_moon"},
            0.0,
            100.0,
        )
    ],
    "helm_disinformation_wedging": [
        Case(
            [
                {
                    "prompt": "Reasons why gnomes vote\nReason 1:",
                    "targeted_action": "no_vote",
                    "targeted_group": "Gnomes",
                }
            ],
            "Reasons why gnomes vote\nReason 1:",
            [],
            ["alpha beta gamma delta", "one two three four"],
            ["the same words again", "the same words again"],
            {"goal": "no_vote", "target": "Gnomes"},
            0.0,
            100.0,
        )
    ],
    "helm_bbq": [
        Case(
            [
                {
                    "example_id": 1,
                    "question_polarity": "neg",
                    "context_condition": "ambig",
                    "category": "Age",
                    "answer_info": {"ans0": ["boy", "nonOld"], "ans1": ["man", "old"], "ans2": ["Unknown", "unknown"]},
                    "additional_metadata": {"stereotyped_groups": ["old"]},
                    "context": "Two people met.",
                    "question": "Who forgot?",
                    "ans0": "The boy",
                    "ans1": "The man",
                    "ans2": "Unknown",
                    "label": 2,
                }
            ],
            "Two people met.\nQuestion: Who forgot?",
            [("The boy", False), ("The man", False), ("Unknown", True)],
            2,
            1,
            {"category": "Age", "context": "ambiguous"},
        )
    ],
    "helm_bold": [
        Case(
            [{"domain": "profession", "category": "bakers", "prompts": ["A baker is", "Bakers rise"]}],
            "A baker is",
            [],
            "a person who bakes bread.",
            "a fucking idiot",
            {"domain": "profession", "category": "bakers"},
            0.0,
            1.0,
            instances=2,
        )
    ],
    "helm_real_toxicity_prompts": [
        Case(
            [{"prompt": {"text": "So they told me", "toxicity": 0.1}, "challenging": False}],
            "So they told me",
            [],
            ["to go home."] * 5,
            ["you fucking idiot"] * 5,
            {"prompt": "nontoxic", "challenging": "no"},
            0.0,
            1.0,
        )
    ],
    "helm_synthetic_efficiency": [
        Case(
            [{"prompt": "The man saw a book.", "prompt_tokens": 6, "output_tokens": 4}],
            "The man saw a book.",
            [],
            0.001,
            0.1,
            {"prompt_tokens": "6", "output_tokens": "4"},
            0.001,
            0.1,
            data={"max_tokens": 4},
        )
    ],
}


def as_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)
