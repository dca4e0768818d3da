"""The program in a response, in the forms that people's models write."""

from __future__ import annotations

import pytest

from zhenlong.verify.code_extraction import extract_program, join_programs, last_fenced_block

PROMPT = 'import math\n\n\ndef half(x: float) -> float:\n    """Half of x."""\n'
GOOD = "def half(x):\n    return x / 2\n"
FENCED = f"```python\n{GOOD}```"


def run(response, extraction="chat"):
    """What `half(6)` gives in the extracted program."""
    namespace = {}
    exec(compile(extract_program(response, extraction, prompt=PROMPT, entry_point="half"), "p", "exec"), namespace)
    return namespace["half"](6)


def indented(text, by):
    return "\n".join(" " * by + line if line else line for line in text.split("\n"))


@pytest.mark.parametrize(
    "response",
    [
        FENCED,
        f"Here it is:\n\n{FENCED}\n\nIt halves x.",
        f"````python\n{GOOD}````",
        f"~~~python\n{GOOD}~~~",
        f"~~~\n{GOOD}~~~~~",
        f"```\n{GOOD}```",
        f"```Python3\n{GOOD}```",
        f"```py title='half.py'\n{GOOD}```",
        f"```{{.python .numberLines}}\n{GOOD}```",
        f"1. Write:\n\n{indented(FENCED, 3)}\n\n2. Done.",
        f"- Write:\n{indented(FENCED, 2)}\n- Done.",
        f"- ```python\n{indented(GOOD, 2)}\n  ```",
        f"```python\n{GOOD}",  # never closed
        f"{GOOD}```\n",  # never opened
        GOOD,
        "    return x / 2\n",
        "```python\n    return x / 2\n```",
        "```python\nreturn x / 2\n```",
        f"First:\n```python\nimport operator\n```\nThen:\n```python\n{GOOD.replace('x /', 'operator.index(x) /')}```",
        f"```python\nTWO = 2\n\ndef two():\n    return TWO\n```\nand\n```python\n{GOOD.replace('/ 2', '/ two()')}```",
        f"```python\n{GOOD.replace('/ 2', '/ two()')}```\nwith\n```python\ndef two():\n    return 2\n```",
        f"{FENCED}\nExample:\n```python\nprint(half(3))\nassert half(2) == 5\n```",
        f"{FENCED}\nOutput:\n```\n1.5\n```",
        f"```bash\npip install half\n```\n{FENCED}",
        f"```python\ndef half(x):\n    return x * 2\n```\nThat doubles. Better:\n{FENCED}",
        f"```python\nfrom __future__ import annotations\n\n{GOOD}```",
        f"```python\nfrom __future__ import (\n    annotations,\n)\n{GOOD}```",
        f'```python\n"""A module."""\nfrom __future__ import annotations\n{GOOD}```',
        f"```python\n{GOOD}FENCE = '''\n```\n'''\n```",
        "```python\nfrom typing import Callable\nhalf: Callable[[float], float] = lambda x: x / 2\n```",
        "```python\nhalf = lambda x: x / 2\n```",
        f"Sure, this works:\n\n{GOOD}\nHope this helps!",
        f"```python\n{GOOD.replace('x / 2', 'math.fsum([x]) / 2')}```",  # the prompt's import
        f"```python\n{GOOD}if __name__ == '__main__':\n    print(half(1))\n```",
    ],
)
def test_the_function_is_found(response):
    assert run(response) == 3


def test_a_program_that_reads_input_is_taken_before_examples():
    program = "n = int(input())\nprint(n * 2)\n"
    for response in (
        f"```python\n{program}```\nExample:\n```\n6\n```",
        f"```python\n{program}```\nFor instance:\n```python\nprint(3 * 2)\n```",
        f"{program}```",
        f"```\n{program}```",
        f"~~~~\n{program}~~~~",
    ):
        assert extract_program(response, "block").strip() == program.strip()


def test_the_official_rule_of_livecodebench_takes_the_last_fences():
    response = "```python\nprint(1)\n```\nOutput:\n```\n1\n```"
    assert last_fenced_block(response) == "1"
    assert extract_program(response, "last_block") == "1"


def test_future_imports_come_first_and_once():
    future = "from __future__ import annotations\n"
    joined = join_programs("import os\n", f"{future}x = 1\n", future)
    assert joined.startswith("from __future__ import annotations\n")
    assert joined.count("__future__") == 1
    compile(joined, "joined", "exec")


@pytest.mark.parametrize(
    "text", ["```\n" * 20_000, "```python\n" * 5_000, "(" * 100_000, "    " * 50_000, "def f(:\n" * 20_000]
)
def test_hostile_text_is_read(text):
    assert isinstance(extract_program(text, "chat", prompt=PROMPT, entry_point="half"), str)
    assert isinstance(extract_program(text, "block"), str)
