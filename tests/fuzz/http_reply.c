/* SPDX-License-Identifier: GPL-2.0-or-later */
/* orionctl's reader of HTTP answers. */
#include <stddef.h>
#include <stdint.h>

#include "http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_reply r;
    struct err e;
    if (!http_parse((const char *)data, size, &r, &e))
        http_reply_clear(&r);
    return 0;
}
