/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include <json-c/json.h>
#include <microhttpd.h>

#include "api/http.h"
#include "base/mem.h"

/* RFC 9457. Our extensions: `code` (the class of error, what exit codes follow) and `errors`. */
struct json_object *http_problem(int status, const struct err *e, struct json_object *errors)
{
    struct json_object *o = json_object_new_object();
    char type[80];
    snprintf(type, sizeof type, "urn:orion:error:%s", err_code_name(e->code));
    json_object_object_add(o, "type", json_object_new_string(type));
    json_object_object_add(o, "title",
                           json_object_new_string(MHD_get_reason_phrase_for((unsigned)status)));
    json_object_object_add(o, "status", json_object_new_int(status));
    json_object_object_add(o, "detail", json_object_new_string(e->msg));
    json_object_object_add(o, "code", json_object_new_string(err_code_name(e->code)));
    if (errors) {
        errors = json_object_get(errors);
    } else {
        errors = json_object_new_array();
        if (*e->field) {
            struct json_object *one = json_object_new_object();
            json_object_object_add(one, "field", json_object_new_string(e->field));
            json_object_object_add(one, "detail", json_object_new_string(e->msg));
            json_object_array_add(errors, one);
        }
    }
    json_object_object_add(o, "errors", errors);
    return o;
}

void http_reply_problem(struct http_request *r, int status, const struct err *e,
                        struct json_object *errors)
{
    if (!status)
        status = err_code_http(e->code);
    http_reply_json(r, status, http_problem(status, e, errors));
    r->type = "application/problem+json";
}
