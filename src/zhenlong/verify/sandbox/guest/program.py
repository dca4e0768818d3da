"""The program's process: run a file as Python would, or hand it over to be served (call_server.py).

What runs here is not trusted, and nothing that it says is taken for more than a value: the tests and the right answers
are in other processes. Few imports: they are in the way of every program.
"""

from __future__ import annotations

import builtins
import os
import site
import sys

STARTED_FD = 3  # file descriptor that is closed when the program's own code begins, and with it its time


def main() -> None:
    """Do as the command line says: `run FILE [swallow-exit]` or `serve FILE`."""
    mode, path, *rest = sys.argv[1:]
    sys.path[:] = [os.path.dirname(path), *(one for one in sys.path[1:] if not os.path.exists(f"{one}/guest"))]
    sys.path += [one for one in os.environ.pop("SANDBOX_PACKAGES", "").split(os.pathsep) if one]
    sys.argv = [path]
    site.setquit()  # exit() and quit(), which a program expects and `python -S` leaves out
    if mode == "run":
        run_main(path, "swallow-exit" in rest)
    else:
        from .call_server import serve_calls

        serve_calls(path, load_module)


def run_main(path: str, swallow_exit: bool) -> None:
    """Run a file as the main program. `swallow_exit`: sys.exit of any code is an ordinary end."""
    try:
        load_module(path, "__main__")
    except SystemExit:
        if not swallow_exit:
            raise


def load_module(path: str, name: str) -> object:
    """Run a file as the module of that name; the module."""
    module = type(sys)(name)
    module.__dict__.update(__file__=path, __builtins__=builtins)
    sys.modules[name] = module
    with open(path, "rb") as file:
        code = file.read()
    os.close(STARTED_FD)
    exec(compile(code, path, "exec", dont_inherit=True), module.__dict__)
    return module
