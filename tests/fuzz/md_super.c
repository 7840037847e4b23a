/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is accepted as a superblock comes out of the writer as it went in. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "raid/md_super.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t in[MD_SUPER_SIZE], out[MD_SUPER_SIZE];
    static struct md_super sb;
    struct md_bitmap bitmap;
    struct err e;
    memset(in, 0, sizeof in);
    memcpy(in, data, size < sizeof in ? size : sizeof in);
    md_bitmap_read(&bitmap, in, &e);
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
