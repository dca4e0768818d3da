"""How does a model take harmful requests in disguise? Attacks that wrap the requests of a scenario.

A scenario whose YAML has `attacks` has a companion for every attack, named `<scenario>_<attack>`, such as
`advbench_code_python_stack`: the same rows, wrapped when they are put, and the reply read back before it is measured.
"""

from __future__ import annotations

from zhenlong.evaluate.attacks.code import NAMES, decoded, read_template, wrapped

__all__ = ["NAMES", "decoded", "read_template", "wrapped"]
