"""Programs that try to do harm, or to be taken for right.

Each is given as a solution of the same problem, `double(x)`, whose tests it must fail. What it says on its standard
output is no matter; `seconds` is its limit. `fork`: it is let start processes, so that what holds it is the sandbox
around it and not the refusal of the call.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hostile:
    """A program, and how it is run."""

    name: str
    code: str
    seconds: float = 0.15
    fork: bool = False


ESCAPES = [  # what they would leave behind, or bring back, is looked for; {canary}: a secret file, {folder}: its folder
    Hostile("reads_a_secret_file", "print(open({canary!r}).read())"),
    Hostile("finds_a_secret_by_symlink", "import os\nos.symlink({canary!r}, 'a')\nprint(open('a').read())"),
    Hostile("finds_a_secret_through_proc", "print(open('/proc/1/root' + {canary!r}).read())"),
    Hostile("walks_up_out_of_its_folder", "print(open('../' * 20 + {canary!r}[1:]).read())"),
    Hostile("writes_beside_a_secret", "open({folder!r} + '/written', 'w').write('x')"),
    Hostile("removes_a_secret", "import os\nos.unlink({canary!r})"),
    Hostile("removes_everything", "import shutil\nshutil.rmtree('/', ignore_errors=True)\nprint(1)"),
    Hostile("overwrites_the_harness", "open('/sandbox/guest/run_tests.py', 'w').write('')"),
    Hostile("overwrites_python", "import os\nopen(os.__file__, 'a').write('#')"),
    Hostile("mounts", "import ctypes\nassert ctypes.CDLL(None).mount(b'/', b'/tmp', None, 4096, None) == 0"),
    Hostile("becomes_root_in_a_namespace", "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0"),
    Hostile("becomes_root", "import os\nos.setuid(0)\nos.setgid(0)\nprint(open({canary!r}).read())"),
    Hostile("reads_the_environment", "import os\nprint(os.environ['ZHENLONG_CANARY'])"),
    Hostile("reads_the_parents_environment", "print(open('/proc/1/environ').read())"),
    Hostile("lists_the_home_folder", "import os\nprint(os.listdir({home!r}))"),
    Hostile(
        "snoops_on_other_processes",
        "import os\nprint([open(f'/proc/{{p}}/cmdline').read() for p in os.listdir('/proc')])",
    ),
    Hostile("connects_out", "import socket\nsocket.create_connection(('1.1.1.1', 80), 0.2)"),
    Hostile("connects_to_this_machine", "import socket\nsocket.create_connection(('127.0.0.1', {port}), 0.2)"),
    Hostile("resolves_a_name", "import socket\nsocket.getaddrinfo('example.com', 80)"),
    Hostile("calls_the_hypervisor", "import socket\nsocket.socket(40, socket.SOCK_STREAM)"),
    Hostile("finds_an_abstract_socket", "import socket\nsocket.socket(socket.AF_UNIX).connect({abstract!r})"),
    Hostile(
        "uses_the_kernels_key_ring",
        "import ctypes\nassert ctypes.CDLL(None).syscall(248, b'user', b'k', b'v', 1, -3) > 0",
    ),
    Hostile("kills_its_parent", "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)"),
    Hostile("kills_everyone", "import os, signal\nos.kill(-1, signal.SIGKILL)"),
    Hostile(
        "kills_everyone_as_a_family",
        "import os, signal\nos.kill(-1, signal.SIGKILL)\nos.kill(1, 9)\nprint(1)",
        fork=True,
    ),
    Hostile("kills_a_process_of_the_user", "import os\nos.kill({victim}, 9)", fork=True),
    Hostile("traces_its_parent", "import ctypes, os\nassert ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0"),
    Hostile(
        "runs_a_shell",
        "import subprocess\nprint(subprocess.run('cat ' + {canary!r}, shell=True, check=True))",
        fork=True,
    ),
]

GREEDY = [  # what they would use up
    Hostile("fork_bomb", "import os\nwhile True:\n    os.fork()"),
    Hostile(
        "fork_bomb_let_loose",
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
        fork=True,
    ),
    Hostile(
        "thread_bomb", "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(9,)).start()"
    ),
    Hostile("endless_output", "while True:\n    print('x' * 65536)"),
    Hostile("endless_errors", "import os\nwhile True:\n    os.write(2, b'x' * 65536)"),
    Hostile("memory_balloon", "a = []\nwhile True:\n    a.append(bytearray(1 << 26))", seconds=1),
    Hostile("memory_in_shared_files", "import os\nwhile True:\n    os.write(os.memfd_create('a'), bytes(1 << 24))"),
    Hostile("huge_file", "f = open('a', 'wb')\nwhile True:\n    f.write(bytes(1 << 20))\n    f.flush()"),
    Hostile("sparse_file", "import os\nos.truncate(os.open('a', os.O_CREAT | os.O_RDWR), 1 << 40)"),
    Hostile("huge_files", "for i in range(1 << 20):\n    open(f'{{i}}', 'wb').write(bytes(1 << 22))"),
    Hostile("many_files", "for i in range(1 << 30):\n    open(f'{{i}}', 'wb').close()"),
    Hostile("many_open_files", "a = []\nwhile True:\n    a.append(open('/dev/null'))"),
    Hostile("deep_recursion", "import sys\nsys.setrecursionlimit(1 << 30)\ndef f(x):\n    return [f(x)]\nf(0)"),
    Hostile("huge_integer", "print(10 ** 10 ** 9 % 7)"),
    Hostile("endless_loop", "while True:\n    pass"),
    Hostile("endless_loop_in_c", "sum(iter(int, 1))"),
    Hostile("endless_regular_expression", "import re\nre.match('(a+)+$', 'a' * 64 + 'b')"),
    Hostile("sleeps", "import time\ntime.sleep(1000)"),
    Hostile("waits_for_input", "import sys\nwhile True:\n    if sys.stdin.read(1):\n        break"),
    Hostile(
        "never_lets_go_of_signals",
        "import signal\nfor s in range(1, 32):\n    try:\n        signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass",
    ),
    Hostile(
        "sleeping_children",
        "import os, time\nfor _ in range(8):\n    if not os.fork():\n        time.sleep(1000)\nos._exit(0)",
        fork=True,
    ),
    Hostile(
        "daemon",
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        os.closerange(0, 9)\n"
        "        time.sleep(1000)\n    os._exit(0)\nos._exit(0)",
        fork=True,
    ),
    Hostile("stopped", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"),
    Hostile("crashes", "import ctypes\nctypes.string_at(0)"),
]

RIGHT = "def double(x):\n    return 2 * x\n"
FORGERIES = [  # what they would be taken for: a right solution; they know the test harness and what it says
    Hostile("exits_at_once", "import os\nprint('passed')\nos._exit(0)"),
    Hostile("exits_when_called", "import os\ndef double(x):\n    print('passed', flush=True)\n    os._exit(0)"),
    Hostile("sys_exit_when_called", "import sys\ndef double(x):\n    sys.exit(0)"),
    Hostile("interrupts", "def double(x):\n    raise KeyboardInterrupt"),
    Hostile("generator_exit", "def double(x):\n    raise GeneratorExit"),
    Hostile(
        "equal_to_everything",
        "class All(int):\n    def __eq__(self, other):\n        return True\n    __hash__ = int.__hash__\n"
        "def double(x):\n    return All(0)",
    ),
    Hostile(
        "an_object_equal_to_everything",
        "class All:\n    def __eq__(self, other):\n        return True\ndef double(x):\n    return All()",
    ),
    Hostile(
        "a_list_equal_to_everything",
        "class All(list):\n    def __eq__(self, other):\n        return True\ndef double(x):\n    return All([1])",
    ),
    Hostile(
        "no_assertion_error",
        "import builtins\nclass Never(Exception):\n    pass\n"
        "builtins.AssertionError = Never\ndef double(x):\n    return 0",
    ),
    Hostile(
        "replaces_check",
        "import builtins, sys\nbuiltins.check = lambda f: None\nsys.modules['__main__'].check = lambda f: None\n"
        "def check(f):\n    pass\ndef double(x):\n    return 0",
    ),
    Hostile(
        "replaces_exec",
        "import builtins\nbuiltins.exec = builtins.compile = lambda *a, **k: None\ndef double(x):\n    return 0",
    ),
    Hostile(
        "writes_a_verdict_everywhere",
        'import os\nfor end in range(64):\n    for text in (b\'{{"passed": true, "error": "", "reason": ""}}\\n\','
        " b'{{\"loaded\": true}}\\n'):\n        try:\n            os.write(end, text)\n"
        "        except OSError:\n            pass\n"
        "def double(x):\n    return 0",
    ),
    Hostile(
        "answers_ahead",
        "import os\nos.write(5, b'{{\"loaded\": true}}\\n' + b'{{\"value\": 0}}\\n' * 99)\n"
        "def double(x):\n    return 0",
    ),
    Hostile("sends_nonsense", "import os\nos.write(5, b'[' * 100000 + b'\\n')\ndef double(x):\n    return 0"),
    Hostile(
        "sends_an_object_to_be_made",
        'import os\ndef double(x):\n    os.write(5, b\'{{"value": {{"type": "eval", "value": "1"}}}}\\n\')',
    ),
    Hostile("closes_its_pipes", "import os\nos.closerange(0, 64)\ndef double(x):\n    return 0"),
    Hostile(
        "traces_the_tests",
        "import sys\ndef trace(frame, event, argument):\n    frame.f_locals.clear()\n    return trace\n"
        "sys.settrace(trace)\nsys.setprofile(trace)\ndef double(x):\n    return 0",
    ),
    Hostile(
        "says_so_at_exit",
        "import atexit, os\natexit.register(lambda: os.write(1, b'passed'))\ndef double(x):\n    return 0",
    ),
    Hostile(
        "replaces_stdout",
        "import sys\nclass Out:\n    def write(self, text):\n        return 0\n    def flush(self):\n        pass\n"
        "sys.stdout = sys.stderr = Out()\nraise SystemExit(0)",
    ),
    Hostile(
        "looks_for_the_tests",
        "import gc, sys\ndef double(x):\n    text = repr(gc.get_objects()) + repr(sys._getframe(1).f_locals)\n"
        "    return 2 * x if '-'.join(['token', 'of', 'the', 'tests']) in text else 0",
        seconds=2,
    ),
    Hostile(
        "patches_json", "import json\njson.dumps = lambda *a, **k: '{{\"value\": 42}}'\ndef double(x):\n    return 0"
    ),
    Hostile(
        "a_thread_that_answers",
        "import os, threading\ndef go():\n    while True:\n        os.write(5, b'{{\"value\": 0}}\\n')\n"
        "threading.Thread(target=go, daemon=True).start()\ndef double(x):\n    return 0",
    ),
    Hostile("never_ends_its_imports", "import sys\nsys.modules['json'] = None\nimport json"),
    Hostile("not_python", "def double(x) return"),
    Hostile("null_bytes", "def double(x):\n    return 0\x00"),
    Hostile("deeply_nested_source", "a = " + "(" * 5000 + ")" * 5000),
]
EVERY = [*ESCAPES, *GREEDY, *FORGERIES]
