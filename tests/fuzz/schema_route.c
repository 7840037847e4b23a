/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Request lines: "METHOD PATH". What is found is expanded and must be found again. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *value(const char *param, void *arg)
{
    return schema_param(arg, param);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autofree char *line = xcalloc(1, size + 1);
    memcpy(line, data, size);
    char *path = strchr(line, ' ');
    if (!path)
        return 0;
    *path++ = 0;
    struct schema_match m, again;
    struct err e;
    if (schema_route(line, path, &m, NULL, &e))
        return 0;
    autofree char *same = schema_expand(m.verb->path, value, &m);
    int rc = schema_route(line, same, &again, NULL, &e);
    assert(!rc && again.verb == m.verb && again.count == m.count);
    for (unsigned i = 0; i < m.count; i++)
        assert(!strcmp(m.param[i].value, again.param[i].value));
    return 0;
}
