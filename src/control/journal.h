/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_JOURNAL_H
#define ORION_CONTROL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct json_object;

/*
 * The state folder: a map from key ("array/a0") to a JSON object, kept as a snapshot and an
 * append-only journal of what changed since. docs/control.md has the format.
 *
 * Files of generation G are `snapshot.G` and `journal.G`; the state is the snapshot with the
 * journal applied. A fold writes generation G+1; the two generations before it are kept. Every line
 * carries its CRC32C. The folder is locked (flock) as long as the journal is open.
 *
 * A torn last line is dropped. A file damaged in the middle is set aside (`NAME.damaged`),
 * reported, and the last good state is used: a damaged snapshot is rebuilt from the generation
 * before it, a damaged journal counts up to the damage. A folder that has files but no good
 * generation is refused, as is one of a newer format; both stay untouched.
 */
struct journal;

enum { JOURNAL_FORMAT = 1, JOURNAL_KEEP = 2 /* old generations */ };
enum { JOURNAL_LINE_MAX = 4 << 20, JOURNAL_FILE_MAX = 256 << 20, JOURNAL_DEPTH = 16 };

typedef void (*journal_report_fn)(const char *line, void *arg);

/* Blocks (start-up, or a helper thread). `dir` must exist. Each damage found is reported once. */
struct journal *journal_open(const char *dir, journal_report_fn report, void *arg, struct err *e);
/* Nothing may be under way. Accepts NULL, leaves NULL. */
void journal_close(struct journal **j);

/* Borrowed; NULL when there is none. The value must not be changed. */
struct json_object *journal_get(const struct journal *j, const char *key);
/* In order of creation. fn may not change the journal. */
void journal_for_each(const struct journal *j, const char *prefix,
                      void (*fn)(const char *key, struct json_object *value, void *arg), void *arg);

/*
 * Changes: several keys go in one line, all or none. The calls below need a task; they return when
 * the change is durable (verbs that come at the same time share one fsync). On error nothing has
 * changed. Values are referenced.
 */
struct journal_change {
    const char *key;
    struct json_object *value; /* NULL: delete */
};
int journal_apply(struct journal *j, const struct journal_change *c, unsigned n, struct err *e);
int journal_put(struct journal *j, const char *key, struct json_object *value, struct err *e);
int journal_del(struct journal *j, const char *key, struct err *e);
/* Folds now, whatever the size (it happens by itself otherwise). */
int journal_fold(struct journal *j, struct err *e);
uint64_t journal_generation(const struct journal *j);

/* errno of the last change when it could not be saved, else 0. */
int journal_error(const struct journal *j);

/* ---- for tests and the fuzzer: one file's bytes, applied to `map` as far as they are good */
enum journal_kind { JOURNAL_SNAPSHOT, JOURNAL_LOG };
struct journal_parse {
    uint64_t format, generation; /* 0 when there is no good header */
    size_t good;                 /* bytes of good lines from the start */
    unsigned records;
    bool torn;     /* the last line is bad, and only that one */
    bool damaged;  /* a bad line with good ones after it, or a wrong header or end */
    bool complete; /* a snapshot with its end line */
};
void journal_parse(const void *bytes, size_t len, enum journal_kind kind, struct json_object *map,
                   struct journal_parse *p);

#endif
