/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Failures: kept in files, made small. And the rows of a table as tests. */
#include <errno.h>

#include "base/mem.h"
#include "powercut.h"

/* ---- a life in a file, as this build has it in memory */

enum { MAGIC = 0x6f726361 };

struct head {
    uint32_t magic, life_size;
};

static void put(FILE *f, const void *p, size_t len)
{
    if (len && fwrite(p, len, 1, f) != 1)
        fprintf(stderr, "the case cannot be written: %s\n", strerror(errno));
}

static void get(FILE *f, void *p, size_t len)
{
    check(!len || fread(p, len, 1, f) == 1);
}

static void put_member(FILE *f, const struct pc_life *l, unsigned m)
{
    const struct pc_image *base = &l->base[m];
    for (unsigned b = 0; b < PC_BLOCKS; b++)
        if (base->blocks >> b & 1)
            put(f, base->data + (size_t)b * PC_BLOCK, PC_BLOCK);
    for (unsigned i = 0; i < l->record[m].n; i++) {
        const struct fault_entry *x = &l->record[m].entry[i];
        put(f, x, sizeof *x);
        put(f, x->data, x->op == BIO_WRITE ? x->length : 0);
    }
}

static void get_member(FILE *f, struct pc_life *l, unsigned m)
{
    struct pc_image *base = &l->base[m];
    base->data = calloc(1, PC_SIZE);
    l->record[m].entry = calloc(l->record[m].n + 1, sizeof *l->record[m].entry);
    check(base->data && l->record[m].entry);
    for (unsigned b = 0; b < PC_BLOCKS; b++)
        if (base->blocks >> b & 1)
            get(f, base->data + (size_t)b * PC_BLOCK, PC_BLOCK);
    for (unsigned i = 0; i < l->record[m].n; i++) {
        struct fault_entry *x = &l->record[m].entry[i];
        get(f, x, sizeof *x);
        uint8_t *data = x->op == BIO_WRITE ? malloc(x->length) : NULL; /* until the test ends */
        if (data)
            get(f, data, x->length);
        x->data = data;
    }
}

void pc_save(const struct pc_life *l, const struct iovec *own, unsigned n, const char *path)
{
    struct head h = {MAGIC, sizeof *l};
    FILE *f = fopen(path, "w");
    if (!f) {
        fprintf(stderr, "%s cannot be written: %s\n", path, strerror(errno));
        return;
    }
    put(f, &h, sizeof h);
    for (unsigned i = 0; i < n; i++)
        put(f, own[i].iov_base, own[i].iov_len);
    put(f, l, sizeof *l);
    put(f, l->op, l->ops * sizeof *l->op);
    put(f, l->baseline, l->size);
    for (unsigned m = 0; m < l->members; m++)
        if (l->base[m].data)
            put_member(f, l, m);
    fclose(f);
}

void pc_load(struct pc_life *l, const struct iovec *own, unsigned n, const char *path)
{
    struct head h;
    FILE *f = fopen(path, "r");
    check(f);
    get(f, &h, sizeof h);
    check(h.magic == MAGIC && h.life_size == sizeof *l);
    for (unsigned i = 0; i < n; i++)
        get(f, own[i].iov_base, own[i].iov_len);
    get(f, l, sizeof *l);
    l->op = calloc(PC_OPS, sizeof *l->op);
    l->baseline = malloc(l->size);
    check(l->op && l->baseline);
    get(f, l->op, l->ops * sizeof *l->op);
    get(f, l->baseline, l->size);
    memset(l->hold, 0, sizeof l->hold);
    for (unsigned m = 0; m < l->members; m++)
        if (l->base[m].data)
            get_member(f, l, m);
    fclose(f);
}

/* ---- what fails is made small */

void pc_shrink(const struct pc_life *l, struct pc_cut *c,
               bool (*fails)(const struct pc_life *l, const struct pc_cut *c))
{
    unsigned tried = 0;
    for (unsigned m = 0; m < l->members; m++) {
        unsigned n = l->record[m].n;
        c->whole[m] = calloc(n + 1, 1);
        for (unsigned step = n; step; step /= 2) {
            for (unsigned from = 0; from < n && tried < 2000; from += step) {
                unsigned len = n - from < step ? n - from : step;
                autofree uint8_t *was = malloc(len);
                memcpy(was, c->whole[m] + from, len);
                if (!memchr(was, 0, len))
                    continue;
                memset(c->whole[m] + from, 1, len);
                tried++;
                if (!fails(l, c))
                    memcpy(c->whole[m] + from, was, len);
            }
        }
    }
    fprintf(stderr, "shrunk in %u tries; still: %s\n", tried, fails(l, c) ? pc_why : "not always");
}

/* ---- tables */

int pc_rows(const char *group, const void *rows, size_t size, unsigned n, CMUnitTestFunction fn,
            const char *only)
{
    struct CMUnitTest tests[PC_ROWS];
    unsigned count = 0;
    check(n <= PC_ROWS);
    for (unsigned i = 0; i < n; i++) {
        void *row = (void *)((uintptr_t)rows + i * size);
        const char *name = *(const char **)row;
        if (!only || !strcmp(name, only))
            tests[count++] = (struct CMUnitTest){name, fn, NULL, NULL, row};
    }
    if (!count) {
        fprintf(stderr, "no row %s\n", only);
        return 2;
    }
    return _cmocka_run_group_tests(group, tests, count, NULL, NULL);
}
