/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_JOURNAL_PRIVATE_H
#define ORION_CONTROL_JOURNAL_PRIVATE_H

#include <sys/types.h>

#include "base/list.h"
#include "control/journal.h"

/* Belongs to main; helper threads get copies of what they write. */
struct journal {
    char *dir;
    int dirfd, fd; /* fd: journal.GENERATION */
    uint64_t generation;
    size_t size, snapshot_size; /* of the journal's good lines; of the snapshot */
    struct json_object *map;    /* what is durable */
    bool writing;               /* a task is in write_loop */
    bool broken;                /* the last append failed: fold before the next */
    int error;                  /* of the last change that was not saved; 0: the last one was */
    struct list waiters;
    char *queue; /* lines of the waiters, in order */
    size_t queue_len;
    struct json_object *records; /* the same as JSON */
    journal_report_fn report;
    void *arg;
};

/* journal_file.c: files and lines; no reactor */

/* Reads the folder into j->map. *refold_r: a new generation must be written before the first change
 * (a fresh folder, or damage). */
int journal_load(struct journal *j, bool *refold_r, struct err *e);
char *journal_line(struct json_object *record, size_t *len_r); /* malloc'ed, not terminated */
char *journal_snapshot_text(struct json_object *map, uint64_t generation, size_t *len_r);
bool journal_apply_record(struct json_object *map, struct json_object *record);
int journal_write_all(int fd, const char *buf, size_t len, off_t at); /* 0 or errno */
/* The order that a power cut cannot break: the journal, then the snapshot by rename, then the
 * folder. 0 or errno. *fd_r: the new journal, *head_r its size. */
int journal_write_generation(int dirfd, uint64_t generation, const char *snapshot, size_t len,
                             int *fd_r, size_t *head_r);
void journal_prune(int dirfd, uint64_t generation);

#endif
