/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/journal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <json-c/json.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/journal_private.h"
#include "reactor/task.h"

/* A journal is folded when it is longer than this and than its snapshot: the cost of folding is
 * spread over as many changes as there are objects. */
enum { FOLD_MIN = 256 << 10 };

/* A change that waits for the medium; lives on its task's stack. */
struct waiter {
    struct list link;
    struct task *task;
    int error; /* errno, 0 = durable */
    bool done;
};

static int journal_reopen(struct journal *j, struct err *e);

/* ---- writing */

struct append_args {
    int fd;
    const char *buf;
    size_t len, at;
    int error;
};

/* On a helper thread. A write that failed half-way is cut off again, so that the file stays a row
 * of whole lines; when even that fails the caller folds to a new file. */
static void append_sync(void *arg)
{
    struct append_args *a = arg;
    a->error = journal_write_all(a->fd, a->buf, a->len, (off_t)a->at);
    if (!a->error && fdatasync(a->fd))
        a->error = errno;
    if (a->error && !ftruncate(a->fd, (off_t)a->at))
        (void)fdatasync(a->fd);
}

struct fold_args {
    struct journal *j;
    uint64_t generation;
    char *snapshot;
    size_t len;
    int fd; /* the new journal */
    size_t head;
    int error;
};

static void fold_sync(void *arg)
{
    struct fold_args *a = arg;
    a->error =
        journal_write_generation(a->j->dirfd, a->generation, a->snapshot, a->len, &a->fd, &a->head);
    if (!a->error)
        journal_prune(a->j->dirfd, a->generation);
}

/* Writes the whole map as the next generation. The caller is the only writer. */
static int fold(struct journal *j)
{
    struct fold_args a = {.j = j, .generation = j->generation + 1, .fd = -1};
    a.snapshot = journal_snapshot_text(j->map, a.generation, &a.len);
    if (task_in())
        task_help(fold_sync, &a);
    else
        fold_sync(&a);
    free(a.snapshot);
    if (a.error)
        return a.error;
    if (j->fd >= 0)
        close(j->fd);
    j->fd = a.fd;
    j->generation = a.generation;
    j->size = a.head;
    j->snapshot_size = a.len;
    j->broken = false;
    return 0;
}

/* One batch: what was queued while the batch before was on its way shares this fsync. */
static void write_batch(struct journal *j)
{
    struct append_args a = {.fd = j->fd, .buf = j->queue, .len = j->queue_len, .at = j->size};
    struct json_object *records = j->records;
    struct list batch = LIST_INIT(batch);
    list_splice_tail(&batch, &j->waiters);
    j->queue = NULL;
    j->queue_len = 0;
    j->records = json_object_new_array();

    if (j->broken)
        a.error = fold(j);
    a.fd = j->fd;
    a.at = j->size;
    if (!a.error)
        task_help(append_sync, &a);
    if (!a.error) {
        j->size += a.len;
        for (size_t i = 0; i < json_object_array_length(records); i++)
            journal_apply_record(j->map, json_object_array_get_idx(records, i));
    } else {
        log_error("state", "cannot write the state journal: %s", strerror(a.error));
        j->broken = true;
    }
    json_object_put(records);
    free((char *)(uintptr_t)a.buf);
    for (struct list *l; (l = list_pop(&batch));) {
        struct waiter *w = list_entry(l, struct waiter, link);
        w->error = a.error;
        w->done = true;
        if (w->task != task_self())
            task_wake(w->task);
    }
}

static void write_loop(struct journal *j)
{
    j->writing = true;
    while (!list_empty(&j->waiters))
        write_batch(j);
    if (j->size > FOLD_MIN && j->size > j->snapshot_size) {
        int error = fold(j);
        if (error)
            log_warn("state", "cannot fold the state journal: %s", strerror(error));
        while (!list_empty(&j->waiters))
            write_batch(j);
    }
    j->writing = false;
}

static void queue_record(struct journal *j, struct json_object *record)
{
    size_t len;
    autofree char *line = journal_line(record, &len);
    j->queue = xrealloc(j->queue, j->queue_len + len);
    memcpy(j->queue + j->queue_len, line, len);
    j->queue_len += len;
    json_object_array_add(j->records, record);
}

int journal_apply(struct journal *j, const struct journal_change *c, unsigned n, struct err *e)
{
    assert(task_in());
    struct json_object *record = json_object_new_object();
    struct json_object *put = NULL, *del = NULL;
    for (unsigned i = 0; i < n; i++) {
        if (c[i].value) {
            if (!put)
                json_object_object_add(record, "put", put = json_object_new_object());
            json_object_object_add(put, c[i].key, json_object_get(c[i].value));
        } else {
            if (!del)
                json_object_object_add(record, "del", del = json_object_new_array());
            json_object_array_add(del, json_object_new_string(c[i].key));
        }
    }
    queue_record(j, record);
    struct waiter w = {.task = task_self()};
    list_add_tail(&j->waiters, &w.link);
    /* Whoever finds nobody writing writes for all; wakes that it gets meanwhile are its own. */
    if (!j->writing)
        write_loop(j);
    while (!w.done)
        task_park();
    j->error = w.error;
    if (w.error)
        return err_set(e, w.error == ENOSPC ? ERR_NO_SPACE : ERR_IO, "",
                       "cannot save the state in %s: %s", j->dir, strerror(w.error));
    return 0;
}

int journal_put(struct journal *j, const char *key, struct json_object *value, struct err *e)
{
    struct journal_change c = {.key = key, .value = value};
    return journal_apply(j, &c, 1, e);
}

int journal_del(struct journal *j, const char *key, struct err *e)
{
    struct journal_change c = {.key = key};
    return journal_apply(j, &c, 1, e);
}

int journal_error(const struct journal *j)
{
    return j->error;
}

int journal_fold(struct journal *j, struct err *e)
{
    while (j->writing)
        task_yield();
    j->writing = true;
    int error = fold(j);
    write_loop(j);
    if (error)
        return err_set(e, ERR_IO, "", "cannot fold the state in %s: %s", j->dir, strerror(error));
    return 0;
}

/* ---- reading */

struct json_object *journal_get(const struct journal *j, const char *key)
{
    return json_object_object_get(j->map, key);
}

void journal_for_each(const struct journal *j, const char *prefix,
                      void (*fn)(const char *key, struct json_object *value, void *arg), void *arg)
{
    size_t n = strlen(prefix);
    json_object_object_foreach(j->map, key, value)
    {
        if (!strncmp(key, prefix, n))
            fn(key, value, arg);
    }
}

uint64_t journal_generation(const struct journal *j)
{
    return j->generation;
}

/* ---- open and close */

static int lock_folder(struct journal *j, struct err *e)
{
    j->dirfd = open(j->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (j->dirfd < 0)
        return err_set(e, ERR_IO, "state_dir", "cannot open %s: %s", j->dir, strerror(errno));
    if (flock(j->dirfd, LOCK_EX | LOCK_NB)) {
        if (errno == EWOULDBLOCK)
            return err_set(e, ERR_IN_USE, "state_dir", "%s is in use by another oriond", j->dir);
        return err_set(e, ERR_IO, "state_dir", "cannot lock %s: %s", j->dir, strerror(errno));
    }
    return 0;
}

static int journal_reopen(struct journal *j, struct err *e)
{
    char name[40];
    snprintf(name, sizeof name, "journal.%llu", (unsigned long long)j->generation);
    j->fd = openat(j->dirfd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (j->fd < 0)
        return err_set(e, ERR_IO, "", "cannot open %s/%s: %s", j->dir, name, strerror(errno));
    /* The torn end of a line that was never acknowledged. */
    if (ftruncate(j->fd, (off_t)j->size))
        return err_set(e, ERR_IO, "", "cannot truncate %s/%s: %s", j->dir, name, strerror(errno));
    return 0;
}

struct journal *journal_open(const char *dir, journal_report_fn report, void *arg, struct err *e)
{
    struct journal *j = xcalloc(1, sizeof *j);
    *j = (struct journal){.dir = xstrdup(dir), .dirfd = -1, .fd = -1, .report = report, .arg = arg};
    list_init(&j->waiters);
    j->map = json_object_new_object();
    j->records = json_object_new_array();
    bool refold = false;
    if (lock_folder(j, e) || journal_load(j, &refold, e)) {
        journal_close(&j);
        return NULL;
    }
    if (!refold && journal_reopen(j, e)) {
        journal_close(&j);
        return NULL;
    }
    int error = refold ? fold(j) : 0;
    if (error) {
        err_set(e, ERR_IO, "state_dir", "cannot write the state in %s: %s", dir, strerror(error));
        journal_close(&j);
    }
    return j;
}

void journal_close(struct journal **j)
{
    struct journal *d = *j;
    if (!d)
        return;
    assert(!d->writing && list_empty(&d->waiters));
    if (d->fd >= 0)
        close(d->fd);
    if (d->dirfd >= 0)
        close(d->dirfd); /* drops the lock */
    json_object_put(d->map);
    json_object_put(d->records);
    free(d->queue);
    free(d->dir);
    free(d);
    *j = NULL;
}
