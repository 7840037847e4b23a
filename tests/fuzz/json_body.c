/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <json-c/json.h>

#include "api/http.h"
#include "control/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const paths[] = {
    "/v1/arrays/a0",
    "/v1/pools/p0",
    "/v1/pools/p0/volumes/v0",
    "/v1/nbd/exports/e0",
    "/v1/iscsi/targets/iqn.2026-01.com.example:t/luns/0",
};

/* The first byte chooses the verb; the rest is the body of its PUT. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct control_call call = {0};
    struct err e = {0};
    if (!size)
        return 0;
    int rc = schema_route("PUT", paths[data[0] % 5], &call.match, NULL, &e);
    assert(!rc);
    struct json_object *body = http_body((const char *)data + 1, size - 1, &e);
    assert(body || *e.msg);
    if (body && control_opts_json(&call, body, &e))
        assert(*e.msg && json_object_array_length(call.errors));
    json_object_put(body);
    control_call_clear(&call);
    return 0;
}
