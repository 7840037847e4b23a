/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

static const struct {
    const char *name;
    int http;
    int exit;
} codes[ERR_CODE_COUNT] = {
    [ERR_NONE] = {"none", 200, 0},
    [ERR_INVALID] = {"invalid", 400, 1},
    [ERR_NOT_FOUND] = {"not-found", 404, 4},
    [ERR_EXISTS] = {"exists", 409, 5},
    [ERR_IN_USE] = {"in-use", 409, 5},
    [ERR_NEEDS_YES] = {"needs-yes", 409, 6},
    [ERR_NEEDS_FORCE] = {"needs-force", 409, 6},
    [ERR_DENIED] = {"denied", 403, 8},
    [ERR_NO_MATCH] = {"precondition-required", 428, 1},
    [ERR_STALE] = {"precondition-failed", 412, 5},
    [ERR_UNSUPPORTED] = {"unsupported", 422, 1},
    [ERR_NO_SPACE] = {"no-space", 507, 1},
    [ERR_NOT_READY] = {"not-ready", 503, 1},
    [ERR_IO] = {"io", 500, 1},
    [ERR_INTERNAL] = {"internal", 500, 1},
};

/* A message goes into JSON, whatever its arguments were and wherever it was cut. */
static void keep_text(char *msg)
{
    size_t len = strlen(msg);
    for (size_t i = 0; (i += text_flaw(msg + i, len - i)) < len; i++)
        if (msg[i] != '\n')
            msg[i] = '?';
}

int err_set(struct err *e, enum err_code code, const char *field, const char *fmt, ...)
{
    if (!e)
        return -1;
    va_list ap;
    va_start(ap, fmt);
    char msg[sizeof e->msg]; /* an argument may be e->msg itself */
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    keep_text(msg);
    e->code = code;
    snprintf(e->field, sizeof e->field, "%s", field ? field : "");
    memcpy(e->msg, msg, sizeof msg);
    return -1;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    if (!e)
        return -1;
    char head[sizeof e->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof head, fmt, ap);
    va_end(ap);
    size_t n = strlen(head);
    size_t room = sizeof head - n;
    if (room > 2)
        snprintf(head + n, room, ": %.*s", (int)(room - 3), e->msg);
    keep_text(head);
    memcpy(e->msg, head, sizeof head);
    return -1;
}

const char *err_code_name(enum err_code code)
{
    return code < ERR_CODE_COUNT ? codes[code].name : "internal";
}

int err_code_http(enum err_code code)
{
    return code < ERR_CODE_COUNT ? codes[code].http : 500;
}

int err_code_exit(enum err_code code)
{
    return code < ERR_CODE_COUNT ? codes[code].exit : 1;
}

enum err_code err_code_of_name(const char *name)
{
    for (int i = 0; i < ERR_CODE_COUNT; i++)
        if (!strcmp(codes[i].name, name))
            return i;
    return ERR_INTERNAL;
}
