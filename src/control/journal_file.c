/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-c/json.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "control/journal_private.h"

static const char *const kind_name[] = {"snapshot", "journal"};

/* ---- lines */

char *journal_line(struct json_object *record, size_t *len_r)
{
    size_t n;
    const char *text = json_object_to_json_string_length(
        record, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &n);
    char *line = xcalloc(1, n + 11);
    sprintf(line, "%08x ", crc32c(0, text, n));
    memcpy(line + 9, text, n);
    line[9 + n] = '\n';
    *len_r = n + 10;
    return line;
}

struct text {
    char *p;
    size_t len, cap;
};

static void add_line(struct text *t, struct json_object *record)
{
    size_t n;
    autofree char *line = journal_line(record, &n);
    if (t->len + n > t->cap)
        t->p = xrealloc(t->p, t->cap = (t->len + n) * 2);
    memcpy(t->p + t->len, line, n);
    t->len += n;
    json_object_put(record);
}

static struct json_object *header(enum journal_kind kind, uint64_t generation)
{
    struct json_object *h = json_object_new_object();
    json_object_object_add(h, "format", json_object_new_int(JOURNAL_FORMAT));
    json_object_object_add(h, "kind", json_object_new_string(kind_name[kind]));
    json_object_object_add(h, "generation", json_object_new_uint64(generation));
    return h;
}

char *journal_snapshot_text(struct json_object *map, uint64_t generation, size_t *len_r)
{
    struct text t = {0};
    add_line(&t, header(JOURNAL_SNAPSHOT, generation));
    json_object_object_foreach(map, key, value)
    {
        struct json_object *put = json_object_new_object(), *r = json_object_new_object();
        json_object_object_add(put, key, json_object_get(value));
        json_object_object_add(r, "put", put);
        add_line(&t, r);
    }
    struct json_object *end = json_object_new_object();
    json_object_object_add(end, "end", json_object_new_int(json_object_object_length(map)));
    add_line(&t, end);
    *len_r = t.len;
    return t.p;
}

bool journal_apply_record(struct json_object *map, struct json_object *record)
{
    struct json_object *put = NULL, *del = NULL;
    json_object_object_get_ex(record, "put", &put);
    json_object_object_get_ex(record, "del", &del);
    if ((put && !json_object_is_type(put, json_type_object)) ||
        (del && !json_object_is_type(del, json_type_array)) || (!put && !del))
        return false;
    if (put) {
        json_object_object_foreach(put, key, value)
        {
            if (!json_object_is_type(value, json_type_object))
                return false;
            json_object_object_add(map, key, json_object_get(value));
        }
    }
    for (size_t i = 0; del && i < json_object_array_length(del); i++) {
        const char *key = json_object_get_string(json_object_array_get_idx(del, i));
        if (key)
            json_object_object_del(map, key);
    }
    return true;
}

/* ---- parsing */

/* The next line without its newline; false at the end. A last line without newline is `cut`. */
static bool next_line(struct rd *r, const char **line_r, size_t *len_r, bool *cut_r)
{
    size_t left = rd_left(r);
    if (!left)
        return false;
    const char *nl = memchr(r->p + r->pos, '\n', left);
    size_t n = nl ? (size_t)(nl - (const char *)(r->p + r->pos)) : left;
    *line_r = (const char *)rd_bytes(r, n);
    *len_r = n;
    *cut_r = !nl;
    if (nl)
        rd_skip(r, 1);
    return true;
}

/* The record of a line whose checksum holds, or NULL. */
static struct json_object *line_record(const char *line, size_t len)
{
    if (len < 11 || len > JOURNAL_LINE_MAX || line[8] != ' ')
        return NULL;
    uint32_t sum = 0;
    for (int i = 0; i < 8; i++) {
        if (!isxdigit((unsigned char)line[i]))
            return NULL;
        int c = tolower((unsigned char)line[i]);
        sum = sum << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    if (crc32c(0, line + 9, len - 9) != sum)
        return NULL;
    struct json_tokener *tok = json_tokener_new_ex(JOURNAL_DEPTH);
    struct json_object *o = json_tokener_parse_ex(tok, line + 9, (int)(len - 9));
    bool whole = o && json_tokener_get_parse_end(tok) == len - 9;
    json_tokener_free(tok);
    if (whole && json_object_is_type(o, json_type_object))
        return o;
    json_object_put(o);
    return NULL;
}

static uint64_t member_u64(struct json_object *o, const char *key)
{
    struct json_object *v = NULL;
    if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_int))
        return 0;
    return json_object_get_uint64(v);
}

/* False: the line is well-formed and yet not what may stand here. */
static bool take_record(struct json_object *o, enum journal_kind kind, struct json_object *map,
                        struct journal_parse *p, unsigned *objects)
{
    struct json_object *v = NULL;
    if (!p->records) {
        p->format = member_u64(o, "format");
        p->generation = member_u64(o, "generation");
        json_object_object_get_ex(o, "kind", &v);
        const char *k = v ? json_object_get_string(v) : "";
        return p->format && p->generation && !strcmp(k ? k : "", kind_name[kind]);
    }
    if (p->format > JOURNAL_FORMAT)
        return true; /* not ours to understand */
    if (kind == JOURNAL_SNAPSHOT && json_object_object_get_ex(o, "end", &v)) {
        p->complete =
            json_object_is_type(v, json_type_int) && (unsigned)json_object_get_int(v) == *objects;
        return p->complete;
    }
    (*objects)++;
    return !p->complete && journal_apply_record(map, o);
}

void journal_parse(const void *bytes, size_t len, enum journal_kind kind, struct json_object *map,
                   struct journal_parse *p)
{
    *p = (struct journal_parse){0};
    struct rd r = rd_make(bytes, len);
    const char *line;
    size_t n;
    bool cut, bad = false;
    unsigned objects = 0;
    while (next_line(&r, &line, &n, &cut)) {
        struct json_object *o = cut ? NULL : line_record(line, n);
        if (bad && o) {
            /* A good line after a bad one: this is no torn write. */
            p->damaged = true;
            json_object_put(o);
            break;
        }
        if (!o) {
            bad = true;
            continue;
        }
        bool fits = take_record(o, kind, map, p, &objects);
        json_object_put(o);
        if (!fits) {
            p->damaged = true;
            break;
        }
        p->records++;
        p->good = r.pos;
    }
    p->torn = bad && !p->damaged;
    if (!p->records)
        p->format = p->generation = 0;
}

/* ---- files */

int journal_write_all(int fd, const char *buf, size_t len, off_t at)
{
    while (len) {
        ssize_t n = pwrite(fd, buf, len, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? errno : EIO;
        buf += n;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static int write_file(int dirfd, const char *name, const char *buf, size_t len, int *fd_r)
{
    int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return errno;
    int error = journal_write_all(fd, buf, len, 0);
    if (!error && fsync(fd))
        error = errno;
    if (!error && fd_r)
        *fd_r = fd;
    else
        close(fd);
    return error;
}

int journal_write_generation(int dirfd, uint64_t generation, const char *snapshot, size_t len,
                             int *fd_r, size_t *head_r)
{
    char log[40], snap[40];
    snprintf(log, sizeof log, "journal.%" PRIu64, generation);
    snprintf(snap, sizeof snap, "snapshot.%" PRIu64, generation);
    struct text head = {0};
    add_line(&head, header(JOURNAL_LOG, generation));
    int fd = -1;
    int error = write_file(dirfd, log, head.p, head.len, &fd);
    *head_r = head.len;
    free(head.p);
    if (!error)
        error = write_file(dirfd, "snapshot.tmp", snapshot, len, NULL);
    if (!error && renameat(dirfd, "snapshot.tmp", dirfd, snap))
        error = errno;
    if (!error && fsync(dirfd))
        error = errno;
    if (error && fd >= 0)
        close(fd);
    else
        *fd_r = fd;
    return error;
}

void journal_prune(int dirfd, uint64_t generation)
{
    for (uint64_t g = generation - 1; g && generation - g <= JOURNAL_KEEP + 8; g--) {
        if (generation - g <= JOURNAL_KEEP)
            continue;
        char name[40];
        snprintf(name, sizeof name, "journal.%" PRIu64, g);
        unlinkat(dirfd, name, 0);
        snprintf(name, sizeof name, "snapshot.%" PRIu64, g);
        unlinkat(dirfd, name, 0);
    }
}

/* The file's bytes; NULL with errno set (ENOENT: it is not there). */
static char *read_file(int dirfd, const char *name, size_t *len_r)
{
    /* O_NONBLOCK: a FIFO of that name must not hold the start up. */
    autoclose int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st))
        return NULL;
    if (!S_ISREG(st.st_mode) || st.st_size > JOURNAL_FILE_MAX) {
        errno = EFBIG;
        return NULL;
    }
    char *buf = xcalloc(1, (size_t)st.st_size + 1);
    size_t len = 0;
    for (ssize_t n; len < (size_t)st.st_size; len += (size_t)n) {
        n = pread(fd, buf + len, (size_t)st.st_size - len, (off_t)len);
        if (n < 0 && errno == EINTR)
            n = 0;
        else if (n < 0) {
            free(buf);
            return NULL;
        } else if (!n)
            break;
    }
    *len_r = len;
    return buf;
}

/* ---- loading */

enum { GENERATIONS_MAX = 64 };
struct folder {
    uint64_t g[GENERATIONS_MAX]; /* of snapshots, falling */
    unsigned count;
    uint64_t newest; /* of any file */
};

static void note_generation(struct folder *f, const char *name)
{
    uint64_t g;
    char rest;
    if (sscanf(name, "journal.%" SCNu64 "%c", &g, &rest) == 1 && g > f->newest)
        f->newest = g;
    if (sscanf(name, "snapshot.%" SCNu64 "%c", &g, &rest) != 1)
        return;
    if (g > f->newest)
        f->newest = g;
    unsigned i = f->count < GENERATIONS_MAX ? f->count++ : GENERATIONS_MAX - 1;
    for (; i && f->g[i - 1] < g; i--)
        f->g[i] = f->g[i - 1];
    f->g[i] = g;
}

static int read_folder(struct journal *j, struct folder *f, struct err *e)
{
    int fd = openat(j->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        if (fd >= 0)
            close(fd);
        return err_set(e, ERR_IO, "state_dir", "cannot read %s: %s", j->dir, strerror(errno));
    }
    for (struct dirent *entry; (entry = readdir(d));)
        note_generation(f, entry->d_name);
    closedir(d);
    return 0;
}

static void set_aside(struct journal *j, const char *name, const char *why)
{
    char line[200], aside[60];
    snprintf(aside, sizeof aside, "%s.damaged", name);
    bool moved = !renameat(j->dirfd, name, j->dirfd, aside);
    snprintf(line, sizeof line, "%s/%s is damaged (%s)%s%s", j->dir, name, why,
             moved ? ", set aside as " : "", moved ? aside : "");
    if (j->report)
        j->report(line, j->arg);
}

enum load { LOAD_GOOD, LOAD_ABSENT, LOAD_DAMAGED, LOAD_NEWER };

static enum load load_file(struct journal *j, enum journal_kind kind, uint64_t g,
                           struct json_object *map, struct journal_parse *p)
{
    char name[40];
    snprintf(name, sizeof name, "%s.%" PRIu64, kind_name[kind], g);
    size_t len = 0;
    autofree char *bytes = read_file(j->dirfd, name, &len);
    *p = (struct journal_parse){0};
    if (!bytes)
        return errno == ENOENT ? LOAD_ABSENT : LOAD_DAMAGED;
    journal_parse(bytes, len, kind, map, p);
    if (p->format > JOURNAL_FORMAT)
        return LOAD_NEWER;
    if (p->damaged || p->generation != g || (kind == JOURNAL_SNAPSHOT && !p->complete))
        return LOAD_DAMAGED;
    return LOAD_GOOD;
}

/* Which file is damaged is decided before anything is renamed: a newer format anywhere must leave
 * the folder as it is. */
struct plan {
    struct {
        char name[40];
        const char *why;
    } aside[GENERATIONS_MAX * 2];
    unsigned count;
};

static void plan_aside(struct plan *plan, enum journal_kind kind, uint64_t g, const char *why)
{
    if (plan->count == GENERATIONS_MAX * 2)
        return;
    snprintf(plan->aside[plan->count].name, sizeof plan->aside->name, "%s.%" PRIu64,
             kind_name[kind], g);
    plan->aside[plan->count++].why = why;
}

static int refuse_newer(struct journal *j, uint64_t format, struct err *e)
{
    return err_set(e, ERR_UNSUPPORTED, "state_dir",
                   "%s has format %" PRIu64 ", this oriond knows formats up to %d", j->dir, format,
                   JOURNAL_FORMAT);
}

/* The journals from generation `from` to `to`, in order, until one is damaged. */
static int load_journals(struct journal *j, uint64_t from, uint64_t to, struct json_object *map,
                         struct plan *plan, struct err *e)
{
    for (uint64_t g = from; g <= to; g++) {
        struct journal_parse p;
        enum load r = load_file(j, JOURNAL_LOG, g, map, &p);
        if (r == LOAD_NEWER)
            return refuse_newer(j, p.format, e);
        if (r == LOAD_DAMAGED || (r == LOAD_GOOD && g < to && p.torn)) {
            plan_aside(plan, JOURNAL_LOG, g, p.generation == g ? "a bad line" : "no good header");
            return 0;
        }
        if (r == LOAD_ABSENT) {
            plan_aside(plan, JOURNAL_LOG, g, "it is not there");
            return 0;
        }
        j->size = p.good;
    }
    return 0;
}

static int load_newest_good(struct journal *j, const struct folder *f, struct plan *plan,
                            struct err *e)
{
    for (unsigned i = 0; i < f->count; i++) {
        struct json_object *map = json_object_new_object();
        struct journal_parse p;
        enum load r = load_file(j, JOURNAL_SNAPSHOT, f->g[i], map, &p);
        if (r == LOAD_GOOD) {
            j->snapshot_size = p.good;
            json_object_put(j->map);
            j->map = map;
            /* After a damaged newer snapshot: its journal goes on where this one's ends. */
            return load_journals(j, f->g[i], f->g[0], map, plan, e);
        }
        json_object_put(map);
        if (r == LOAD_NEWER)
            return refuse_newer(j, p.format, e);
        plan_aside(plan, JOURNAL_SNAPSHOT, f->g[i], p.complete ? "a bad line" : "not complete");
    }
    return err_set(e, ERR_IO, "state_dir",
                   "%s has no good generation of the state; move its files away to start empty",
                   j->dir);
}

/* Without any snapshot the folder is new, or its very first fold was cut off before the snapshot
 * stood: then the first journal has its head, or a part of that, and nothing else. */
static bool is_fresh(struct journal *j, const struct folder *f)
{
    enum { HEAD_MAX = 128 };
    struct stat st;
    struct journal_parse p;
    if (!f->newest)
        return true;
    if (f->newest > 1 || fstatat(j->dirfd, "journal.1", &st, AT_SYMLINK_NOFOLLOW) ||
        !S_ISREG(st.st_mode) || st.st_size > HEAD_MAX)
        return false;
    struct json_object *map = json_object_new_object();
    enum load r = load_file(j, JOURNAL_LOG, 1, map, &p);
    json_object_put(map);
    return r != LOAD_NEWER && p.records <= 1;
}

int journal_load(struct journal *j, bool *refold_r, struct err *e)
{
    struct folder f = {0};
    if (read_folder(j, &f, e))
        return -1;
    if (!f.count && !is_fresh(j, &f))
        return err_set(e, ERR_IO, "state_dir",
                       "%s has journals and no snapshot; move its files away to start empty",
                       j->dir);
    if (!f.count) { /* fresh; or the very first fold was cut off before its snapshot stood */
        *refold_r = true;
        return 0;
    }
    struct plan *plan = xcalloc(1, sizeof *plan);
    int r = load_newest_good(j, &f, plan, e);
    for (unsigned i = 0; !r && i < plan->count; i++)
        set_aside(j, plan->aside[i].name, plan->aside[i].why);
    *refold_r = plan->count > 0;
    j->generation = plan->count ? f.newest : f.g[0];
    free(plan);
    return r;
}
