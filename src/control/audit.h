/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_AUDIT_H
#define ORION_CONTROL_AUDIT_H

#include "control/private.h"

/*
 * Who changed what, or was refused: STATE_DIR/audit.log, one line each:
 *
 *     SHA256 SPACE JSON NEWLINE
 *
 * SHA256, in hexadecimal, is over the SHA256 of the line before (64 zeros before the first), a
 * newline, and the JSON. The file is only appended to. At AUDIT_FILE_MAX it is renamed to audit.N,
 * N the number of its last record, and the chain goes on in a new one; AUDIT_KEEP of them are kept.
 */
enum { AUDIT_FILE_MAX = 8 << 20, AUDIT_KEEP = 16, AUDIT_LINE_MAX = 8192, AUDIT_HASH = 65 };

/* How far the log is known to be written: the number and hash of a record that is on the medium. */
struct audit_mark {
    uint64_t seq; /* 0: none */
    char hash[AUDIT_HASH];
};
enum { AUDIT_MARK_MS = 1000 };
/* What the state says. False: nothing yet. */
bool audit_mark_get(struct audit_mark *mark_r);
/* Records were written: in AUDIT_MARK_MS `sync` (T) tells up to which they are on the medium. */
void audit_mark_soon(void (*sync)(struct audit_mark *mark_r));
void audit_mark_settle(void); /* T: now, and not again */

int audit_open(const char *dir, struct err *e);
void audit_close(void);
/* T. A verb that ran or was refused; waits until the record of one that ran is durable. */
void audit_verb(const struct control_call *call, int rc, const struct err *e);

/* T. A request that was refused before it came to a verb. Of more than AUDIT_REFUSALS_MAX a minute
 * only the number is kept, as `left_out` of the next record; so too when `why` is NULL. */
enum { AUDIT_REFUSALS_MAX = 60 };
void audit_refusal(const struct control_who *who, const char *method, const char *path,
                   const char *why);

/* ---- checking, for the verb and for tests. Blocks. */
struct audit_report {
    uint64_t records, first, last; /* numbers */
    unsigned files;
    bool good;
    char reason[200]; /* where the chain is broken */
};
/* `mark` (NULL: none): what must be in it. */
void audit_check(const char *dir, const struct audit_mark *mark, struct audit_report *r);

#endif
