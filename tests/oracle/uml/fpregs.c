/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A preload for user-mode-linux 6.1 on hosts whose extended register state is larger than the
 * buffer that it was built with (AMX): it restores its child's state with a short
 * PTRACE_SETREGSET of NT_X86_XSTATE, which such hosts refuse ("ptrace set fp regs failed, errno
 * 14"). Here the short image is laid over the full one, and the full one is set.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { IMAGE_MAX = 16384 };

static long raw(long request, long pid, void *addr, void *data)
{
    return syscall(SYS_ptrace, request, pid, addr, data);
}

static long set_xstate(long pid, void *addr, const struct iovec *given)
{
    /* Not on the stack: the guest kernel's stacks are as small as any kernel's. Only its one CPU,
     * one thread of the host, comes here. */
    static char image[IMAGE_MAX] __attribute__((aligned(64)));
    struct iovec full = {.iov_base = image, .iov_len = sizeof image};
    if (raw(PTRACE_GETREGSET, pid, addr, &full) < 0)
        return -1;
    size_t n = given->iov_len < full.iov_len ? given->iov_len : full.iov_len;
    memcpy(image, given->iov_base, n);
    return raw(PTRACE_SETREGSET, pid, addr, &full);
}

long ptrace(enum __ptrace_request request, ...)
{
    va_list ap;
    va_start(ap, request);
    long pid = va_arg(ap, pid_t);
    void *addr = va_arg(ap, void *);
    void *data = va_arg(ap, void *);
    va_end(ap);

    if (request == PTRACE_SETREGSET && (long)addr == NT_X86_XSTATE)
        return set_xstate(pid, addr, data);
    /* The system call stores a peeked word at data; the library call returns it. */
    if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
        long word = 0;
        if (raw(request, pid, addr, &word) < 0)
            return -1;
        errno = 0;
        return word;
    }
    return raw(request, pid, addr, data);
}
