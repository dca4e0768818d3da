"""The C sources of this folder, compiled for this processor when they are first needed, and loaded.

The library lies in the user's cache under a name made of what went into it, so that it is made once a machine. It runs
on PyTorch's own threads: both are of the same OpenMP library.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

SOURCES: Final = ("attention.c", "decoding.c", "drawing.c", "elementwise.c", "softmax.c")
HEADERS: Final = ("panels.h", "vectors.h")
FLAGS: Final = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-fPIC", "-shared")
SWITCH: Final = "ZHENLONG_KERNELS"  # in the environment: 0 leaves everything to PyTorch
NUMBER: Final = ctypes.c_int64
POINTER: Final = ctypes.c_void_p
KINDS: Final = {"n": NUMBER, "i": ctypes.c_int, "f": ctypes.c_float, "p": POINTER}
# What the functions take, a letter an argument: number of 64 bits, int, float, pointer.
FUNCTIONS: Final = {
    "forest_attention": "ppp",
    "forest_attention_backward": "ppp",
    "decoding_attention": "pppp",
    "decoding_layers": "ppppppp",
    "draw": "ppnppp",
    "pack_weight": "nnpp",
    "rotate_pairs": "nnnpnp",
    "rms_norm": "nnpnpfpp",
    "rms_norm_backward": "nnpnpnpppp",
    "gated": "nnpnpnp",
    "gated_backward": "nnpnpnpnpp",
    "rotate": "nnnpnnppip",
    "score_rows": "pppppp",
    "raise_rows": "pp",
    "transpose": "nnpnp",
    "panel_width": "",
}
_switched_off = 0


def allowed() -> bool:
    """Whether kernels are not switched off, by the environment or by `switched_off`."""
    return not _switched_off and os.environ.get(SWITCH) != "0"


def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they are switched off or cannot be made, which a warning says once."""
    return None if _switched_off else _loaded()


def loaded() -> ctypes.CDLL:
    """The compiled kernels, for who knows that they are there: what ran forward by them runs backward by them too."""
    kernels = _loaded()
    assert kernels is not None, "ask `library` first"
    return kernels


@contextmanager
def switched_off() -> Iterator[None]:
    """Within this block everything is left to PyTorch."""
    global _switched_off
    _switched_off += 1
    try:
        yield
    finally:
        _switched_off -= 1


@cache
def _loaded() -> ctypes.CDLL | None:
    if os.environ.get(SWITCH) == "0" or sys.platform != "linux":
        return None
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    compiler = shlex.split(os.environ.get("CC", "")) or ([found] if found else [])
    if not compiler:
        return _warned("no C compiler was found (cc, gcc or clang; Debian: apt install gcc)")
    try:
        kernels = ctypes.CDLL(str(_made(compiler)))
    except subprocess.CalledProcessError as error:
        told = (error.stderr or error.stdout or "").strip().splitlines()
        return _warned(f"{compiler[0]} failed: {told[0] if told else f'code {error.returncode}'}")
    except (OSError, subprocess.TimeoutExpired) as error:
        return _warned(str(error))
    for name, takes in FUNCTIONS.items():
        getattr(kernels, name).argtypes = [KINDS[letter] for letter in takes]
    return kernels


def _warned(reason: str) -> ctypes.CDLL | None:
    warnings.warn(
        f"{reason}: the CPU computes without compiled kernels, which is slower; {SWITCH}=0 says that this is meant",
        stacklevel=2,
    )
    return None


def _made(compiler: list[str]) -> Path:
    """Where the library lies, made if it is not there yet. It appears whole, by renaming."""
    here = Path(__file__).parent
    parts = [*(here / name for name in SOURCES), *(here / name for name in HEADERS)]
    told = [*compiler, *FLAGS, _processor(), *(part.read_text() for part in parts)]
    name = f"kernels-{hashlib.sha256('|'.join(told).encode()).hexdigest()[:16]}.so"
    folder = _folder()
    target = folder / name
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / name
            command = [*compiler, *FLAGS, *(str(here / source) for source in SOURCES), "-o", str(made), "-lm"]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
            os.replace(made, target)
    return target


def _folder() -> Path:
    """A folder to keep it in: the user's cache, or where that cannot be written a temporary one."""
    try:
        cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zhenlong"
        cached.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # not to be written; a user without a home
        return Path(tempfile.mkdtemp(prefix="zhenlong-"))
    return cached if os.access(cached, os.W_OK) else Path(tempfile.mkdtemp(prefix="zhenlong-"))


def _processor() -> str:
    """What the compiler makes the library for: a cache may be shared by machines of several kinds."""
    flags = [line for line in _lines("/proc/cpuinfo") if line.startswith(("flags", "Features", "model name"))]
    return " ".join([platform.machine(), *sorted(set(flags))])


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
