/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `audit verify` of a file that somebody else wrote. */
#include <assert.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/audit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/orion-fuzz-audit-XXXXXX", path[64];

static void clean(void)
{
    unlink(path);
    rmdir(dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct audit_report r;
    if (!*path) {
        if (!mkdtemp(dir))
            abort();
        snprintf(path, sizeof path, "%s/audit.log", dir);
        atexit(clean);
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    close(fd);
    memset(&r, 0, sizeof r);
    audit_check(dir, NULL, &r);
    assert(r.good || *r.reason);
    return 0;
}
