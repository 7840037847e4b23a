/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    char *text = calloc(1, size + 1); /* as the file is read: with a NUL behind it */
    memcpy(text, data, size);
    struct opts *o = options_parse_config(text, size + 1, &e);
    assert(o || *e.msg);
    opts_free(&o);
    free(text);
    return 0;
}
