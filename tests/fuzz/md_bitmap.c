/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is accepted as the head of a bitmap comes out of the writer as it went in. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "raid/md_super.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t in[MD_BITMAP_HEAD], out[MD_BITMAP_HEAD];
    struct md_bitmap bitmap;
    struct err e;
    memset(in, 0, sizeof in);
    memcpy(in, data, size < sizeof in ? size : sizeof in);
    if (md_bitmap_read(&bitmap, in, &e))
        return 0;
    md_bitmap_write(&bitmap, out);
    assert(!memcmp(in, out, 68)); /* the cluster's name, behind it, is not kept */
    return 0;
}
