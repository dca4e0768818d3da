"""Test rows for each supported row format, with the record that each must give."""

from zhenlong.records import Demonstration, Document, Message, Ranking, Rating, Task

USER, BOT = Message("user", "Name a colour."), Message("assistant", "Red.")
SYSTEM = Message("system", "Be brief.")
PROMPT = (USER,)
CHAT = [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Red."}]
OTHER = [CHAT[0], {"role": "assistant", "content": "Blue."}]
HUMAN = [{"from": "human", "value": "Name a colour."}]
RED, BLUE = {"from": "gpt", "value": "Red."}, {"from": "gpt", "value": "Blue."}
DIALOGUE = "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Name a colour.\n\nAssistant:"
DIALOGUE_PROMPT = (Message("user", "Hi."), Message("assistant", "Hello."), USER)

DEMONSTRATION = Demonstration((USER, BOT))
WITH_SYSTEM = Demonstration((SYSTEM, USER, BOT))
RANKING = Ranking(PROMPT, ("Red.", "Blue."), (1, 2))
RATING = Rating(PROMPT, "Red.", True)

FORMATS = {
    "messages": ({"messages": CHAT}, DEMONSTRATION),
    "messages with a system column": ({"messages": CHAT, "system": "Be brief."}, WITH_SYSTEM),
    "messages in parts": (
        {
            "messages": [
                CHAT[0],
                {"role": "assistant", "content": [{"type": "text", "text": "Red."}], "loss_weight": 1.0},
            ]
        },
        DEMONSTRATION,
    ),
    "alpaca": ({"instruction": "Name a colour.", "input": "", "output": "Red."}, DEMONSTRATION),
    "alpaca with input": (
        {"instruction": "Name", "input": "a colour", "output": "Red."},
        Demonstration((Message("user", "Name\n\na colour"), BOT)),
    ),
    "alpaca with system and history": (
        {
            "instruction": "Name a colour.",
            "output": "Red.",
            "system": "Be brief.",
            "history": [["Hi.", "Hello."]],
        },
        Demonstration((SYSTEM, *DIALOGUE_PROMPT, BOT)),
    ),
    "sharegpt": ({"conversations": [*HUMAN, RED]}, DEMONSTRATION),
    "sharegpt with a system column": ({"conversations": [*HUMAN, RED], "system": "Be brief."}, WITH_SYSTEM),
    "prompt and completion": ({"prompt": "Name a colour.", "completion": "Red."}, DEMONSTRATION),
    "prompt and completion messages": ({"prompt": CHAT[:1], "completion": CHAT[1:]}, DEMONSTRATION),
    "dolly": (
        {"instruction": "Name", "context": "a colour", "response": "Red.", "category": "qa"},
        Demonstration((Message("user", "Name\n\na colour"), BOT), meta={"category": "qa"}),
    ),
    "openorca": ({"system_prompt": "Be brief.", "question": "Name a colour.", "response": "Red."}, WITH_SYSTEM),
    "metamath": ({"query": "Name a colour.", "response": "Red."}, DEMONSTRATION),
    "prompt and response": ({"prompt": "Name a colour.", "response": "Red."}, DEMONSTRATION),
    "capybara": ({"conversation": [{"input": "Name a colour.", "output": "Red."}]}, DEMONSTRATION),
    "openai preference": (
        {
            "input": {"messages": CHAT[:1], "tools": [], "parallel_tool_calls": True},
            "preferred_output": CHAT[1:],
            "non_preferred_output": OTHER[1:],
        },
        RANKING,
    ),
    "a label that is a float": ({"prompt": "Name a colour.", "completion": "Red.", "label": 1.0}, RATING),
    "sharegpt preference": ({"conversations": HUMAN, "chosen": RED, "rejected": BLUE}, RANKING),
    "messages preference": ({"chosen_messages": CHAT, "rejected_messages": OTHER}, RANKING),
    "alpaca preference": ({"instruction": "Name a colour.", "chosen": "Red.", "rejected": "Blue."}, RANKING),
    "explicit preference": ({"prompt": "Name a colour.", "chosen": "Red.", "rejected": "Blue."}, RANKING),
    "explicit preference messages": ({"prompt": CHAT[:1], "chosen": CHAT[1:], "rejected": OTHER[1:]}, RANKING),
    "explicit preference that repeats the prompt": (
        {"prompt": "Name a colour.", "chosen": CHAT, "rejected": OTHER},
        RANKING,
    ),
    "implicit preference": ({"chosen": CHAT, "rejected": OTHER}, RANKING),
    "two outputs and label": (
        {"input": "Name a colour.", "output_1": "Blue.", "output_2": "Red.", "label": 2},
        RANKING,
    ),
    "two outputs and preference": (
        {"instruction": "Name", "input": "a colour", "output_1": "Red.", "output_2": "Blue.", "preference": 1},
        Ranking((Message("user", "Name\n\na colour"),), ("Red.", "Blue."), (1, 2)),
    ),
    "scored completions": (
        {
            "instruction": "Name a colour.",
            "completions": [
                {"model": "a", "response": "Blue.", "overall_score": 3.0, "fine-grained_score": 9.0},
                {"model": "b", "response": "Red.", "overall_score": 8.5, "fine-grained_score": 1.0},
                {"model": "c", "response": "Sky.", "overall_score": 3.0, "fine-grained_score": 2.0},
            ],
        },
        Ranking(PROMPT, ("Blue.", "Red.", "Sky."), (2, 1, 2)),
    ),
    "ranked answers": (
        {"prompt": DIALOGUE, "answers": [{"answer": "Blue.", "rank": 5}, {"answer": "Red.", "rank": 1}]},
        Ranking(DIALOGUE_PROMPT, ("Blue.", "Red."), (2, 1)),
    ),
    "responses and scores": (
        {
            "prompt": CHAT[:1],
            "responses": [CHAT[1:], "Blue.", "Sky."],
            "scores": ["0.9", -1, 0.5],
            "system": "Be brief.",
        },
        Ranking((SYSTEM, USER), ("Red.", "Blue.", "Sky."), (1, 3, 2)),
    ),
    "flan": ({"inputs": "Name a colour.", "targets": "Red."}, DEMONSTRATION),
    "transcript": (
        {"chosen": f"{DIALOGUE} Red.", "rejected": f"{DIALOGUE} Blue."},
        Ranking(DIALOGUE_PROMPT, ("Red.", "Blue."), (1, 2)),
    ),
    "transcript as a prompt": (
        {"prompt": DIALOGUE, "chosen": "Red.", "rejected": "Blue."},
        Ranking(DIALOGUE_PROMPT, ("Red.", "Blue."), (1, 2)),
    ),
    "preference with strength": (
        {"prompt": "Name a colour.", "chosen": "Red.", "rejected": "Blue.", "strength": 3, "annotator": "a"},
        Ranking(PROMPT, ("Red.", "Blue."), (1, 2), strength=3, annotator="a"),
    ),
    "unpaired": ({"prompt": "Name a colour.", "completion": "Red.", "label": True}, RATING),
    "rated messages": ({"messages": CHAT, "label": False}, Rating(PROMPT, "Red.", False)),
    "rated conversations": ({"conversations": [*HUMAN, RED], "kto_tag": True}, RATING),
    "worked question": (
        {"question": "Name a colour.", "answer": "600 + 600 = 1,200\n#### 1,200"},
        Task(PROMPT, "1200", "math"),
    ),
    "problem": ({"problem": "Name a colour.", "answer": 7}, Task(PROMPT, "7", "math")),
    "question": ({"question": "Name a colour.", "answer": "Red."}, Task(PROMPT, "Red.", "exact")),
    "question with a verifier": (
        {"prompt": "Name a colour.", "reference": "^R", "verifier": "regex"},
        Task(PROMPT, "^R", "regex"),
    ),
    "prompt alone": ({"prompt": "Name a colour."}, Task(PROMPT)),
    "text": ({"text": "Red is a colour."}, Document("Red is a colour.")),
    "own demonstration": ({"kind": "demonstration", "messages": CHAT}, DEMONSTRATION),
    "own ranking": (
        {"kind": "ranking", "prompt": CHAT[:1], "responses": ["Red.", "Blue."], "ranks": [1, 2]},
        RANKING,
    ),
    "own rating": ({"kind": "rating", "prompt": CHAT[:1], "response": "Red.", "desirable": True}, RATING),
    "own task": ({"kind": "task", "prompt": CHAT[:1], "verifier": "exact"}, Task(PROMPT, verifier="exact")),
    "own document": ({"kind": "document", "text": "Red is a colour."}, Document("Red is a colour.")),
}
