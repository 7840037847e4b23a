/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/schema_private.h"

/* Who may do something, and who did: tokens, the audit log, the log level. */

static const struct opt token_add_opts[] = {
    {"role", OPT_ENUM, OPT_REQUIRED, .choices = "viewer|operator|admin",
     .help = "viewer sees, operator changes, admin also deletes data and gives tokens"},
    {"days", OPT_UINT, .min = 1, .max = 3650, .dflt = "90", .help = "days until it expires"},
    OPT_END,
};
static const struct schema_field token_fields[] = {
    {"name", FMT_TEXT, FIELD_TABLE, "name", NULL},
    {"role", FMT_TEXT, FIELD_TABLE, "viewer, operator or admin", NULL},
    {"created", FMT_TIME, FIELD_TABLE, "when it was made", NULL},
    {"expires", FMT_TIME, FIELD_TABLE, "when it ends", NULL},
    {"expired", FMT_BOOL, 0, "has ended", NULL},
    {"token", FMT_TEXT, 0, "the token itself: told once, when it is made", NULL},
    FIELD_CHANGED,
    FIELD_END,
};

const struct schema_noun schema_token = {
    "token",
    "bearer tokens for the API",
    (const struct schema_verb[]){
        {"add",
         "PUT",
         "/v1/tokens/{name}",
         {ARG("name", "NAME")},
         token_add_opts,
         VERB_OBJECT,
         VERB_ADMIN,
         token_fields,
         "make a token; it is printed once and never again"},
        {"list",
         "GET",
         "/v1/tokens",
         {{0}},
         NULL,
         VERB_LIST,
         VERB_ADMIN,
         token_fields,
         "list tokens"},
        {"show",
         "GET",
         "/v1/tokens/{name}",
         {ARG("name", "NAME")},
         NULL,
         VERB_OBJECT,
         VERB_ADMIN,
         token_fields,
         "show a token, without its secret"},
        {"remove",
         "DELETE",
         "/v1/tokens/{name}",
         {ARG("name", "NAME")},
         NULL,
         VERB_DONE,
         VERB_IF_MATCH | VERB_ADMIN,
         NULL,
         "revoke a token"},
        VERB_END,
    },
};

static const struct schema_field audit_fields[] = {
    {"good", FMT_BOOL, FIELD_TABLE, "every record is as it was written, and none is missing", NULL},
    {"reason", FMT_TEXT, FIELD_TABLE, "where it is not, else empty", NULL},
    {"records", FMT_NUMBER, FIELD_TABLE, "records that were checked", NULL},
    {"first", FMT_NUMBER, FIELD_TABLE, "number of the first that is kept", NULL},
    {"last", FMT_NUMBER, FIELD_TABLE, "number of the last", NULL},
    {"files", FMT_NUMBER, 0, "files that were read", NULL},
    FIELD_END,
};
const struct schema_noun schema_audit = {
    "audit",
    "the record of changes and refusals",
    (const struct schema_verb[]){
        {"verify",
         "GET",
         "/v1/audit/verify",
         {{0}},
         NULL,
         VERB_OBJECT,
         VERB_ADMIN,
         audit_fields,
         "check the chain of the audit log; exit 1 when it is broken"},
        VERB_END,
    },
};

static const struct opt log_opts[] = {
    {"level", OPT_ENUM, .choices = "error|warn|info|debug", .flags = OPT_REQUIRED,
     .help = "from now on, until the next start or reload"},
    OPT_END,
};
static const struct opt log_patch_opts[] = {
    {"level", OPT_ENUM, .choices = "error|warn|info|debug",
     .help = "from now on, until the next start or reload"},
    OPT_END,
};
static const struct schema_field log_fields[] = {
    {"level", FMT_TEXT, FIELD_TABLE, "error, warn, info or debug", NULL},
    FIELD_CHANGED,
    FIELD_END,
};
const struct schema_noun schema_log = {
    "log-level",
    "how much the daemon logs",
    (const struct schema_verb[]){
        {"show",
         "GET",
         "/v1/system/log",
         {{0}},
         NULL,
         VERB_OBJECT,
         0,
         log_fields,
         "show the log level"},
        {"set",
         "POST",
         "/v1/system/log/actions/set",
         {ARG("level", "LEVEL")},
         log_opts,
         VERB_OBJECT,
         VERB_ADMIN,
         log_fields,
         "set the log level"},
        {"patch",
         "PATCH",
         "/v1/system/log",
         {{0}},
         log_patch_opts,
         VERB_OBJECT,
         VERB_IF_MATCH | VERB_ADMIN | VERB_REST_ONLY,
         log_fields,
         "set the log level"},
        VERB_END,
    },
};
