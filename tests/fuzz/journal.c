/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include <json-c/json.h>

#include "control/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte chooses the kind of file. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    struct json_object *map = json_object_new_object();
    struct journal_parse p;
    journal_parse(data + 1, size - 1, data[0] & 1 ? JOURNAL_LOG : JOURNAL_SNAPSHOT, map, &p);
    assert(p.good <= size - 1 && !(p.torn && p.damaged));
    assert(!p.complete || p.format);
    json_object_put(map);
    return 0;
}
