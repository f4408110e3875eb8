"""A system call filter for the sandbox, as classic BPF bytes for `bwrap --seccomp`.

It takes away what a sandboxed program has no use for and what kernel holes are usually
reached through: new namespaces and mounts, tracing, keyrings, BPF, io_uring, and socket
families outside the network namespace (a VM socket would reach the hypervisor).
"""

import errno
import os
import struct
from typing import Final

# linux/bpf_common.h, linux/seccomp.h, linux/audit.h
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCH_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_CLONE_NEW_ANY = 0x7E020000
_X32_BIT = 0x40000000
_SOCKET_FAMILIES: Final = (1, 2, 10, 16)
"""Unix, IPv4, IPv6, netlink: all four are bound to the network namespace."""

_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE: Final = {"x86_64": 56, "aarch64": 220}
_CLONE3: Final = 435
_SOCKET: Final = {"x86_64": 41, "aarch64": 198}
_DENIED: Final = {
    "x86_64": (
        *(101, 310, 311, 312),  # ptrace, process_vm_readv, process_vm_writev, kcmp
        *(155, 161, 165, 166, 272, 308),  # pivot_root, chroot, mount, umount2, unshare, setns
        *(248, 249, 250),  # add_key, request_key, keyctl
        *(246, 320, 175, 313, 176),  # kexec_load, kexec_file_load, init_, finit_, delete_module
        *(298, 321, 323, 304),  # perf_event_open, bpf, userfaultfd, open_by_handle_at
        *(163, 167, 168, 169),  # acct, swapon, swapoff, reboot
    ),
    "aarch64": (
        *(117, 270, 271, 272),
        *(41, 51, 40, 39, 97, 268),
        *(217, 218, 219),
        *(104, 294, 105, 273, 106),
        *(241, 280, 282, 265),
        *(89, 224, 225, 142),
    ),
}
_DENIED_EVERYWHERE: Final = (425, 426, 427, *range(428, 434), 442)
"""io_uring_*, open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr."""


def filter_program(machine: str = os.uname().machine) -> bytes | None:
    """Return the filter for this kind of machine, or None for one it is not written for."""
    if machine not in _AUDIT_ARCH:
        return None
    refuse = _ERRNO | errno.EPERM
    program = [
        _op(_LOAD, _ARCH_AT),
        _op(_JUMP_EQUAL, _AUDIT_ARCH[machine], skip_if=1),
        _op(_RETURN, _KILL),
        _op(_LOAD, _NUMBER_AT),
        *([_op(_JUMP_AT_LEAST, _X32_BIT, skip_else=1), _op(_RETURN, _KILL)]),
        # glibc falls back to clone, whose flags can be seen here, when clone3 is missing.
        *([_op(_JUMP_EQUAL, _CLONE3, skip_else=1), _op(_RETURN, _ERRNO | errno.ENOSYS)]),
    ]
    for number in (*_DENIED[machine], *_DENIED_EVERYWHERE):
        program += [_op(_JUMP_EQUAL, number, skip_else=1), _op(_RETURN, refuse)]
    program += [
        _op(_JUMP_EQUAL, _CLONE[machine], skip_else=4),
        _op(_LOAD, _FIRST_ARGUMENT_AT),
        _op(_JUMP_ANY_BIT, _CLONE_NEW_ANY, skip_else=1),
        _op(_RETURN, refuse),
        _op(_RETURN, _ALLOW),
        _op(_JUMP_EQUAL, _SOCKET[machine], skip_else=len(_SOCKET_FAMILIES) + 2),
        _op(_LOAD, _FIRST_ARGUMENT_AT),
    ]
    for already, family in enumerate(_SOCKET_FAMILIES):
        program.append(_op(_JUMP_EQUAL, family, skip_if=len(_SOCKET_FAMILIES) - already))
    program += [_op(_RETURN, refuse), _op(_RETURN, _ALLOW)]
    return b"".join(program)


def _op(code: int, value: int, *, skip_if: int = 0, skip_else: int = 0) -> bytes:
    return struct.pack("=HBBI", code, skip_if, skip_else, value)
