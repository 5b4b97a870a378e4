"""The system calls that code in the sandbox may not make, as a seccomp filter in classic BPF.

Namespaces hide what lies outside; the filter takes away what they do not cover: sockets of every
family (a virtual machine's vsock is in no namespace), memory that belongs to no process (shared
segments, memory files), kernel keys, tracing, and new namespaces.
"""

from __future__ import annotations

import platform
import struct

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_LOAD, _AND = 0x20, 0x54
_EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x15, 0x35, 0x45, 0x06
#: Where `struct seccomp_data` holds the call's number, the architecture and the low half of
#: argument 0; each further argument lies eight bytes on.
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, 16
#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
_NEW_NAMESPACES = 0x7E020000
_SHARED_ANONYMOUS, _HUGE_PAGES = 0x21, 0x40000
_X32 = 0x40000000

#: Machine → its AUDIT_ARCH, clone, mmap.
_MACHINES = {"x86_64": (0xC000003E, 56, 9), "aarch64": (0xC00000B7, 220, 222)}

#: Refused calls that have a number of their own on each machine: (x86_64, aarch64), None for none.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "quotactl": (179, 60),
    "acct": (163, 89),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "personality": (135, 92),
    "settimeofday": (164, 170),
    "adjtimex": (159, 171),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
}
#: Refused calls that were given one number on all machines.
_REFUSED_EVERYWHERE = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "memfd_secret": 447,
    "process_mrelease": 448,
    "set_mempolicy_home_node": 450,
}
_CLONE3 = 435


def machine() -> str:
    """This machine's name where it has a filter, else empty."""
    name = platform.machine()
    return name if name in _MACHINES else ""


def refused(name: str) -> dict[str, int]:
    """Name and number of every call that the filter of a machine refuses whatever its arguments."""
    column = list(_MACHINES).index(name)
    own = {call: number for call, pair in _REFUSED.items() if (number := pair[column]) is not None}
    return own | _REFUSED_EVERYWHERE


def build(name: str) -> bytes:
    """The filter for a machine, an array of `struct sock_filter`."""
    architecture, clone, mmap = _MACHINES[name]
    code = [
        *[(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)],
        *[(_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _X32), _error(_ENOSYS)],
        # The C library then falls back on clone, whose flags can be read.
        *[(_EQUAL, 0, 1, _CLONE3), _error(_ENOSYS)],
    ]
    for number in refused(name).values():
        code += [(_EQUAL, 0, 1, number), _error(_EPERM)]
    code += [
        *[(_EQUAL, 0, 4, clone), (_LOAD, 0, 0, _ARGUMENT), (_ANY_BIT, 0, 1, _NEW_NAMESPACES)],
        *[_error(_EPERM), (_RETURN, 0, 0, _ALLOW)],
        *[(_EQUAL, 1, 0, mmap), (_RETURN, 0, 0, _ALLOW)],
        # Shared memory without a file outlives, uncounted, the process that filled it.
        *[(_LOAD, 0, 0, _ARGUMENT + 24), (_ANY_BIT, 2, 0, _HUGE_PAGES)],
        *[(_AND, 0, 0, _SHARED_ANONYMOUS), (_EQUAL, 0, 1, _SHARED_ANONYMOUS)],
        *[_error(_EPERM), (_RETURN, 0, 0, _ALLOW)],
    ]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def _error(number: int) -> tuple[int, int, int, int]:
    return (_RETURN, 0, 0, _ERRNO | number)
