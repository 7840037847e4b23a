/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TESTS_DRIVERS_DEVICES_H
#define ORION_TESTS_DRIVERS_DEVICES_H

#include "harness.h"

#include <string.h>

#include "drivers/drivers.h"

/* Short ways to make and use devices in a test's task. `options` is "key=value,key=value"; a value
 * may hold '=' but no ','. */
static inline int try_device(const struct driver *driver, const char *name, const char *options,
                             struct bdev **bdev_r, struct err *e)
{
    struct opts *o = opts_new(driver->opts);
    char text[2048];
    snprintf(text, sizeof text, "%s", options);
    char *save = NULL;
    int rc = 0;
    for (char *w = strtok_r(text, ",", &save); w && !rc; w = strtok_r(NULL, ",", &save)) {
        char *value = strchr(w, '=');
        *value++ = 0;
        rc = opts_put(o, w, value, e);
    }
    if (!rc)
        rc = opts_check(o, e);
    if (!rc)
        rc = driver->create(name, NULL, o, bdev_r, e);
    opts_free(&o);
    return rc;
}

static inline struct bdev *device(const struct driver *driver, const char *name,
                                  const char *options)
{
    struct bdev *b = NULL;
    struct err e = {0};
    if (try_device(driver, name, options, &b, &e))
        fprintf(stderr, "%s: %s\n", name, e.msg);
    check(b);
    return b;
}

static inline struct bdev_desc *open_device(const char *name, enum bdev_claim claim)
{
    struct bdev_user user = {.label = "test"};
    struct err e = {0};
    struct bdev_desc *d = bdev_open(name, claim, &user, &e);
    if (!d)
        fprintf(stderr, "%s: %s\n", name, e.msg);
    check(d);
    return d;
}

static inline void remove_device(const char *name)
{
    struct bdev *b = bdev_find(name);
    check(b);
    bdev_unregister(b);
    check(!bdev_find(name));
}

static inline int do_op(struct bdev_desc *d, enum bio_op op, uint64_t offset, uint64_t length,
                        unsigned flags)
{
    struct bio bio;
    bio_init(&bio, d, op, offset, length, NULL, NULL);
    bio.flags = (uint8_t)flags;
    return bio_wait(&bio);
}

static inline unsigned get_extents(struct bdev_desc *d, uint64_t offset, uint64_t length,
                                   struct extent *list, unsigned max)
{
    struct bio_extents x = {.list = list, .max = max};
    struct bio bio;
    bio_init(&bio, d, BIO_EXTENTS, offset, length, NULL, NULL);
    bio.extents = &x;
    check_int(bio_wait(&bio), 0);
    return x.count;
}

static inline void fill_pattern(uint8_t *p, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)((i * 31 + i / 251 + seed * 7919) | 1);
}

static inline bool is_zero(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i])
            return false;
    return true;
}

struct attr_query {
    const char *key;
    char value[512];
};

static inline void attr_take(const char *key, const char *value, void *arg)
{
    struct attr_query *q = arg;
    if (!strcmp(key, q->key))
        snprintf(q->value, sizeof q->value, "%s", value);
}

#endif
