"""The launcher of the sandbox: new namespaces, a new root, then Python with nothing to reach.

This file runs by its text, `python -I -S -c`, at the head of every guest;
`icpo_lite.rewards.graders.sandbox` starts it. It imports the standard library alone, and little of
that: every import delays the start. Where bubblewrap builds the root, `confine` is all that is
used.
"""

# pathlib would take a third of a guest's start.
# ruff: noqa: PTH102, PTH103, PTH106, PTH120, PTH123, PTH211

from __future__ import annotations

import ctypes
import os
import resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NOBODY = 65534
#: How a launcher ends that could not isolate its guest.
FAILED = 97

_MS_READ_ONLY, _MS_NO_SUID, _MS_NO_DEVICES = 1, 2, 4
_MS_BIND, _MS_RECURSIVE, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_NEW_USER = 0x10000000
#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWPID, NEWNET.
_NEW_REST = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION = 0x20080522
_SIGINT, _SIGKILL, _IGNORED = 2, 9, 1
#: `mount_setattr` has this number on every machine.
_MOUNT_SETATTR = 442
_OLD_ROOT = "/.old"


class IsolationError(Exception):
    """What the system did not grant, in one line."""


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _must(result: int, what: str) -> None:
    if result != 0:
        raise IsolationError(f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    done = _libc().mount(
        source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags),
        options.encode() or None,
    )  # fmt: skip
    _must(done, f"mount of {kind or source} at {target}")


def _set_attributes(path: str, flags: int) -> None:
    """Add mount flags (MOUNT_ATTR_*) to a mount and all below it."""
    attributes = (ctypes.c_uint64 * 4)(flags, 0, 0, 0)
    done = _libc().syscall(
        ctypes.c_long(_MOUNT_SETATTR), ctypes.c_int(_AT_FDCWD), path.encode(),
        ctypes.c_uint(_AT_RECURSIVE), ctypes.byref(attributes), ctypes.c_size_t(32),
    )  # fmt: skip
    _must(done, "read-only mounts")


def isolate(settings: dict[str, Any]) -> None:
    """Go on as the only process of new namespaces, in a new root; the caller waits outside.

    settings: see `icpo_lite.rewards.graders.sandbox_root.Root.settings`. What the system does not
    grant is written to the descriptor settings["report"], and the process ends.
    """
    try:
        _die_with_parent()
        _enter_namespaces(settings["root"])
        _fork_and_stay_behind()
        # From here on process 1 of the namespace, whose end is the end of all others.
        _die_with_parent()
        _build_root(settings)
        _fork_and_stay_behind()
        os.chdir(settings["work"])
        _give_up_capabilities()
        _install_filter(settings["filter"])
    except (IsolationError, OSError) as error:
        os.write(settings["report"], f"isolation: {error}\n".encode())
        os._exit(FAILED)


def _fork_and_stay_behind() -> None:
    """Return in a child; the parent holds no file and ends as its child ends."""
    child = os.fork()
    if child == 0:
        return
    _libc().signal(_SIGINT, _IGNORED)  # the one signal that Python would answer
    os.closerange(0, 1024)
    while True:
        ended, status = os.waitpid(-1, 0)  # a first process reaps orphans too
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _enter_namespaces(root: bool) -> None:
    """New namespaces of every kind; root: it is root, and can become somebody else later."""
    libc = _libc()
    if root:
        if libc.unshare(_NEW_REST) == 0:
            return
        # Root of a container, without the right to mount: it goes on as an ordinary user.
        try:
            _become(NOBODY)
        except OSError as error:
            raise IsolationError(f"root may neither mount nor become nobody: {error}") from None
        libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        _die_with_parent()
    user, group = os.geteuid(), os.getegid()
    _must(libc.unshare(_NEW_USER | _NEW_REST), "new user namespace")
    if _read("/proc/self/setgroups") != "deny":
        _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{NOBODY} {user} 1")
    _write("/proc/self/gid_map", f"{NOBODY} {group} 1")


def _become(user: int) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _build_root(settings: dict[str, Any]) -> None:
    """A root in memory that holds what `settings` list, and one writable folder."""
    base = settings["base"]
    _mount("none", "/", "", _MS_RECURSIVE | _MS_PRIVATE)
    _mount("tmpfs", base, "tmpfs", _MS_NO_SUID | _MS_NO_DEVICES, "size=4m,mode=755")
    os.mkdir(base + _OLD_ROOT)
    root = _libc().syscall(
        ctypes.c_long(settings["pivot_root"]), base.encode(), (base + _OLD_ROOT).encode()
    )
    _must(root, "pivot_root")
    os.chdir("/")
    for path, target in settings["links"]:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, path)
    for path in settings["folders"]:
        os.makedirs(path)
        _mount(_OLD_ROOT + path, path, "", _MS_BIND | _MS_RECURSIVE)
    for path in settings["files"]:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o755))
        _mount(_OLD_ROOT + path, path, "", _MS_BIND)
    for path in settings["hidden"]:
        _mount("tmpfs", path, "tmpfs", _MS_NO_SUID | _MS_NO_DEVICES, "size=4k,mode=555")
    os.makedirs(settings["work"], exist_ok=True)
    _must(_libc().umount2(_OLD_ROOT.encode(), _MNT_DETACH), "leaving the old root")
    os.rmdir(_OLD_ROOT)
    _set_attributes("/", _MS_READ_ONLY | _MS_NO_SUID | _MS_NO_DEVICES)
    flags = _MS_NO_SUID | _MS_NO_DEVICES
    _mount("tmpfs", settings["work"], "tmpfs", flags, settings["work_options"])


def _install_filter(program: bytes) -> None:
    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))

    libc = _libc()
    _must(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    given = Program(len(program) // 8, program)
    done = libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(given), 0, 0)
    _must(done, "system-call filter")


def _die_with_parent() -> None:
    _libc().prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def _give_up_capabilities() -> None:
    """None is left in the namespace either; as root this is done by `confine`."""
    if os.geteuid() != 0:
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
        _must(_libc().capset(header, (ctypes.c_uint32 * 6)()), "giving up capabilities")


def confine(limits: dict[str, int], user: int) -> None:
    """Give up root for good and accept the limits: what a guest does before anything else.

    limits: of `resource`, name without RLIMIT_ → most. user: whom root becomes. A limit on
    processes does not bind root, and is shared by all guests of one user.
    """
    if os.getuid() == 0:
        try:
            _become(user)
        except OSError:  # a container that knows few users
            _become(NOBODY)
    for name, most in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
