/* SPDX-License-Identifier: GPL-2.0-or-later */
/* orionctl's reader of HTTP answers. */
#include <stddef.h>
#include <stdint.h>

#include "client/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct client_reply r;
    struct err e;
    if (!client_parse((const char *)data, size, &r, &e))
        client_reply_clear(&r);
    return 0;
}
