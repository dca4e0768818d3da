"""The eight in-context examples of HELM's MATH without chain of thought.

They are those of the data set's authors (hendrycks/math:modeling/evaluate_gpt3.py), unclosed dollar sign included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from zhenlong.evaluate.scenarios.instances import generator

EXAMPLES: Final = (
    (r"What is $\left(\frac{7}{8}\right)^3 \cdot \left(\frac{7}{8}\right)^{-3}$?", "1"),
    (
        "In how many ways can 4 books be selected from a shelf of 6 books if the order in which the books are selected "
        "does not matter?",
        "15",
    ),
    ("Find the distance between the points $(2,1,-4)$ and $(5,8,-3).$", r"\sqrt{59}"),
    (
        "The faces of an octahedral die are labeled with digits $1$ through $8$. What is the probability, expressed as "
        "a common fraction, of rolling a sum of $15$ with a pair of such octahedral dice?",
        r"\frac{1}{32}",
    ),
    (
        "The first three terms of an arithmetic sequence are 1, 10 and 19, respectively. What is the value of the 21st "
        "term?",
        "181",
    ),
    (r"Calculate $6 \cdot 8\frac{1}{3}", "50"),
    (
        "When the binary number $100101110010_2$ is divided by 4, what is the remainder (give your answer in base 10)?",
        "2",
    ),
    (r"How many zeros are at the end of the product 25 $\times$ 240?", "3"),
)


@generator("math_examples")
def math_examples(n: int, seed: int) -> Iterator[Mapping[str, Any]]:
    """{problem, answer}: the first `n` of the eight; `seed` is ignored."""
    for problem, answer in EXAMPLES[:n]:
        yield {"problem": problem, "answer": answer}
