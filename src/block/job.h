/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BLOCK_JOB_H
#define ORION_BLOCK_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "reactor/reactor.h"

/*
 * Jobs: long background work with a name, progress, rate, pause, cancel and a cursor. A job is a
 * task on its home reactor that calls job_step now and then. The list of jobs belongs to main;
 * ended jobs stay listed (the last 256).
 */
struct job;

enum job_state { JOB_RUNNING, JOB_PAUSED, JOB_DONE, JOB_FAILED, JOB_CANCELLED };

enum { JOB_FACTS = 4 };
struct job_fact {
    const char *key; /* static; NULL: none */
    uint64_t value;
};

struct job_info {
    uint64_t id;     /* > 0, grows */
    char kind[24];   /* "resync", "rebuild", ... */
    char object[80]; /* the name of what it works on */
    enum job_state state;
    uint64_t done, total;          /* in bytes or steps; total 0 = unknown */
    uint64_t rate;                 /* per second, over the last few seconds */
    uint64_t started_ms, ended_ms; /* wall clock, ms since 1970 */
    bool can_cancel;
    struct job_fact fact[JOB_FACTS]; /* what it found so far */
    struct err err;                  /* JOB_FAILED, JOB_CANCELLED: why */
};

/* fn returns 0 = done; -1 with *e filled: failed, or cancelled when that was asked for; JOB_STOPPED
 * with *e filled: given up for now, by a stop or for something more urgent, which is JOB_CANCELLED
 * too. */
enum { JOB_STOPPED = 1 };
typedef int (*job_fn)(struct job *job, void *arg, struct err *e);

/* Any reactor. Returns the id. */
uint64_t job_start(struct reactor *home, const char *kind, const char *object, bool can_cancel,
                   job_fn fn, void *arg);

/* ---- inside the job */
/* Publishes progress, waits while paused; false: cancelled, stop soon. */
bool job_step(struct job *job, uint64_t done, uint64_t total);
uint64_t job_id(const struct job *job);
/* What it found so far, for its result: `key` is static text, and the first that it is told stays
 * in its place. At most JOB_FACTS of them. */
void job_tell(struct job *job, const char *key, uint64_t value);
/* The observer is told how far it is, and has been when this returns. */
void job_checkpoint(struct job *job);

/* ---- main */
bool job_get(uint64_t id, struct job_info *info_r);
void job_for_each(void (*fn)(const struct job_info *info, void *arg), void *arg);
int job_cancel(uint64_t id, struct err *e); /* asks; the job ends when it next steps */
int job_pause(uint64_t id, bool pause, struct err *e);
/* Ids given from here on are larger: those before were given before a restart. */
void job_ids_after(uint64_t last);
/* Main: before a restart this job was running. The first job of its kind and object that starts
 * goes on under its id and with its start time; job_forget_interrupted tells of those that did not,
 * and forgets them. */
void job_interrupted(const struct job_info *info);
void job_forget_interrupted(void (*fn)(const struct job_info *info, void *arg), void *arg);
/* In a task on main: waits until the job has ended. False: no such job. */
bool job_wait(uint64_t id);
const char *job_state_name(enum job_state state);

/* fn runs on main whenever a job starts, ends, changes its state or is at a checkpoint. One
 * observer (control). */
void job_observe(void (*fn)(const struct job_info *info, void *arg), void *arg);

#endif
