/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BASE_ERR_H
#define ORION_BASE_ERR_H

/*
 * Errors of the control path. (The data path carries errno classes in the bio.)
 *
 * A function that takes `struct err *e` returns 0 (or a pointer) on success and -1 (or NULL) after
 * filling *e; it never leaves work half-done behind an error. `field` is the name of the request
 * field that is at fault, in its REST spelling, or empty. `msg` is one sentence for a person: what
 * is wrong, what was expected, and names of things in the way.
 */
enum err_code {
    ERR_NONE = 0,
    ERR_INVALID,     /* a field is wrong                      HTTP 400, exit 1 */
    ERR_NOT_FOUND,   /* no such object                        HTTP 404, exit 4 */
    ERR_EXISTS,      /* exists with other settings            HTTP 409, exit 5 */
    ERR_IN_USE,      /* something stands on it                HTTP 409, exit 5 */
    ERR_NEEDS_YES,   /* destroys data or its description      HTTP 409, exit 6 */
    ERR_NEEDS_FORCE, /* a safety refusal                      HTTP 409, exit 6 */
    ERR_DENIED,      /* not permitted                         HTTP 403, exit 8 */
    ERR_NO_MATCH,    /* If-Match is missing                   HTTP 428, exit 1 */
    ERR_STALE,       /* If-Match does not match               HTTP 412, exit 5 */
    ERR_UNSUPPORTED, /* understood, and not possible here     HTTP 422, exit 1 */
    ERR_NO_SPACE,    /* not enough room                       HTTP 507, exit 1 */
    ERR_NOT_READY,   /* start-up or shutdown under way        HTTP 503, exit 1 */
    ERR_IO,          /* a device or a system call failed      HTTP 500, exit 1 */
    ERR_INTERNAL,    /* a bug                                 HTTP 500, exit 1 */
    ERR_CODE_COUNT
};

struct err {
    enum err_code code;
    char field[48];
    char msg[464];
};

/* Fills *e (which may be NULL) and returns -1, so that `return err_set(...)` reads well. */
int err_set(struct err *e, enum err_code code, const char *field, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "PREFIX: " before the message that stands in *e. Returns -1. */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The one table of what a code means outside: its name ("in-use"), HTTP status, CLI exit code. */
const char *err_code_name(enum err_code code);
int err_code_http(enum err_code code);
int err_code_exit(enum err_code code);
enum err_code err_code_of_name(const char *name); /* ERR_INTERNAL when unknown */

#endif
