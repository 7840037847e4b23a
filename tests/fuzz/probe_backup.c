/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <string.h>

#include "probe/probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct probe_backup b;
    if (probe_backup_parse(data, size, &b))
        assert(memchr(b.device, 0, sizeof b.device) && *b.device);
    return 0;
}
