/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is accepted as a superblock comes out of the writer as it went in; one of version 0.90 is
 * only read. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "raid/md_super.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* With the checksum that it should have. */
static void read_090(const uint8_t *in)
{
    enum { PLACE = 1 << 20, AT_SUM = 38 * 4 };
    static uint8_t copy[MD_SUPER_SIZE];
    static struct md_super sb;
    struct err e;
    uint64_t sum = 0;
    memcpy(copy, in, sizeof copy);
    memset(copy + AT_SUM, 0, 4);
    struct rd r = rd_make(copy, sizeof copy);
    while (rd_left(&r))
        sum += rd_le32(&r);
    struct wr w = wr_make(copy + AT_SUM, 4);
    wr_le32(&w, (uint32_t)sum + (uint32_t)(sum >> 32));
    if (md_super_read_as(&sb, MD_0_90, PLACE, copy, &e))
        return;
    assert(sb.max_dev <= MD_ROLES_MAX && sb.super_offset == PLACE / MD_SECTOR);
    md_super_usable(&sb, 2 * PLACE, &e);
    md_super_role(&sb);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t in[MD_SUPER_SIZE], out[MD_SUPER_SIZE];
    static struct md_super sb;
    struct md_bitmap bitmap;
    struct err e;
    memset(in, 0, sizeof in);
    memcpy(in, data, size < sizeof in ? size : sizeof in);
    md_bitmap_read(&bitmap, in, &e);
    read_090(in);
    if (md_super_read(&sb, in, &e)) {
        /* Past the checksum a fuzzer only gets with our help. */
        if (sb.max_dev > MD_ROLES_MAX)
            return 0;
        md_super_write(&sb, in);
        if (md_super_read(&sb, in, &e))
            return 0;
    }
    md_super_usable(&sb, 1ull << 30, &e);
    md_super_write(&sb, out);
    assert(!memcmp(in, out, 256 + 2 * (size_t)sb.max_dev));
    return 0;
}
