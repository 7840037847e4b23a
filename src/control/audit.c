/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/audit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "block/event.h"

static struct {
    int dir, fd;
    uint64_t seq; /* of the last record */
    char hash[AUDIT_HASH];
    off_t size;
    uint64_t synced;
    uint64_t lost;   /* records since the last that could be written */
    bool sync_error; /* told in the status */
    struct tlock sync;
    struct audit_mark durable;
} log_ = {.dir = -1, .fd = -1};

static struct {
    uint64_t since; /* ns */
    unsigned count;
    uint64_t left_out; /* since the last record */
} refusals;

static const char zeros[AUDIT_HASH] =
    "0000000000000000000000000000000000000000000000000000000000000000";

static void chain(const char *before, const char *json, size_t len, char out[AUDIT_HASH])
{
    unsigned char sum[SHA256_DIGEST_LENGTH];
    autofree char *text = xasprintf("%s\n%.*s", before, (int)len, json);
    SHA256((const unsigned char *)text, strlen(text), sum);
    for (unsigned i = 0; i < sizeof sum; i++)
        sprintf(out + 2 * i, "%02x", sum[i]);
}

/* ---- the end of the file */

static uint64_t seq_of(const char *json)
{
    const char *p = strstr(json, "\"seq\":");
    return p ? strtoull(p + 6, NULL, 10) : 0;
}

/* Finds the last whole line; what a crash left of another one is cut off. */
static int read_tail(struct err *e)
{
    struct stat st;
    static char buf[2 * AUDIT_LINE_MAX + 1];
    if (fstat(log_.fd, &st))
        return err_set(e, ERR_IO, "", "cannot read audit.log: %s", strerror(errno));
    off_t from = st.st_size > 2 * AUDIT_LINE_MAX ? st.st_size - 2 * AUDIT_LINE_MAX : 0;
    ssize_t n = pread(log_.fd, buf, 2 * AUDIT_LINE_MAX, from);
    if (n < 0)
        return err_set(e, ERR_IO, "", "cannot read audit.log: %s", strerror(errno));
    buf[n] = 0;
    char *end = memrchr(buf, '\n', (size_t)n);
    size_t good = end ? (size_t)(end + 1 - buf) : 0;
    if (good != (size_t)n) {
        log_warn("control", "audit.log ended in a torn line, which is cut off");
        if (ftruncate(log_.fd, from + (off_t)good))
            return err_set(e, ERR_IO, "", "cannot mend audit.log: %s", strerror(errno));
    }
    log_.size = from + (off_t)good;
    if (!good)
        return 0;
    *end = 0;
    char *line = memrchr(buf, '\n', good - 1);
    line = line ? line + 1 : buf;
    snprintf(log_.hash, sizeof log_.hash, "%.64s", line);
    log_.seq = seq_of(line);
    return 0;
}

struct names {
    uint64_t *n;
    size_t count;
};

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The numbers N of the files audit.N, in order; free() them. */
static struct names old_files(int dirfd)
{
    struct names names = {NULL, 0};
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        char *end;
        if (strncmp(e->d_name, "audit.", 6) || e->d_name[6] < '0' || e->d_name[6] > '9')
            continue;
        uint64_t n = strtoull(e->d_name + 6, &end, 10);
        if (*end)
            continue;
        names.n = xrealloc(names.n, (names.count + 1) * sizeof *names.n);
        names.n[names.count++] = n;
    }
    if (d)
        closedir(d);
    if (names.count)
        qsort(names.n, names.count, sizeof *names.n, by_number);
    return names;
}

static int open_file(struct err *e)
{
    log_.fd = openat(log_.dir, "audit.log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_.fd < 0)
        return err_set(e, ERR_IO, "", "cannot open audit.log: %s", strerror(errno));
    log_.size = 0;
    return 0;
}

/* When the newest file is empty the chain goes on from the one before it. */
static int find_end(const char *dir, struct err *e)
{
    if (read_tail(e) || log_.seq)
        return log_.seq ? 0 : -!!log_.size;
    struct names old = old_files(log_.dir);
    if (old.count) {
        autofree char *path = xasprintf("%s/audit.%" PRIu64, dir, old.n[old.count - 1]);
        int fresh = log_.fd;
        log_.fd = open(path, O_RDWR | O_CLOEXEC);
        int rc = log_.fd < 0 ? -1 : read_tail(e);
        if (log_.fd >= 0)
            close(log_.fd);
        log_.fd = fresh;
        log_.size = 0;
        if (rc)
            log_warn("control", "cannot go on behind %s", path);
    }
    free(old.n);
    return 0;
}

/* The hash of the record in the newest file; false: it is not there. */
static bool find_hash(uint64_t seq, char hash[AUDIT_HASH])
{
    int fd = openat(log_.dir, "audit.log", O_RDONLY | O_CLOEXEC);
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    while (f && !found && getline(&line, &size, f) > 0)
        found = seq_of(line) == seq;
    if (found)
        snprintf(hash, AUDIT_HASH, "%.64s", line);
    free(line);
    if (f)
        fclose(f);
    return found;
}

/* What was done to the file while nobody looked. The numbers and the chain go on behind what was
 * written once: the breach stays in the file, and is found by each check from now on. */
static void check_mark(void)
{
    struct audit_mark mark;
    char hash[AUDIT_HASH], why[160] = "";
    if (!audit_mark_get(&mark) || !mark.seq)
        return;
    if (log_.seq < mark.seq)
        snprintf(why, sizeof why,
                 "its end was cut off: %" PRIu64 " records were written, the last one is %" PRIu64,
                 mark.seq, log_.seq);
    else if (find_hash(mark.seq, hash) && strcmp(hash, mark.hash))
        snprintf(why, sizeof why, "it is not what was written: record %" PRIu64 " is another one",
                 mark.seq);
    if (!*why)
        return;
    if (log_.seq < mark.seq)
        log_.seq = mark.seq;
    strcpy(log_.hash, mark.hash);
    log_error("control", "audit.log: %s", why);
    control_trouble("checking", "audit.log", why);
    event_raise("audit log", "audit-changed", "while the daemon was down: %s", why);
}

int audit_open(const char *dir, struct err *e)
{
    strcpy(log_.hash, zeros);
    log_.seq = log_.synced = log_.lost = 0;
    log_.sync_error = false;
    log_.durable = (struct audit_mark){.seq = 0};
    tlock_init(&log_.sync);
    log_.dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (log_.dir < 0)
        return err_set(e, ERR_IO, "", "cannot open %s: %s", dir, strerror(errno));
    if (open_file(e) || find_end(dir, e))
        return -1;
    check_mark();
    return 0;
}

void audit_close(void)
{
    if (log_.fd >= 0) {
        (void)fdatasync(log_.fd);
        close(log_.fd);
    }
    if (log_.dir >= 0)
        close(log_.dir);
    log_.fd = log_.dir = -1;
}

/* ---- writing */

static void rotate(void)
{
    char name[40];
    snprintf(name, sizeof name, "audit.%" PRIu64, log_.seq);
    if (renameat(log_.dir, "audit.log", log_.dir, name))
        return; /* it grows on, and the next record tries again */
    (void)fdatasync(log_.fd);
    close(log_.fd);
    struct err e;
    if (open_file(&e))
        log_error("control", "%s", e.msg);
    struct names old = old_files(log_.dir);
    for (size_t i = 0; i + AUDIT_KEEP < old.count; i++) {
        snprintf(name, sizeof name, "audit.%" PRIu64, old.n[i]);
        unlinkat(log_.dir, name, 0);
    }
    free(old.n);
}

/* Told once, as long as it lasts. */
static void lose_record(const char *why)
{
    log_every(10, LOG_LEVEL_ERROR, "control", "cannot write audit.log: %s", why);
    if (log_.lost++)
        return;
    control_trouble("writing", "audit.log", why);
    event_raise("audit log", "audit-lost", "records of changes and refusals are being lost: %s",
                why);
}

static void sync_all(struct audit_mark *mark_r);

static void append(struct json_object *record)
{
    const char *json = json_object_to_json_string_ext(record, JSON_C_TO_STRING_PLAIN |
                                                                  JSON_C_TO_STRING_NOSLASHESCAPE);
    char hash[AUDIT_HASH];
    chain(log_.hash, json, strlen(json), hash);
    autofree char *line = xasprintf("%s %s\n", hash, json);
    size_t len = strlen(line);
    ssize_t n = write(log_.fd, line, len);
    if (n != (ssize_t)len) {
        lose_record(n < 0 ? strerror(errno) : "no space");
        if (n > 0 && ftruncate(log_.fd, log_.size))
            log_error("control", "cannot mend audit.log: %s", strerror(errno));
        return;
    }
    if (log_.lost)
        control_trouble("writing", "audit.log", NULL);
    log_.lost = refusals.left_out = 0;
    log_.seq++;
    log_.size += (off_t)len;
    strcpy(log_.hash, hash);
    audit_mark_soon(sync_all);
}

static void sync_file(void *arg)
{
    int *error = arg;
    *error = fdatasync(log_.fd) ? errno : 0;
}

static void told_sync(int error)
{
    if (error && !log_.sync_error)
        event_raise("audit log", "audit-lost", "records may be lost when power is: %s",
                    strerror(error));
    if (error || log_.sync_error)
        control_trouble("syncing", "audit.log", error ? strerror(error) : NULL);
    log_.sync_error = error != 0;
}

/* Verbs that come at the same time share one. */
static void make_durable(uint64_t seq)
{
    tlock_lock(&log_.sync);
    if (log_.synced < seq && log_.fd >= 0) {
        struct audit_mark upto = {.seq = log_.seq};
        strcpy(upto.hash, log_.hash);
        int error = 0;
        task_help(sync_file, &error);
        told_sync(error);
        if (!error) {
            log_.synced = upto.seq;
            log_.durable = upto;
        }
    }
    if (log_.size > AUDIT_FILE_MAX)
        rotate();
    tlock_unlock(&log_.sync);
}

static void sync_all(struct audit_mark *mark_r)
{
    make_durable(log_.seq);
    *mark_r = log_.durable;
}

static struct json_object *digest(const char *text)
{
    char hash[AUDIT_HASH];
    chain("", text, strlen(text), hash);
    autofree char *out = xasprintf("sha256:%s", hash);
    return json_object_new_string(out);
}

/* What was asked for: never a secret; documents, which may hold some, and long things by their
 * digest. */
static struct json_object *fields_json(const struct opts *o)
{
    struct json_object *fields = json_object_new_object();
    for (unsigned i = 0; o && i < o->count; i++) {
        const struct opt *opt = &o->table[i];
        if (!o->val[i].set || opt->flags & OPT_SECRET)
            continue;
        if (opt->type == OPT_SIZE || opt->type == OPT_UINT) {
            put_u64(fields, opt->name, o->val[i].u);
        } else if (opt->type == OPT_BOOL) {
            put_bool(fields, opt->name, o->val[i].u);
        } else if (opt->type == OPT_LIST) {
            struct json_object *list = json_object_new_array();
            for (unsigned k = 0; k < o->val[i].list.n; k++)
                json_object_array_add(list, json_object_new_string(o->val[i].list.v[k]));
            json_object_object_add(fields, opt->name, list);
        } else if (opt->type == OPT_JSON || strlen(o->val[i].s) > 1024) {
            json_object_object_add(fields, opt->name, digest(o->val[i].s));
        } else {
            put_str(fields, opt->name, o->val[i].s);
        }
    }
    size_t len;
    const char *text = json_object_to_json_string_length(fields, JSON_C_TO_STRING_PLAIN, &len);
    if (len > AUDIT_LINE_MAX / 2) {
        struct json_object *shorter = json_object_new_object();
        json_object_object_add(shorter, "all", digest(text));
        json_object_put(fields);
        fields = shorter;
    }
    return fields;
}

static const char *param_value(const char *param, void *arg)
{
    const char *v = schema_param(arg, param);
    return v ? v : "";
}

static struct json_object *new_record(const struct control_who *who)
{
    struct json_object *o = json_object_new_object();
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    put_u64(o, "seq", log_.seq + 1);
    put_time(o, "time", (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
    put_str(o, "who", *who->name ? who->name : "oriond");
    put_str(o, "from", who->from);
    if (log_.lost)
        put_u64(o, "lost", log_.lost);
    if (refusals.left_out)
        put_u64(o, "left_out", refusals.left_out);
    return o;
}

static void write_record(struct json_object *o)
{
    struct err e;
    if (log_.fd < 0 && log_.dir >= 0 && open_file(&e))
        lose_record(e.msg);
    if (log_.fd >= 0)
        append(o);
    json_object_put(o);
}

void audit_verb(const struct control_call *call, int rc, const struct err *e)
{
    struct json_object *o = new_record(&call->who);
    struct schema_match m = call->match;
    autofree char *path = schema_expand(m.verb->path, param_value, &m);
    autofree char *verb = xasprintf("%s %s", m.noun->name, m.verb->name);
    put_str(o, "verb", verb);
    put_str(o, "path", path);
    json_object_object_add(o, "fields", fields_json(call->opts));
    put_str(o, "before", call->before);
    put_str(o, "after", call->after);
    put_str(o, "result", rc ? err_code_name(e->code) : "done");
    if (rc)
        put_str(o, "detail", e->msg);
    write_record(o);
    if (!rc || log_.size > AUDIT_FILE_MAX)
        make_durable(log_.seq);
}

/* Strangers could write the log full, and what they drive out of it with what is kept of it. */
static bool refusals_full(void)
{
    uint64_t now = clock_ns();
    if (!refusals.since || now - refusals.since > 60 * 1000000000ull) {
        refusals.since = now;
        refusals.count = 0;
    }
    if (refusals.count < AUDIT_REFUSALS_MAX) {
        refusals.count++;
        return false;
    }
    refusals.left_out++;
    log_every(60, LOG_LEVEL_WARN, "control",
              "more than %d requests of strangers in a minute: the audit log counts the rest",
              AUDIT_REFUSALS_MAX);
    return true;
}

void audit_refusal(const struct control_who *who, const char *method, const char *path,
                   const char *why)
{
    if (!why)
        refusals.left_out++;
    if (!why || refusals_full())
        return;
    struct json_object *o = new_record(who);
    autofree char *shown = xasprintf("%.200s", path);
    put_str(o, "verb", method);
    put_str(o, "path", shown);
    put_str(o, "result", "denied");
    put_str(o, "detail", why);
    write_record(o);
    if (log_.size > AUDIT_FILE_MAX)
        make_durable(log_.seq);
}

/* ---- checking */

static bool broken(struct audit_report *r, const char *file, uint64_t line, const char *why)
{
    r->good = false;
    snprintf(r->reason, sizeof r->reason, "%s, line %" PRIu64 ": %s", file, line, why);
    return false;
}

/* The first file that is kept may begin in the middle of the chain: it is believed. */
static bool check_file(int dirfd, const char *name, const struct audit_mark *mark,
                       char hash[AUDIT_HASH], struct audit_report *r)
{
    int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    char *line = NULL;
    size_t size = 0;
    uint64_t number = 0;
    bool good = f || broken(r, name, 0, "it cannot be read");
    for (ssize_t n; good && (n = getline(&line, &size, f)) > 0;) {
        char want[AUDIT_HASH];
        number++;
        if (line[n - 1] != '\n' || n < AUDIT_HASH + 2 || line[64] != ' ') {
            good = broken(r, name, number, "it is no record");
            break;
        }
        line[n - 1] = 0;
        uint64_t seq = seq_of(line);
        bool first = !r->records;
        chain(hash, line + 65, (size_t)n - 66, want);
        if (first && seq > 1)
            memcpy(want, line, 64); /* what came before is not kept */
        if (strncmp(want, line, 64) || (!first && seq != r->last + 1)) {
            good = broken(r, name, number, "the chain is broken: it or one before it was changed");
            break;
        }
        if (mark && seq == mark->seq && strncmp(want, mark->hash, 64) != 0) {
            good = broken(r, name, number, "it is another record than the one that was written");
            break;
        }
        memcpy(hash, want, AUDIT_HASH);
        r->first = first ? seq : r->first;
        r->last = seq;
        r->records++;
    }
    free(line);
    if (f)
        fclose(f);
    r->files++;
    return good;
}

void audit_check(const char *dir, const struct audit_mark *mark, struct audit_report *r)
{
    char hash[AUDIT_HASH], name[40];
    *r = (struct audit_report){.good = true};
    memcpy(hash, zeros, sizeof hash);
    autoclose int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct names old = old_files(dirfd);
    bool good = true;
    for (size_t i = 0; good && i < old.count; i++) {
        snprintf(name, sizeof name, "audit.%" PRIu64, old.n[i]);
        good = check_file(dirfd, name, mark, hash, r);
    }
    if (good)
        good = check_file(dirfd, "audit.log", mark, hash, r);
    if (good && r->first > 1 && old.count < AUDIT_KEEP) {
        r->good = false;
        snprintf(r->reason, sizeof r->reason, "the records before %" PRIu64 " are not there",
                 r->first);
    }
    free(old.n);
}

struct check {
    struct audit_report r;
    struct audit_mark mark;
    uint64_t seq;
    char dir[4096];
};

static void check_task(void *arg)
{
    struct check *c = arg;
    audit_check(c->dir, &c->mark, &c->r);
}

static int audit_verify(struct verb_run *v, struct err *e)
{
    (void)e;
    autofree struct check *c = xcalloc(1, sizeof *c);
    c->seq = log_.seq;
    audit_mark_get(&c->mark);
    snprintf(c->dir, sizeof c->dir, "%s", control.opts.state_dir);
    task_help(check_task, c);
    /* The daemon knows how far it wrote: a file that was cut short shows here. */
    if (c->r.good && c->r.last < c->seq) {
        c->r.good = false;
        snprintf(c->r.reason, sizeof c->r.reason,
                 "the last record is %" PRIu64 ", and %" PRIu64
                 " were written: its end was cut off",
                 c->r.last, c->seq);
    }
    struct json_object *o = v->reply = json_object_new_object();
    put_bool(o, "good", c->r.good);
    put_str(o, "reason", c->r.reason);
    put_u64(o, "records", c->r.records);
    put_u64(o, "first", c->r.first);
    put_u64(o, "last", c->r.last);
    put_u64(o, "files", c->r.files);
    return 0;
}

const struct verb_entry audit_verbs[] = {
    {"audit", "verify", audit_verify},
    {NULL, NULL, NULL},
};
