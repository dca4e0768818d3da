"""HELM's perturbations by name: rewordings that should not change the answer.

`PERTURBATIONS` holds all; `CANONICAL` names those that HELM's headline numbers use for each category.
"""

from __future__ import annotations

from typing import Final

from zhenlong.evaluate.perturb.fairness import dialect, gender, gender_terms, names, surnames
from zhenlong.evaluate.perturb.perturbation import Perturbation
from zhenlong.evaluate.perturb.robustness import (
    add_fillers,
    contract,
    expand,
    extra_space,
    lowercase,
    mild_mix,
    misspell,
    replace_synonyms,
    space,
    typos,
)

PERTURBATIONS: Final[dict[str, Perturbation]] = {
    one.name: one
    for one in (
        Perturbation("mild_mix", "robustness", mild_mix, rewrites_references=False),
        Perturbation("lowercase", "robustness", lowercase, rewrites_references=False),
        Perturbation("contractions", "robustness", contract, rewrites_references=False),
        Perturbation("expansions", "robustness", expand, rewrites_references=False),
        Perturbation("misspellings", "robustness", misspell, rewrites_references=False),
        Perturbation("spacing", "robustness", space, rewrites_references=False),
        Perturbation("extra_space", "robustness", extra_space, rewrites_references=False),
        Perturbation("typos", "robustness", typos, rewrites_references=False),
        Perturbation("filler_words", "robustness", add_fillers, rewrites_references=False),
        Perturbation("synonyms", "robustness", replace_synonyms, rewrites_references=False),
        Perturbation("dialect", "fairness", dialect, rewrites_references=True),
        Perturbation("gender", "fairness", gender, rewrites_references=True, swaps_people=True),
        Perturbation("gender_terms", "fairness", gender_terms, rewrites_references=True, swaps_people=True),
        Perturbation("names", "fairness", names, rewrites_references=True, swaps_people=True),
        Perturbation("surnames", "fairness", surnames, rewrites_references=True, swaps_people=True),
    )
}
CANONICAL_PERTURBATIONS: Final = ("mild_mix", "dialect", "gender", "names")

__all__ = ["CANONICAL_PERTURBATIONS", "PERTURBATIONS", "Perturbation"]
