"""Ordinary programs in the sandbox: input, output, exit, limits, and refusal without isolation."""

from __future__ import annotations

import math
import os
import select
import subprocess
import sys
from collections import Counter, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from verify.hostile.machine import ISOLATED, UNSAFE

import zhenlong.verify.sandbox.sandbox as sandbox_module
from zhenlong.errors import UserError
from zhenlong.verify.sandbox import Isolation, Limits, Sandbox, run_program, run_programs
from zhenlong.verify.sandbox.guest import seccomp
from zhenlong.verify.sandbox.guest.serialization import Opaque, dumps, loads


@pytest.mark.parametrize("unsafe", [UNSAFE, True])
def test_a_program_reads_prints_and_exits_as_usual(unsafe: bool) -> None:
    code = (
        "import sys\nname = input()\nprint(f'hello {name}', len(sys.stdin.read()))\n"
        "print('oh', file=sys.stderr)\nsys.exit(3)"
    )
    found = run_program(code, stdin="wörld\nmore\n", unsafe=unsafe)
    assert (found.stdout, found.stderr, found.exit_code, found.reason) == ("hello wörld 5\n", "oh\n", 3, "")
    assert not found.succeeded
    assert not found.timed_out
    assert found.memory > 1 << 20


def test_a_program_has_its_files_its_own_folder_and_the_usual_builtins() -> None:
    code = "import os, helper\nprint(helper.VALUE, open('a/b.txt').read(), sorted(os.listdir()), __name__)\nexit()"
    files = {"helper.py": "VALUE = 7", "a/b.txt": "text"}
    found = run_program(code, files=files, unsafe=UNSAFE)
    assert found.stdout == "7 text ['a', 'helper.py', 'main.py'] __main__\n"
    assert found.succeeded


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "main.py", ""])
def test_a_file_outside_of_the_folder_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="within the working folder"):
        run_program("", files={name: ""}, unsafe=True)


def test_each_run_of_a_sandbox_starts_with_a_clean_folder() -> None:
    with Sandbox("import os\nprint(os.path.exists('left'), input())\nopen('left', 'w')", unsafe=UNSAFE) as box:
        assert [box.request({"stdin": f"{k}\n"})["stdout"] for k in range(3)] == [f"False {k}\n" for k in range(3)]


def test_many_programs_come_back_in_their_order() -> None:
    found = run_programs([f"print({k})" for k in range(5)], unsafe=UNSAFE, workers=3)
    assert [one.stdout for one in found] == [f"{k}\n" for k in range(5)]


def test_set_order_is_deterministic() -> None:
    code = "print({'a', 'b', 'c', 'd', 'e'}, hash('x'))"
    assert len({one.stdout for one in run_programs([code] * 3, unsafe=UNSAFE)}) == 1


@pytest.mark.parametrize(
    ("code", "limits", "reason"),
    [
        ("while True: pass", {"seconds": 0.2}, "time limit"),
        ("while True: pass", {"seconds": 60, "cpu_seconds": 1}, "cpu limit"),
        ("print('x' * 4096)", {"output": 1024}, "output limit"),
    ],
)
def test_the_reason_names_the_limit_that_ended_a_program(code: str, limits: dict[str, Any], reason: str) -> None:
    found = run_program(code, limits=Limits(**limits), unsafe=UNSAFE)
    assert found.reason == reason
    assert found.timed_out == (reason != "output limit")
    assert len(found.stdout) <= limits.get("output", 1 << 20)


def test_allocation_beyond_the_memory_limit_fails() -> None:
    code = "try:\n    bytearray(1 << 29)\nexcept MemoryError:\n    print('refused')"
    assert run_program(code, limits=Limits(memory=256 << 20), unsafe=UNSAFE).stdout == "refused\n"


def test_threads_may_be_started_and_deep_recursion_has_its_stack() -> None:
    code = (
        "import sys, threading\nsys.setrecursionlimit(50000)\n"
        "def f(n):\n    return n and 1 + f(n - 1)\n"
        "t = threading.Thread(target=lambda: print(f(20000)))\nt.start()\nt.join()"
    )
    assert run_program(code, unsafe=UNSAFE).stdout == "20000\n"


def test_packages_are_importable_only_if_requested() -> None:
    code = "try:\n    import numpy\n    print(int(numpy.arange(4).sum()))\nexcept ImportError:\n    print('none')"
    assert run_program(code, unsafe=UNSAFE, packages=("numpy",)).stdout == "6\n"
    assert run_program(code, unsafe=UNSAFE).stdout == "none\n"
    with pytest.raises(UserError, match="not installed"):
        run_program(code, unsafe=True, packages=("no_such_package",))


@pytest.mark.skipif(not ISOLATED, reason="this machine isolates no programs")
def test_a_program_sees_only_python_and_an_empty_folder() -> None:
    code = (
        "import os, socket\nprint(os.listdir('/tmp'), os.path.exists('/proc'), os.path.exists('/bin'), os.getcwd())\n"
        "print(sorted(os.environ), socket.gethostname())\nprint(os.path.exists({!r}), os.path.exists({!r}))"
    ).format(str(Path(__file__)), str(Path.home() / ".bashrc"))
    lines = run_program(code).stdout.splitlines()
    assert lines[0] == "['main.py'] False False /tmp"
    known = ["HOME", "LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH", "PYTHONHASHSEED", "TMPDIR"]
    assert lines[1] in (f"{known} sandbox", f"{sorted([*known, 'PWD'])} sandbox")
    assert lines[2] == "False False"


@pytest.mark.skipif(not ISOLATED, reason="this machine isolates no programs")
def test_processes_start_only_if_allowed_and_end_with_the_program() -> None:
    code = "import os, time\nif os.fork() == 0:\n    print('child', flush=True)\n    time.sleep(1000)\nos.read(0, 1)"
    assert "Operation not permitted" in run_program(code).stderr
    allowed = run_program(code, limits=Limits(fork=True, seconds=3))
    assert allowed.succeeded
    with pytest.raises(UserError, match="fork needs isolation"):
        run_program(code, limits=Limits(fork=True), unsafe=True)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
@pytest.mark.parametrize("unsafe", [UNSAFE, True])
def test_a_program_ends_when_its_parent_is_killed(unsafe: bool, tmp_path: Path) -> None:
    """After `kill -9` of the parent the kernel ends the rest."""
    starter = (
        "import threading, time\nfrom zhenlong.verify.sandbox import Limits, Sandbox\n"
        f"box = Sandbox('import time\\ntime.sleep(1000)', limits=Limits(seconds=1000), unsafe={unsafe})\n"
        "threading.Thread(target=box.request, args=({'stdin': ''},)).start()\nprint(box._process.pid, flush=True)"
    )
    here = os.environ | {"TMPDIR": str(tmp_path)}  # for files that nobody removes
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True, env=here) as process:
        assert process.stdout is not None
        within = os.pidfd_open(int(process.stdout.readline()))
        process.kill()
    ended, _, _ = select.select([within], [], [], 20)
    os.close(within)
    assert ended


def test_without_isolation_a_program_is_refused_with_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sandbox_module, "isolation_candidates", lambda: [("bubblewrap", None), ("namespaces", Isolation("namespaces"))]
    )
    monkeypatch.setattr(sandbox_module, "probe", lambda chosen: "unshare: Operation not permitted")
    sandbox_module._find_isolation.cache_clear()
    try:
        with pytest.raises(UserError, match=r"bubblewrap: not installed; namespaces: unshare.*set unsafe"):
            run_program("print(1)")
        assert run_program("print(1)", unsafe=True).stdout == "1\n"
    finally:
        sandbox_module._find_isolation.cache_clear()


@pytest.mark.skipif(os.geteuid() == 0, reason="root has the rights that this takes")
def test_a_failing_isolation_backend_says_why() -> None:
    assert "not permitted" in sandbox_module.probe(Isolation("namespaces", own_uid=True))


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"memory": -1}, {"output": 0}])
def test_limits_are_above_zero(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="expected more than 0"):
        Limits(**wrong)


@pytest.mark.skipif(not seccomp.supported(), reason="the filter is not written for this machine")
def test_the_filters_jumps_stay_in_range_and_end_in_a_return() -> None:
    for fork in (False, True):
        steps = seccomp.filter_program(fork, os.getpid())
        for place, (code, yes, no, _) in enumerate(steps):
            assert code == 0x06 or place + 1 + max(yes, no) < len(steps)
        assert steps[-1][0] == 0x06


VALUES: list[Any] = [
    None,
    True,
    -(10**30),
    1.5,
    -0.0,
    math.inf,
    "t\udc80é",
    b"\x00",
    [1, (2, [3])],
    {(1, "a"): {2}, None: frozenset({3})},
    1 + 2j,
    range(1, 9, 2),
    deque([1]),
    Decimal("1.10"),
    Fraction(1, 3),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_plain_values_survive_a_round_trip(value: Any) -> None:
    back = loads(dumps(value))
    assert type(back) is type(value)
    assert repr(back) == repr(value)


def test_other_objects_equal_nothing_and_subclasses_lose_their_methods() -> None:
    class Odd(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    back = loads(dumps([Odd(3), object(), Counter("aa"), iter([1])]))
    assert type(back[0]) is int
    assert back[0] != 4
    assert isinstance(back[1], Opaque)
    assert back[1] != 1
    assert back[2] == {"a": 2}
    assert list(back[3]) == [1]


@pytest.mark.parametrize(
    "line", ['{"type": "eval", "value": 1}', "{}", '{"type": "set", "value": [[]]}', "x", "[" * 10**5]
)
def test_an_invalid_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(line)
