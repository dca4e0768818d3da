"""New namespaces, with a file system that contains Python, a few devices and an empty folder.

Called by the launcher. The process that returns is PID 1 of the new namespace; when it ends, everything inside ends.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from typing import Any, Final

from .drop_privileges import die_with_parent

WORK_FOLDER: Final = "/tmp"  # the program's folder inside the sandbox
DEVICES: Final = ("null", "zero", "full", "random", "urandom")
NOBODY: Final = 65534
MAX_INODES: Final = 4096
_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 1 << 17, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 1 << 12, 1 << 14, 1 << 18
_LOCKED_FLAGS: Final = (
    _NOSUID | _NODEV | _NOEXEC | (1 << 10) | (1 << 11)
)  # mount flags that a new namespace cannot clear
_ST_RELATIME, _RELATIME = 1 << 12, 1 << 21
_DETACH: Final = 2
_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
_NEW_ROOT: Final = "/proc"  # where the new root is assembled; hides nothing that is bound into it


def enter_namespaces(job: Mapping[str, Any]) -> None:
    """Enter new namespaces as PID 1. Raises `OSError` if the machine refuses them."""
    flags = _NEWNS | _NEWPID | _NEWNET | _NEWIPC | _NEWUTS
    if job["uid"] is not None:  # real root: no user namespace needed, the program gets its own user id
        _unshare(flags)
    else:
        user, group = os.geteuid(), os.getegid()
        _unshare(flags | _NEWUSER)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{NOBODY} {user} 1")
        _write("/proc/self/gid_map", f"{NOBODY} {group} 1")
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    die_with_parent()
    _build_root(job["visible"])
    ctypes.CDLL(None).sethostname(b"sandbox", 7)


def mount_work_folder(job: Mapping[str, Any]) -> None:
    """Mount an empty in-memory folder of limited size for the program, replacing the previous one."""
    if os.path.ismount(WORK_FOLDER):
        _libc_call("umount2", WORK_FOLDER.encode(), _DETACH)
    owner = NOBODY if job["uid"] is None else job["uid"]
    size = job["limits"]["disk"]
    options = f"size={size},nr_inodes={MAX_INODES},mode=700,uid={owner},gid={owner}"
    _mount("tmpfs", WORK_FOLDER, "tmpfs", _NOSUID | _NODEV, options)


def _build_root(visible: list[tuple[str, str]]) -> None:
    """Build the new root: `visible` pairs of an outside and an inside path, read-only; devices; nothing else."""
    _mount("none", "/", None, _REC | _PRIVATE)
    _mount("tmpfs", _NEW_ROOT, "tmpfs", _NOSUID | _NODEV, "size=1m,mode=755")
    for outside, within in visible:
        target = _NEW_ROOT + within
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.islink(outside):
            os.symlink(os.readlink(outside), target)
            continue
        _make_mount_point(outside, target)
        _mount(outside, target, None, _BIND | _REC)
        _mount("none", target, None, _BIND | _REMOUNT | _RDONLY | _NOSUID | _NODEV | _mount_flags(target))
    os.mkdir(f"{_NEW_ROOT}/dev")
    for name in DEVICES:
        _make_mount_point(f"/dev/{name}", f"{_NEW_ROOT}/dev/{name}")
        _mount(f"/dev/{name}", f"{_NEW_ROOT}/dev/{name}", None, _BIND)
    os.mkdir(_NEW_ROOT + WORK_FOLDER)
    os.chdir(_NEW_ROOT)
    number = _PIVOT_ROOT[os.uname().machine]
    _libc_call("syscall", ctypes.c_long(number), b".", b".")
    _libc_call("umount2", b".", _DETACH)
    os.chdir("/")
    _mount("none", "/", None, _BIND | _REMOUNT | _RDONLY | _NOSUID | _NODEV | _mount_flags("/"))


def _make_mount_point(outside: str, target: str) -> None:
    """Create a mount point: a folder for a folder, a file for anything else."""
    if os.path.isdir(outside):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))


def _mount_flags(path: str) -> int:
    found = os.statvfs(path).f_flag
    return (found & _LOCKED_FLAGS) | (_RELATIME if found & _ST_RELATIME else 0)


def _unshare(flags: int) -> None:
    _libc_call("unshare", flags)


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    kind_bytes = None if kind is None else kind.encode()
    _libc_call("mount", source.encode(), target.encode(), kind_bytes, ctypes.c_ulong(flags), options.encode() or None)


def _libc_call(name: str, *arguments: Any) -> None:
    """Call a C library function; raises `OSError` if it returns -1."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) == -1:
        number = ctypes.get_errno()
        what = " ".join(one.decode() for one in arguments if isinstance(one, bytes))
        raise OSError(number, f"{os.strerror(number)} ({f'{name} {what}'.strip()})")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
