/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/metrics_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { FIRST_ROOM = 64 << 10 };

static char *reserve(struct metrics *m, size_t n)
{
    if (m->room - m->len < n) {
        size_t room = m->room ? m->room : FIRST_ROOM;
        while (room - m->len < n)
            room *= 2;
        m->text = xrealloc(m->text, room);
        m->room = room;
    }
    return m->text + m->len;
}

static void put(struct metrics *m, const char *p, size_t n)
{
    if (n) /* without labels p may be NULL */
        memcpy(reserve(m, n), p, n);
    m->len += n;
}

static void put_text(struct metrics *m, const char *s)
{
    put(m, s, strlen(s));
}

static void put_u64(struct metrics *m, uint64_t v)
{
    char digits[20];
    unsigned at = sizeof digits;
    do
        digits[--at] = (char)('0' + v % 10);
    while (v /= 10);
    put(m, digits + at, sizeof digits - at);
}

static void put_double(struct metrics *m, double v)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%.9g", v);
    put(m, text, (size_t)n);
}

void metrics_family(struct metrics *m, const char *name, const char *type, const char *help)
{
    const char *const parts[] = {"# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n"};
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)
        put_text(m, parts[i]);
}

static void put_escaped(struct metrics *m, const char *value)
{
    char *out = reserve(m, 2 * strlen(value)), *at = out;
    for (; *value; value++) {
        if (*value == '\n' || *value == '"' || *value == '\\')
            *at++ = '\\';
        *at++ = *value == '\n' ? 'n' : *value;
    }
    m->len += (size_t)(at - out);
}

/* `{a="1",b="2"`: without the end. Nothing when there are no labels. */
static void put_labels(struct metrics *m, va_list ap)
{
    char before = '{';
    for (const char *n; (n = va_arg(ap, const char *)); before = ',') {
        put(m, &before, 1);
        put_text(m, n);
        put(m, "=\"", 2);
        put_escaped(m, va_arg(ap, const char *));
        put(m, "\"", 1);
    }
}

static void put_head(struct metrics *m, const char *name, va_list ap)
{
    put_text(m, name);
    size_t before = m->len;
    put_labels(m, ap);
    if (m->len > before)
        put(m, "}", 1);
    put(m, " ", 1);
}

void metrics_u64(struct metrics *m, const char *name, uint64_t value, ...)
{
    va_list ap;
    va_start(ap, value);
    put_head(m, name, ap);
    va_end(ap);
    put_u64(m, value);
    put(m, "\n", 1);
}

void metrics_double(struct metrics *m, const char *name, double value, ...)
{
    va_list ap;
    va_start(ap, value);
    put_head(m, name, ap);
    va_end(ap);
    put_double(m, value);
    put(m, "\n", 1);
}

/* ---- histograms */

static const struct {
    const char *text;
    uint64_t ns;
} bounds[METRICS_BOUNDS] = {
    {"1e-05", 10000},   {"3e-05", 30000},    {"0.0001", 100000}, {"0.0003", 300000},
    {"0.001", 1000000}, {"0.002", 2000000},  {"0.005", 5000000}, {"0.01", 10000000},
    {"0.03", 30000000}, {"0.1", 100000000},  {"0.3", 300000000}, {"1", 1000000000},
    {"3", 3000000000},  {"10", 10000000000},
};

/* A fine bucket counts below the first bound that is not under its own. */
void metrics_fold(struct metrics_hist *h, const uint64_t fine[HIST_BUCKETS], uint64_t total_ns)
{
    static uint8_t last[METRICS_BOUNDS]; /* how many fine buckets end at or below each bound */
    if (!last[0]) {
        for (unsigned i = 0; i < METRICS_BOUNDS; i++)
            while (last[i] < HIST_BUCKETS && hist_bound_ns(last[i]) <= bounds[i].ns)
                last[i]++;
    }
    unsigned at = 0;
    uint64_t sum = 0;
    for (unsigned i = 0; i < METRICS_BOUNDS; i++) {
        for (; at < last[i]; at++)
            sum += fine[at];
        h->below[i] = sum;
    }
    for (; at < HIST_BUCKETS; at++)
        sum += fine[at];
    h->count = sum; /* not a counter of its own: counters are read while they move */
    h->total_ns = total_ns;
}

void metrics_histogram(struct metrics *m, const char *name, const struct metrics_hist *h, ...)
{
    struct metrics labels = {0};
    va_list ap;
    va_start(ap, h);
    put_labels(&labels, ap);
    va_end(ap);
    size_t name_len = strlen(name);
    for (unsigned i = 0; i <= METRICS_BOUNDS; i++) {
        put(m, name, name_len);
        put(m, "_bucket", 7);
        put(m, labels.len ? labels.text : "{", labels.len ? labels.len : 1);
        put_text(m, labels.len ? ",le=\"" : "le=\"");
        put_text(m, i < METRICS_BOUNDS ? bounds[i].text : "+Inf");
        put(m, "\"} ", 3);
        put_u64(m, i < METRICS_BOUNDS ? h->below[i] : h->count);
        put(m, "\n", 1);
    }
    for (unsigned i = 0; i < 2; i++) {
        put(m, name, name_len);
        put(m, i ? "_count" : "_sum", i ? 6 : 4);
        put(m, labels.text, labels.len);
        put_text(m, labels.len ? "} " : " ");
        if (i)
            put_u64(m, h->count);
        else if (h->total_ns)
            put_double(m, (double)h->total_ns / 1e9);
        else
            put(m, "0", 1);
        put(m, "\n", 1);
    }
    free(labels.text);
}
