/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `orionctl top`: two looks at /metrics, and what happened in between. */
#include <ctype.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "api.h"
#include "base/mem.h"
#include "base/size.h"
#include "client/client.h"
#include "tools.h"

enum { STAGES = 4, ROWS = 10 };
static const char *const stage_names[STAGES] = {"receive", "queue", "device", "send"};

/* One thing: an export, a device or a client. Counters since the daemon's start. */
struct thing {
    char kind; /* 'e', 'd', 'c' */
    char name[600];
    double reads, writes, others, read_bytes, written_bytes, seconds, stage[STAGES];
};
struct look {
    struct thing *list;
    size_t count, room;
    double reactor[16];
    double at; /* seconds */
};

/* ---- Prometheus text */

static const char *take_value(const char *p, char *out, size_t size)
{
    size_t n = 0;
    for (; *p && *p != '"'; p++) {
        char c = *p;
        if (c == '\\' && p[1])
            c = *++p == 'n' ? '\n' : *p;
        if (n + 1 < size)
            out[n++] = c;
    }
    out[n] = 0;
    return *p ? p + 1 : NULL;
}

bool sample_parse(const char *line, struct sample *s)
{
    size_t n = strcspn(line, "{ ");
    s->labels = 0;
    if (!n || *line == '#' || n >= sizeof s->name)
        return false;
    memcpy(s->name, line, n);
    s->name[n] = 0;
    const char *p = line + n;
    while (*p == '{' || *p == ',') {
        size_t name = strcspn(++p, "=");
        if (s->labels == 6 || p[name] != '=' || p[name + 1] != '"' || name >= 300)
            return false;
        snprintf(s->label[s->labels][0], sizeof s->label[0][0], "%.*s", (int)name, p);
        p = take_value(p + name + 2, s->label[s->labels][1], sizeof s->label[0][1]);
        if (!p)
            return false;
        s->labels++;
    }
    char *end;
    s->value = strtod(p + (*p == '}'), &end);
    return end != p;
}

const char *sample_label(const struct sample *s, const char *name)
{
    for (unsigned i = 0; i < s->labels; i++)
        if (!strcmp(s->label[i][0], name))
            return s->label[i][1];
    return "";
}

/* ---- a look */

static struct thing *thing_of(struct look *l, char kind, const char *name)
{
    /* Samples of one thing follow one another: the last is most often the one. */
    for (size_t i = l->count; i-- > 0;)
        if (l->list[i].kind == kind && !strcmp(l->list[i].name, name))
            return &l->list[i];
    if (l->count == l->room) {
        l->room = l->room ? 2 * l->room : 64;
        l->list = xrealloc(l->list, l->room * sizeof *l->list);
    }
    struct thing *t = &l->list[l->count++];
    memset(t, 0, sizeof *t);
    t->kind = kind;
    snprintf(t->name, sizeof t->name, "%s", name);
    return t;
}

static void add_op(struct thing *t, const char *op, bool bytes, double v)
{
    bool read = !strcmp(op, "read"), write = !strcmp(op, "write");
    if (bytes)
        *(read ? &t->read_bytes : &t->written_bytes) += v;
    else
        *(read ? &t->reads : write ? &t->writes : &t->others) += v;
}

static void take_export(struct look *l, const struct sample *s)
{
    char name[600];
    const char *lun = sample_label(s, "lun"), *stage = sample_label(s, "stage");
    snprintf(name, sizeof name, "%s%s%s", sample_label(s, "export"), *lun ? " lun " : "", lun);
    struct thing *t = thing_of(l, 'e', name);
    if (!strcmp(s->name, "orion_export_duration_seconds_sum"))
        t->seconds += s->value;
    else if (!strcmp(s->name, "orion_export_duration_seconds_count"))
        add_op(t, sample_label(s, "op"), false, s->value);
    else if (!strcmp(s->name, "orion_export_bytes_total"))
        add_op(t, sample_label(s, "op"), true, s->value);
    for (unsigned i = 0; *stage && i < STAGES; i++)
        if (!strcmp(stage, stage_names[i]))
            t->stage[i] += s->value;
}

static void take_line(struct look *l, const char *line)
{
    struct sample s;
    if (strstr(line, "_bucket{") || !sample_parse(line, &s))
        return;
    const char *op = sample_label(&s, "op");
    if (!strncmp(s.name, "orion_export_", 13) || !strcmp(s.name, "orion_io_stage_seconds_sum"))
        take_export(l, &s);
    else if (!strcmp(s.name, "orion_io_duration_seconds_sum"))
        thing_of(l, 'd', sample_label(&s, "device"))->seconds += s.value;
    else if (!strcmp(s.name, "orion_io_duration_seconds_count"))
        add_op(thing_of(l, 'd', sample_label(&s, "device")), op, false, s.value);
    else if (!strcmp(s.name, "orion_io_bytes_total"))
        add_op(thing_of(l, 'd', sample_label(&s, "device")), op, true, s.value);
    else if (!strcmp(s.name, "orion_client_requests_total"))
        add_op(thing_of(l, 'c', sample_label(&s, "client")), op, false, s.value);
    else if (!strcmp(s.name, "orion_client_bytes_total"))
        add_op(thing_of(l, 'c', sample_label(&s, "client")), op, true, s.value);
    else if (!strcmp(s.name, "orion_reactor_busy_seconds_total")) {
        const char *r = sample_label(&s, "reactor");
        l->reactor[isdigit((unsigned char)*r) ? atoi(r) % 15 : 15] = s.value;
    }
}

static int look(struct look *l)
{
    struct client_request q = {.peer = api_peer(), .method = "GET", .path = "/metrics"};
    struct client_reply r;
    struct err e;
    struct timespec now;
    memset(l, 0, sizeof *l);
    if (client_send(&q, &r, &e)) {
        fprintf(stderr, "orionctl: %s\n", e.msg);
        return EXIT_NO_DAEMON;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    l->at = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
    char *rest = r.body, *line;
    while ((line = strsep(&rest, "\n")))
        take_line(l, line);
    int rc = r.status == 200 ? 0 : EXIT_REFUSED;
    if (rc)
        fprintf(stderr, "orionctl: /metrics answered with status %d\n", r.status);
    client_reply_clear(&r);
    return rc;
}

/* ---- what happened between two looks */

static double since(double now, double before)
{
    return now > before ? now - before : 0;
}

static struct thing difference(const struct thing *now, struct look *before)
{
    struct thing d = *now;
    const struct thing *b = NULL;
    for (size_t i = 0; !b && i < before->count; i++)
        if (before->list[i].kind == now->kind && !strcmp(before->list[i].name, now->name))
            b = &before->list[i];
    if (!b)
        return d;
    d.reads = since(d.reads, b->reads);
    d.writes = since(d.writes, b->writes);
    d.others = since(d.others, b->others);
    d.read_bytes = since(d.read_bytes, b->read_bytes);
    d.written_bytes = since(d.written_bytes, b->written_bytes);
    d.seconds = since(d.seconds, b->seconds);
    for (unsigned i = 0; i < STAGES; i++)
        d.stage[i] = since(d.stage[i], b->stage[i]);
    return d;
}

static double requests(const struct thing *t)
{
    return t->reads + t->writes + t->others;
}

static int busier(const void *a, const void *b)
{
    double x = requests(a), y = requests(b);
    return x < y   ? 1
           : x > y ? -1
                   : strcmp(((const struct thing *)a)->name, ((const struct thing *)b)->name);
}

/* Columns of the terminal; without one, whatever a line takes. */
static unsigned width(void)
{
    struct winsize w;
    return !ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) && w.ws_col >= 40 ? w.ws_col : 10000;
}

enum { WIDE = 120 /* fewer columns: read, write and other requests stand in one */ };

/* The name as far as there is room for it; its end tells more than its beginning. */
static void print_name(const char *name, unsigned used, unsigned columns)
{
    size_t n = strlen(name), room = columns > used + 4 ? columns - used - 2 : 2;
    if (n <= room)
        printf("  %s\n", name);
    else
        printf("  ~%s\n", name + n - room + 1);
}

static void print_thing(const struct thing *t, double span, unsigned columns)
{
    char read[16], written[16];
    double n = requests(t) > 0 ? requests(t) : 1;
    bool wide = columns >= WIDE;
    int used;
    size_format((uint64_t)(t->read_bytes / span), read);
    size_format((uint64_t)(t->written_bytes / span), written);
    if (wide)
        used = printf("%8.0f %8.0f %8.0f %9s %9s", t->reads / span, t->writes / span,
                      t->others / span, read, written);
    else
        used = printf("%7.0f %8s %8s", requests(t) / span, read, written);
    if (t->kind != 'c')
        used += printf(wide ? " %9.3f" : " %7.2f", t->seconds / n * 1e3);
    for (unsigned i = 0; t->kind == 'e' && i < STAGES; i++)
        used += printf(wide ? " %8.3f" : " %6.2f", t->stage[i] / n * 1e3);
    print_name(t->name, (unsigned)used, columns);
}

static void print_title(char kind, const char *title, bool wide)
{
    printf("\n%s", paint(PAINT_BOLD));
    if (wide)
        printf("%8s %8s %8s %9s %9s", "READ/S", "WRITE/S", "OTHER/S", "READ B/S", "WRITE B/S");
    else
        printf("%7s %8s %8s", "IO/S", "READ B/S", "WRIT B/S");
    if (kind != 'c')
        printf(wide ? " %9s" : " %7s", "MS");
    if (kind == 'e')
        printf(wide ? " %8s %8s %8s %8s" : " %6s %6s %6s %6s", wide ? "RECEIVE" : "RECV", "QUEUE",
               "DEVICE", "SEND");
    printf("  %s%s\n", title, paint(PAINT_PLAIN));
}

static const struct {
    char kind;
    const char *title, *key;
} kinds[] = {{'e', "EXPORT", "exports"}, {'d', "DEVICE", "devices"}, {'c', "CLIENT", "clients"}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void print_kind(struct thing *all, size_t count, unsigned k, double span, unsigned rows)
{
    unsigned columns = width();
    print_title(kinds[k].kind, kinds[k].title, columns >= WIDE);
    for (size_t i = 0; i < count && rows; i++) {
        if (all[i].kind != kinds[k].kind)
            continue;
        print_thing(&all[i], span, columns);
        rows--;
    }
}

/* ---- as JSON: one line a look */

static void put(struct json_object *o, const char *key, double v)
{
    json_object_object_add(o, key, json_object_new_double(v));
}

static struct json_object *thing_json(const struct thing *t, double span)
{
    struct json_object *o = json_object_new_object(), *stages;
    double n = requests(t) > 0 ? requests(t) : 1;
    json_object_object_add(o, "name", json_object_new_string(t->name));
    put(o, "reads_per_second", t->reads / span);
    put(o, "writes_per_second", t->writes / span);
    put(o, "others_per_second", t->others / span);
    put(o, "read_bytes_per_second", t->read_bytes / span);
    put(o, "written_bytes_per_second", t->written_bytes / span);
    if (t->kind == 'c')
        return o;
    put(o, "seconds", t->seconds / n);
    if (t->kind == 'd')
        return o;
    stages = json_object_new_object();
    for (unsigned i = 0; i < STAGES; i++)
        put(stages, stage_names[i], t->stage[i] / n);
    json_object_object_add(o, "stage_seconds", stages);
    return o;
}

static void print_json(const struct look *now, const struct look *before, const struct thing *d,
                       double span, unsigned rows)
{
    struct json_object *o = json_object_new_object(), *busy = json_object_new_object();
    put(o, "span_seconds", span);
    for (unsigned i = 0; i < 16; i++) {
        char name[16] = "main";
        if (i < 15)
            snprintf(name, sizeof name, "%u", i);
        if (now->reactor[i] > 0)
            put(busy, name, since(now->reactor[i], before->reactor[i]) / span);
    }
    json_object_object_add(o, "reactors_busy", busy);
    for (unsigned k = 0; k < KINDS; k++) {
        struct json_object *list = json_object_new_array();
        for (size_t i = 0; i < now->count && json_object_array_length(list) < rows; i++)
            if (d[i].kind == kinds[k].kind)
                json_object_array_add(list, thing_json(&d[i], span));
        json_object_object_add(o, kinds[k].key, list);
    }
    puts(
        json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(o);
}

static void print_text(const struct look *now, const struct look *before, struct thing *d,
                       double span, unsigned rows)
{
    printf("reactors busy:");
    for (unsigned i = 0; i < 16; i++)
        if (now->reactor[i] > 0)
            printf(" %s%.0f%%", i == 15 ? "main " : "",
                   100 * since(now->reactor[i], before->reactor[i]) / span);
    printf("   milliseconds are means of a request\n");
    for (unsigned k = 0; k < KINDS; k++)
        print_kind(d, now->count, k, span, rows);
}

static void print_looks(struct look *now, struct look *before, unsigned rows, bool json)
{
    double span = since(now->at, before->at);
    struct thing *d = xcalloc(now->count + 1, sizeof *d);
    if (span <= 0)
        span = 1;
    for (size_t i = 0; i < now->count; i++)
        d[i] = difference(&now->list[i], before);
    qsort(d, now->count, sizeof *d, busier);
    if (json)
        print_json(now, before, d, span, rows);
    else
        print_text(now, before, d, span, rows);
    free(d);
}

static unsigned number(const struct command *c, const char *name, unsigned dflt)
{
    const char *v = command_option(c, name);
    return v ? (unsigned)strtoul(v, NULL, 10) : dflt;
}

int top_run(const struct command *c)
{
    bool screen = isatty(STDOUT_FILENO) && !c->json;
    unsigned count = number(c, "count", screen ? 0 : 1), rows = number(c, "rows", ROWS);
    struct look before, now;
    int rc = look(&before);
    for (unsigned i = 0; !rc && (!count || i < count); i++) {
        sleep(number(c, "interval", 1));
        rc = look(&now);
        if (!rc) {
            fputs(screen ? "\33[H\33[2J" : i && !c->json ? "\n" : "", stdout);
            print_looks(&now, &before, rows, c->json);
            fflush(stdout);
        }
        free(before.list);
        before = now;
    }
    free(before.list);
    return rc;
}
