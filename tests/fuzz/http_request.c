/* SPDX-License-Identifier: GPL-2.0-or-later */
/* "METHOD PATH?QUERY\nBODY": how far a request gets without a daemon behind it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "api/http.h"
#include "base/mem.h"
#include "base/opts.h"
#include "control/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put(struct opts *o, const char *name, const char *value, struct json_object *json)
{
    struct err e;
    if (value)
        opts_put(o, name, value, &e);
    else if (!json)
        opts_clear(o, name, &e);
    else
        control_field_json(o, name, json, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct schema_match match;
    struct control_pair pairs[32];
    struct err e;
    char allow[64];
    autofree char *text = xcalloc(1, size + 1);
    memcpy(text, data, size);
    char *body = strchr(text, '\n'), *path = strchr(text, ' ');
    if (!body || !path || path > body)
        return 0;
    *body++ = *path++ = 0;
    char *query = strchr(path, '?');
    if (query)
        *query++ = 0;
    int n = query ? http_query(query, pairs, 32) : 0;
    struct json_object *o = http_body(body, size - (size_t)(body - text), &e);
    if (!schema_route(text, path, &match, allow, &e)) {
        const struct opt *t =
            schema_is_list(match.verb) ? schema_list_opts(match.verb) : match.verb->opts;
        static const struct opt none[] = {{.name = NULL}};
        struct opts *opts = opts_new(t ? t : none);
        for (int i = 0; i < n; i++)
            put(opts, pairs[i].name, pairs[i].value ? pairs[i].value : "", NULL);
        if (o) {
            json_object_object_foreach(o, name, value)
            {
                put(opts, name, NULL, value);
            }
        }
        opts_check(opts, &e);
        opts_free(&opts);
    }
    json_object_put(o);
    return 0;
}
