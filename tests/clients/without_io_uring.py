"""Runs a program that may not use io_uring, as under the default seccomp profile of a container.

    without_io_uring.py PROGRAM [ARGUMENT…]

The three system calls of io_uring answer EPERM; all others are as ever. The filter survives exec.
"""

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, ERRNO_EPERM = 0x7FFF0000, 0x00050001
LOAD_WORD, JUMP_IF_AT_LEAST, RETURN = 0x20, 0x35, 0x06
# io_uring_setup, io_uring_enter and io_uring_register have the same numbers on every architecture.
FIRST, LAST = 425, 427


def instruction(code, value, if_true=0, if_false=0):
    return struct.pack("=HBBI", code, if_true, if_false, value)


def main(arguments):
    if not arguments:
        sys.exit(__doc__)
    program = b"".join(
        [
            instruction(LOAD_WORD, 0),  # the number of the system call
            instruction(JUMP_IF_AT_LEAST, FIRST, 0, 2),
            instruction(JUMP_IF_AT_LEAST, LAST + 1, 1, 0),
            instruction(RETURN, ERRNO_EPERM),
            instruction(RETURN, ALLOW),
        ]
    )
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a count, padding, a pointer.
    filter_ = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value, pointer in [
        (PR_SET_NO_NEW_PRIVS, 1, None),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(filter_)),
    ]:
        if libc.prctl(option, ctypes.c_ulong(value), ctypes.c_void_p(pointer or 0), 0, 0) != 0:
            sys.exit(f"prctl({option}): {os.strerror(ctypes.get_errno())}")
    os.execvp(arguments[0], arguments)


main(sys.argv[1:])
