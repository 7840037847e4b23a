/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Partial parity logs as a disk may hold them, and the places that superblocks give them. */
#include <assert.h>
#include <string.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "raid/ppl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { DEVICE = 64 << 20, AT_SIGNATURE = 512, AT_SUM = 532 };
    static const struct uuid array = {{1}};
    static uint8_t block[PPL_BLOCK];
    static struct ppl_log_header h;
    struct md_super sb = {.data_offset = 4096, .data_size = 65536};
    uint64_t at, bytes;
    memset(block, 0, sizeof block);
    memcpy(block, data, size < sizeof block ? size : sizeof block);
    /* Past the sums a fuzzer only gets with our help. */
    struct wr w = wr_make(block, sizeof block);
    wr_zero(&w, AT_SIGNATURE);
    wr_le32(&w, crc32c(0, array.b, sizeof array.b));
    struct rd r = rd_make(block + AT_SUM, 4);
    sb.bitmap_offset = (int32_t)rd_le32(&r);
    memset(block + AT_SUM, 0, 4);
    w = wr_make(block + AT_SUM, 4);
    wr_le32(&w, crc32c(0, block, sizeof block));
    if (ppl_header_read(&h, block, &array))
        assert(h.entries <= PPL_ENTRIES_MAX);
    if (ppl_area(&sb, DEVICE, &at, &bytes))
        assert(at >= MD_SUPER_OFFSET + MD_SUPER_SIZE && at + bytes <= DEVICE);
    return 0;
}
