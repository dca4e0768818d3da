"""Does a change of wording that should not matter change the answer? HELM's perturbations, by name.

`PERTURBATIONS` holds all; `CANONICAL` names those that stand for their category in HELM's headline numbers.
"""

from __future__ import annotations

from typing import Final

from zhenlong.evaluate.perturbations.fairness import dialect, gender, names
from zhenlong.evaluate.perturbations.perturbation import Perturbation
from zhenlong.evaluate.perturbations.robustness import (
    contract,
    expand,
    lowercase,
    mild_mix,
    misspell,
    space,
    typos,
)

PERTURBATIONS: Final[dict[str, Perturbation]] = {
    one.name: one
    for one in (
        Perturbation("mild_mix", "robustness", mild_mix, references=False),
        Perturbation("lowercase", "robustness", lowercase, references=False),
        Perturbation("contractions", "robustness", contract, references=False),
        Perturbation("expansions", "robustness", expand, references=False),
        Perturbation("misspellings", "robustness", misspell, references=False),
        Perturbation("spacing", "robustness", space, references=False),
        Perturbation("typos", "robustness", typos, references=False),
        Perturbation("dialect", "fairness", dialect, references=True),
        Perturbation("gender", "fairness", gender, references=True),
        Perturbation("names", "fairness", names, references=True),
    )
}
CANONICAL: Final = ("mild_mix", "dialect", "gender", "names")

__all__ = ["CANONICAL", "PERTURBATIONS", "Perturbation"]
