/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/crc32c.h"

#include <isa-l/crc.h>

uint32_t crc32c(uint32_t crc, const void *p, size_t len)
{
    /* ISA-L takes an int length and a raw register; it does not write through its pointer. */
    unsigned reg = ~crc;
    const uint8_t *q = p;
    while (len) {
        int n = len > 1 << 30 ? 1 << 30 : (int)len;
        reg = crc32_iscsi((unsigned char *)(uintptr_t)q, n, reg);
        q += n;
        len -= (size_t)n;
    }
    return ~reg;
}
