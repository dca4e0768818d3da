"""Compiles the C sources of this folder for this processor on first use, and loads the library.

The library is cached in the user's cache folder under a hash of sources, flags and processor, so each machine compiles
once. Kernels run on PyTorch's threads: both use the same OpenMP library.
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

C_SOURCES: Final = ("attention.c", "decoding.c", "fused_ops.c", "softmax.c")
C_HEADERS: Final = ("panels.h", "vectors.h")
C_FLAGS: Final = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-fPIC", "-shared")
ENV_VARIABLE: Final = "ZHENLONG_KERNELS"  # environment variable: 0 disables all kernels
INT64: Final = ctypes.c_int64
POINTER: Final = ctypes.c_void_p
CTYPE_OF_CODE: Final = {"n": INT64, "i": ctypes.c_int, "f": ctypes.c_float, "p": POINTER}
# Argument types of each function, one letter each: n int64, i int, f float, p pointer.
SIGNATURES: Final = {
    "forest_attention": "ppp",
    "forest_attention_backward": "ppp",
    "decoding_attention": "pppp",
    "decoding_layers": "ppppppp",
    "pack_weight": "nnpp",
    "rope_interleaved": "nnnpnp",
    "rms_norm": "nnpnpfpp",
    "rms_norm_backward": "nnpnpnpppp",
    "swiglu": "nnpnpnp",
    "swiglu_backward": "nnpnpnpnpp",
    "log_softmax_gather": "pppppp",
    "exp_rows": "pp",
    "transpose": "nnpnp",
    "panel_width": "",
}
_disabled_depth = 0


def kernels_enabled() -> bool:
    """Whether kernels are enabled: neither the environment nor `kernels_disabled` turns them off."""
    return not _disabled_depth and os.environ.get(ENV_VARIABLE) != "0"


def load_library() -> ctypes.CDLL | None:
    """The compiled kernels; None if they are disabled or cannot be compiled. The latter warns once."""
    return None if _disabled_depth else _load_library()


def require_library() -> ctypes.CDLL:
    """The compiled kernels, known to be available; a backward pass uses them even if kernels are disabled by then."""
    kernels = _load_library()
    assert kernels is not None, "call `load_library` first"
    return kernels


@contextmanager
def kernels_disabled() -> Iterator[None]:
    """Disable all kernels inside the `with` block."""
    global _disabled_depth
    _disabled_depth += 1
    try:
        yield
    finally:
        _disabled_depth -= 1


@cache
def _load_library() -> ctypes.CDLL | None:
    if os.environ.get(ENV_VARIABLE) == "0" or sys.platform != "linux":
        return None
    default_compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    compiler = shlex.split(os.environ.get("CC", "")) or ([default_compiler] if default_compiler else [])
    if not compiler:
        return _warn_unavailable("no C compiler was found (cc, gcc or clang; Debian: apt install gcc)")
    try:
        kernels = ctypes.CDLL(str(_compile_library(compiler)))
    except subprocess.CalledProcessError as error:
        output = (error.stderr or error.stdout or "").strip().splitlines()
        return _warn_unavailable(f"{compiler[0]} failed: {output[0] if output else f'code {error.returncode}'}")
    except (OSError, subprocess.TimeoutExpired) as error:
        return _warn_unavailable(str(error))
    for name, signature in SIGNATURES.items():
        getattr(kernels, name).argtypes = [CTYPE_OF_CODE[letter] for letter in signature]
    return kernels


def _warn_unavailable(reason: str) -> ctypes.CDLL | None:
    warnings.warn(
        f"{reason}: the CPU computes without compiled kernels, which is slower; "
        f"set {ENV_VARIABLE}=0 if this is intended",
        stacklevel=2,
    )
    return None


def _compile_library(compiler: list[str]) -> Path:
    """The library's path; compiles it if it is missing. Written under a temporary name and renamed (atomic)."""
    here = Path(__file__).parent
    sources = [*(here / name for name in C_SOURCES), *(here / name for name in C_HEADERS)]
    key_parts = [*compiler, *C_FLAGS, _cpu_description(), *(part.read_text() for part in sources)]
    name = f"kernels-{hashlib.sha256('|'.join(key_parts).encode()).hexdigest()[:16]}.so"
    folder = _cache_folder()
    target = folder / name
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            compiled = Path(scratch) / name
            command = [*compiler, *C_FLAGS, *(str(here / source) for source in C_SOURCES), "-o", str(compiled), "-lm"]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
            os.replace(compiled, target)
    return target


def _cache_folder() -> Path:
    """The user's cache folder, or a temporary folder if that is not writable."""
    try:
        cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zhenlong"
        cached.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # not writable, or no home directory
        return Path(tempfile.mkdtemp(prefix="zhenlong-"))
    return cached if os.access(cached, os.W_OK) else Path(tempfile.mkdtemp(prefix="zhenlong-"))


def _cpu_description() -> str:
    """The processor the library is compiled for: machines of several kinds may share a cache."""
    flags = [line for line in _read_lines("/proc/cpuinfo") if line.startswith(("flags", "Features", "model name"))]
    return " ".join([platform.machine(), *sorted(set(flags))])


def _read_lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
