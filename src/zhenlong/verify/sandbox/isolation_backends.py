"""Isolation backends: bubblewrap, else Linux namespaces, else none."""

from __future__ import annotations

import os
import platform
import random
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from zhenlong.errors import UserError

PACKAGE_FOLDER: Final = str(Path(__file__).resolve().parent)
LIBRARIES: Final = ("/lib", "/lib64", "/lib32", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store")
UID_RANGE: Final = range(1 << 29, 1 << 30)  # unused user ids; each program gets its own
START_SUPERVISOR: Final = "import sys; sys.path.append({!r}); from guest.supervise import supervise; supervise()"
ENVIRONMENT: Final = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # deterministic order of sets of strings
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Isolation:
    """How a program runs: `bubblewrap`, `namespaces` or `unsafe`. `own_uid`: started by root under its own user id."""

    kind: str
    own_uid: bool = False


UNSAFE: Final = Isolation("unsafe")


def isolation_candidates() -> list[tuple[str, Isolation | None]]:
    """What this machine may be able to do, best first, by name; None where it is not installed."""
    if platform.system() != "Linux":
        return [("namespaces", None)]
    found: list[tuple[str, Isolation | None]] = [
        ("bubblewrap", Isolation("bubblewrap") if _bubblewrap_path() else None)
    ]
    if os.geteuid() == 0:
        found.append(("namespaces by root", Isolation("namespaces", own_uid=True)))
    return [*found, ("user namespaces", Isolation("namespaces"))]


def launch_command(isolation: Isolation, work_folder_bytes: int, packages: tuple[str, ...]) -> list[str]:
    """The command line of the trusted process inside the sandbox; `work_folder_bytes` limits the working folder."""
    start = [python_executable(), "-S", "-B", "-X", "utf8", "-c"]
    if isolation.kind != "bubblewrap":
        return [*start, START_SUPERVISOR.format(PACKAGE_FOLDER)]
    mounts: list[str] = []
    for outside, within in visible_paths(packages):
        if os.path.islink(outside):
            mounts += ["--symlink", os.readlink(outside), within]
        else:
            mounts += ["--ro-bind", outside, within]
    for name in ("null", "zero", "full", "random", "urandom"):
        mounts += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    options = ["--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1", "--hostname", "sandbox"]
    options += ["--cap-drop", "ALL", "--uid", "65534", "--gid", "65534"]
    work_folder_options = ["--size", str(work_folder_bytes), "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp"]
    return [_bubblewrap_path(), *options, *mounts, *work_folder_options, *start, START_SUPERVISOR.format("/sandbox")]


def job_settings(isolation: Isolation, folder: str, packages: tuple[str, ...]) -> dict[str, Any]:
    """The part of a job that depends on the isolation: paths inside the sandbox, user id, environment."""
    unsafe = isolation.kind == "unsafe"
    work = folder if unsafe else "/tmp"
    package_folders = sorted({os.path.dirname(path) for path in _package_paths(packages)}) if unsafe else ["/packages"]
    environment: Mapping[str, str] = {**ENVIRONMENT, "HOME": work, "TMPDIR": work}
    if packages:
        environment = {**environment, "SANDBOX_PACKAGES": os.pathsep.join(package_folders)}
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2] if part.isdigit())
    return {
        "isolation": isolation.kind,
        "parent": os.getpid(),
        "python": python_executable(),
        "guest_parent": PACKAGE_FOLDER if unsafe else "/sandbox",
        "work": work,
        "visible": [] if unsafe else visible_paths(packages),
        "uid": random.SystemRandom().choice(UID_RANGE) & ~1 if isolation.own_uid else None,
        # since Linux 5.14 RLIMIT_NPROC counts per user namespace; processes of root are not counted
        "count_processes": isolation.own_uid or (not unsafe and release >= (5, 14) and os.geteuid() != 0),
        "environment": environment,
    }


def python_executable() -> str:
    """The path of the interpreter itself, outside any virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def visible_paths(packages: tuple[str, ...]) -> list[tuple[str, str]]:
    """The files that a program can read: pairs of a path on this machine and its path inside the sandbox."""
    prefix = os.path.realpath(sys.base_prefix)
    libraries = [*LIBRARIES, os.path.join(prefix, "lib"), sysconfig.get_paths()["stdlib"], "/etc/ld.so.cache"]
    paths: list[str] = []
    for path in libraries:
        covered = any(path == other or path.startswith(f"{other}/") for other in paths)
        if os.path.lexists(path) and not covered:
            paths.append(path)
    if not any(python_executable().startswith(f"{path}/") for path in paths):
        paths.append(python_executable())
    guest_package = [(os.path.join(PACKAGE_FOLDER, "guest"), "/sandbox/guest")]
    imported = [(path, f"/packages/{Path(path).name}") for path in _package_paths(packages)]
    return [*((path, path) for path in paths), *guest_package, *imported]


def _package_paths(packages: tuple[str, ...]) -> list[str]:
    """The folders of importable packages, and of the shared libraries that wheels install next to them."""
    found = []
    for name in packages:
        spec = find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f"sandbox: package {name!r} is not installed; install it, or leave it out of `packages`")
        place = os.path.realpath(next(iter(spec.submodule_search_locations)))
        found += [path for path in (place, f"{place}.libs") if os.path.isdir(path)]
    return found


def _bubblewrap_path() -> str:
    return shutil.which("bwrap") or ""
