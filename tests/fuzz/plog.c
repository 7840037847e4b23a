/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Heads, records and labels of the log as a disk may hold them: what is taken is written back the
 * same. */
#include <stdlib.h>
#include <string.h>

#include "raid/plog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t block[PLOG_BLOCK], again[PLOG_BLOCK];
    struct plog_head h;
    struct plog_label l;
    struct plog_record r, r2;
    memset(block, 0, sizeof block);
    memcpy(block, data, size < sizeof block ? size : sizeof block);
    if (plog_head_read(&h, block)) {
        plog_head_write(&h, again);
        if (!plog_head_read(&h, again))
            abort();
    }
    if (plog_record_read(&r, block)) {
        plog_record_write(&r, again);
        if (!plog_record_read(&r2, again) || r2.payload != r.payload || r2.hi <= r2.lo)
            abort();
    }
    if (plog_label_read(&l, block)) {
        plog_label_write(&l, again);
        if (!plog_label_read(&l, again))
            abort();
    }
    return 0;
}
