/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "drivers/fault/fault_private.h"

enum { RULES_MAX = 64, PART_MAX = 200 };

static const struct {
    const char *name;
    int error;
} errors[] = {
    {"EIO", EIO},       {"ENODATA", ENODATA}, {"EILSEQ", EILSEQ},
    {"ENODEV", ENODEV}, {"ENOSPC", ENOSPC},   {"ETIMEDOUT", ETIMEDOUT},
    {"EROFS", EROFS},   {"EAGAIN", EAGAIN},   {"EOPNOTSUPP", EOPNOTSUPP},
};

uint64_t fault_random(uint64_t *state)
{
    uint64_t x = *state; /* xorshift64: the same on every machine, which rand_r is not */
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

static bool parse_error(const char *s, int *error_r)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (!strcmp(errors[i].name, s)) {
            *error_r = -errors[i].error;
            return true;
        }
    return false;
}

static bool parse_time(const char *s, uint64_t *us_r)
{
    static const struct {
        const char *unit;
        uint64_t us;
    } units[] = {{"us", 1}, {"ms", 1000}, {"s", 1000000}};
    size_t digits = strspn(s, "0123456789");
    if (digits == 0 || digits > 9)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (!strcmp(s + digits, units[i].unit)) {
            *us_r = strtoull(s, NULL, 10) * units[i].us;
            return true;
        }
    return false;
}

static bool parse_offset(const char *s, struct rule *r)
{
    char first[32];
    const char *dash = strchr(s, '-');
    size_t n = dash ? (size_t)(dash - s) : strlen(s);
    if (n >= sizeof first)
        return false;
    memcpy(first, s, n);
    first[n] = 0;
    if (!size_parse(first, &r->first))
        return false;
    r->last = r->first;
    return !dash || (size_parse(dash + 1, &r->last) && r->last >= r->first);
}

static bool parse_probability(const char *s, double *p_r)
{
    char *end;
    *p_r = strtod(s, &end);
    return end != s && !*end && *p_r >= 0 && *p_r <= 1;
}

static bool parse_number(const char *s, uint64_t min, uint64_t *v_r)
{
    size_t digits = strspn(s, "0123456789");
    if (digits == 0 || digits > 18 || s[digits])
        return false;
    *v_r = strtoull(s, NULL, 10);
    return *v_r >= min;
}

static bool parse_ops(char *s, unsigned *ops_r)
{
    *ops_r = 0;
    char *save = NULL;
    for (char *w = strtok_r(s, "+", &save); w; w = strtok_r(NULL, "+", &save)) {
        unsigned bits = 0;
        for (unsigned op = 0; op < BIO_OP_COUNT; op++)
            if (!strcmp(w, "any") || !strcmp(w, bio_op_name(op)))
                bits |= 1u << op;
        if (!bits)
            return false;
        *ops_r |= bits;
    }
    return *ops_r != 0;
}

/* One "key=value" or "key" of a rule. NULL, or what was expected. */
static const char *parse_part(struct rule *r, const char *key, const char *value)
{
    if (!strcmp(key, "drop") && !value)
        return r->drop = true, NULL;
    if (!strcmp(key, "hold") && !value)
        return r->hold = true, NULL;
    if (!value)
        return "drop, hold or key=value";
    if (!strcmp(key, "error"))
        return parse_error(value, &r->error) ? NULL : "error=EIO or another name of an error";
    if (!strcmp(key, "torn"))
        return (r->is_torn = size_parse(value, &r->torn)) ? NULL : "torn=BYTES";
    if (!strcmp(key, "delay"))
        return parse_time(value, &r->delay_us) ? NULL : "delay=10ms, 500us or 2s";
    if (!strcmp(key, "offset"))
        return parse_offset(value, r) ? NULL : "offset=FIRST-LAST, in bytes";
    if (!strcmp(key, "after"))
        return parse_number(value, 0, &r->after) ? NULL : "after=N";
    if (!strcmp(key, "every"))
        return parse_number(value, 1, &r->every) ? NULL : "every=N, at least 1";
    if (!strcmp(key, "count"))
        return parse_number(value, 1, &r->count) ? NULL : "count=N, at least 1";
    if (!strcmp(key, "probability"))
        return parse_probability(value, &r->probability) ? NULL : "probability=0.0 to 1.0";
    if (!strcmp(key, "seed"))
        return parse_number(value, 1, &r->seed) ? NULL : "seed=N, at least 1";
    return "error, drop, torn, delay, hold, offset, after, every, probability, seed or count";
}

static int parse_rule(struct rule *r, char *text, const char *field, struct err *e)
{
    *r = (struct rule){
        .last = UINT64_MAX, .every = 1, .count = UINT64_MAX, .probability = 1, .seed = 1};
    char *save = NULL;
    char *part = strtok_r(text, ":", &save);
    if (!part || !parse_ops(part, &r->ops))
        return err_set(e, ERR_INVALID, field,
                       "'%s' is no op; expected read, write, flush, discard, write_zeroes, extents "
                       "or any at the start of a rule",
                       part ? part : "");
    while ((part = strtok_r(NULL, ":", &save))) {
        char given[PART_MAX];
        snprintf(given, sizeof given, "%s", part);
        char *value = strchr(part, '=');
        if (value)
            *value++ = 0;
        const char *expected = parse_part(r, part, value);
        if (expected)
            return err_set(e, ERR_INVALID, field, "'%s' is no part of a rule; expected %s", given,
                           expected);
    }
    if (!r->error && !r->drop && !r->is_torn && !r->hold && !r->delay_us)
        return err_set(e, ERR_INVALID, field,
                       "a rule does nothing; expected error, drop, torn, delay or hold in it");
    r->random = r->seed * 0x9e3779b97f4a7c15u | 1; /* small seeds start far apart */
    return 0;
}

int rules_parse(struct rules *rules_r, const char *text, const char *field, struct err *e)
{
    *rules_r = (struct rules){0};
    autofree char *copy = xstrdup(text ? text : "");
    size_t n = 0;
    for (char *s = copy; *s; s++) /* blanks are for the reader */
        if (*s != ' ' && *s != '\n' && *s != '\t')
            copy[n++] = *s;
    copy[n] = 0;
    char *save = NULL;
    for (char *w = strtok_r(copy, ";", &save); w; w = strtok_r(NULL, ";", &save)) {
        struct rule r;
        int rc = rules_r->n == RULES_MAX
                     ? err_set(e, ERR_INVALID, field, "more than %d rules", RULES_MAX)
                     : parse_rule(&r, w, field, e);
        if (rc) {
            rules_free(rules_r);
            return -1;
        }
        rules_r->v = xrealloc(rules_r->v, (rules_r->n + 1) * sizeof r);
        rules_r->v[rules_r->n++] = r;
    }
    return 0;
}

void rules_free(struct rules *rules)
{
    free(rules->v);
    *rules = (struct rules){0};
}

static bool in_range(const struct rule *r, const struct bio *bio)
{
    if (bio->op == BIO_FLUSH)
        return true;
    return bio->offset <= r->last && bio->offset + bio->length > r->first;
}

static bool fires(struct rule *r, const struct bio *bio)
{
    if (!(r->ops & 1u << bio->op) || !in_range(r, bio) || r->hits >= r->count)
        return false;
    uint64_t n = r->matched++;
    if (n < r->after || (n - r->after + 1) % r->every)
        return false;
    /* 53 bits are what a double holds exactly. */
    return r->probability >= 1 ||
           (double)(fault_random(&r->random) >> 11) < r->probability * (double)(1ull << 53);
}

bool rules_judge(struct rules *rules, const struct bio *bio, struct verdict *verdict_r)
{
    for (unsigned i = 0; i < rules->n; i++) {
        struct rule *r = &rules->v[i];
        if (!fires(r, bio))
            continue;
        r->hits++;
        *verdict_r = (struct verdict){
            .error = r->error,
            .drop = r->drop,
            .hold = r->hold,
            .is_torn = r->is_torn && bio->op == BIO_WRITE,
            .torn = r->torn,
            .delay_us = r->delay_us,
            .bad_offset = bio->op == BIO_FLUSH     ? BIO_NO_OFFSET
                          : r->first > bio->offset ? r->first
                                                   : bio->offset,
        };
        return true;
    }
    return false;
}
