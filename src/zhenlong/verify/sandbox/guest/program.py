"""The program's process: run a file as Python would, or serve calls of its functions (call_server.py).

Code here is untrusted, and its output counts only as a value: the tests and expected answers are in other processes.
Few imports, because they delay every program.
"""

from __future__ import annotations

import builtins
import io
import os
import site
import sys

STARTED_FD = 3  # file descriptor, closed when the program's own code (and its time limit) starts


def start_program() -> None:
    """Entry point. Command line: `run FILE [swallow-exit]` or `serve FILE`."""
    mode, path, *rest = sys.argv[1:]
    sys.path[:] = [os.path.dirname(path), *(one for one in sys.path[1:] if not os.path.exists(f"{one}/guest"))]
    sys.path += [one for one in os.environ.pop("SANDBOX_PACKAGES", "").split(os.pathsep) if one]
    sys.argv = [path]
    site.setquit()  # defines exit() and quit(), which `python -S` omits
    if mode == "run":
        run_main(path, "swallow-exit" in rest)
    else:
        from .call_server import serve_calls

        serve_calls(path, load_module)


def run_main(path: str, swallow_exit: bool) -> None:
    """Run a file as the main program. `swallow_exit`: sys.exit with any code counts as a normal end."""
    _provide_dev_stdin()
    try:
        load_module(path, "__main__")
    except SystemExit:
        if not swallow_exit:
            raise


def _provide_dev_stdin() -> None:
    """Let `open("/dev/stdin")` read the standard input, which needs /proc elsewhere."""
    plain_open = io.open

    def open_file(file: object, *arguments: object, **keywords: object) -> object:
        if file == "/dev/stdin" or str(file) == "/dev/stdin":
            file, keywords = 0, {**keywords, "closefd": False}
        return plain_open(file, *arguments, **keywords)  # type: ignore[call-overload]

    builtins.open = io.open = open_file  # type: ignore[assignment]


def load_module(path: str, name: str) -> object:
    """Execute a file as the module of that name and return the module."""
    module = type(sys)(name)
    module.__dict__.update(__file__=path, __builtins__=builtins)
    sys.modules[name] = module
    with open(path, "rb") as file:
        code = file.read()
    os.close(STARTED_FD)
    exec(compile(code, path, "exec", dont_inherit=True), module.__dict__)
    return module
