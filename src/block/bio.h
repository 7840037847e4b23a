/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BLOCK_BIO_H
#define ORION_BLOCK_BIO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/list.h"
#include "reactor/reactor.h"

struct bdev;
struct bdev_desc;
struct bdev_channel;
struct bio;
struct iobuf;

/*
 * A bio is one request to a device. The submitter owns its memory and fills it (bio_init, then the
 * fields of the first group), calls bio_submit on a reactor, and gets `done` on the same reactor,
 * exactly once, never from within bio_submit. Until then the bio, its iovec array and its data
 * belong to the device. There is no cancel: who loses interest suppresses the reply and waits.
 *
 * The core checks range, alignment, op and flags before a driver sees the bio; a violation
 * completes with -EINVAL, or -ENXIO when the range ends beyond the device.
 */
enum bio_op {
    BIO_READ,
    BIO_WRITE,
    BIO_FLUSH,        /* offset = length = 0; covers every write completed before, on any reactor */
    BIO_DISCARD,      /* advisory; -EOPNOTSUPP where the device has none */
    BIO_WRITE_ZEROES, /* reads as zero afterwards; BIO_NO_UNMAP keeps it allocated */
    BIO_EXTENTS,      /* fills `extents` */
    BIO_PREFETCH,     /* advisory */
    BIO_COMPARE_AND_WRITE, /* data = length bytes to compare, then length bytes to write; a
                              difference is -EUCLEAN with bad_offset set */
    BIO_COPY,              /* from copy_src:copy_offset to this device */
    BIO_OP_COUNT
};

enum bio_flags {
    BIO_FUA = 1 << 0,       /* WRITE, WRITE_ZEROES: durable when it completes */
    BIO_NO_UNMAP = 1 << 1,  /* WRITE_ZEROES: allocate, do not punch */
    BIO_FAST_ZERO = 1 << 2, /* WRITE_ZEROES: -EOPNOTSUPP rather than slower than a write of data */
    BIO_BORROW = 1 << 3,    /* READ: memory of the device's will do instead of a copy, see `lent` */
    BIO_OWN_ERRORS = 1 << 4, /* with FUA: who submits deals with a failure, later FLUSHes go on */
};

/*
 * Result classes, errno below zero; layers above act on the class only:
 *   -EIO -ENODATA     medium error, at bad_offset when known     -ENODEV    device gone or removing
 *   -EILSEQ           checksum                                   -ETIMEDOUT gave up waiting
 *   -ENOSPC           out of (thin) space                        -EROFS     read only
 *   -EBADE            reservation conflict                       -EOPNOTSUPP op not possible here
 *   -EUCLEAN          compare-and-write differs                  -EAGAIN    before anything was
 * done -EINVAL -ENXIO    the submitter's mistake
 */
typedef void (*bio_done_fn)(struct bio *bio);

#define BIO_NO_OFFSET UINT64_MAX

enum extent_flags { EXTENT_HOLE = 1, EXTENT_ZERO = 2 }; /* not allocated; reads as zeroes */
struct extent {
    uint64_t length; /* bytes; extents follow one another from the bio's offset */
    uint32_t flags;
};
struct bio_extents {
    struct extent *list;
    unsigned max, count; /* may end before the bio's range does, but is never empty on success */
};

struct bio {
    /* -- the submitter fills */
    struct bdev_desc *desc;
    uint8_t op;    /* enum bio_op */
    uint8_t flags; /* enum bio_flags */
    unsigned iovcnt;
    uint64_t offset;         /* bytes */
    uint64_t length;         /* bytes; READ, WRITE at most BIO_MAX_DATA */
    const struct iovec *iov; /* data, beginning iov_skip bytes into the array */
    size_t iov_skip;
    union {
        struct bio_extents *extents;
        struct {
            struct bdev_desc *copy_src;
            uint64_t copy_offset;
        };
    };
    uint64_t nexus; /* who asks, for the reservation gate; 0 = not from a target */
    bio_done_fn done;
    void *arg;

    /* -- result */
    int error;           /* 0 or a class above */
    uint64_t bad_offset; /* device offset of the first bad byte, or BIO_NO_OFFSET */
    /* Of a READ with BIO_BORROW, or NULL: its data is `length` bytes here, and iov was not written.
     * The memory is the device's own. It may be read until the submitter's desc is closed, and each
     * look gives what the medium holds then: a write that comes before the last look has overlapped
     * the READ, so that a mixture of old and new is as right as with a copy. Whoever must see the
     * same twice (a digest and the data) does not borrow, and whoever promises an order of requests
     * counts the READ as under way until its last look. */
    const uint8_t *lent;

    /* -- the layer that processes the bio (a driver, between submit and bio_complete) */
    struct bdev_channel *ch; /* the device's channel on this reactor */
    unsigned pending;        /* fan-out: children under way */
    struct ring_op ring;
    union {
        uint64_t u[6];
        void *p[6];
    } drv; /* scratch, zeroed at submit */

    /* -- the core */
    struct bio *parent;      /* of a child */
    uint64_t from;           /* a child's place in its parent's range */
    struct list link;        /* in flight, or waiting */
    uint64_t t_submit;       /* reactor_now() */
    struct rdefer defer;     /* completion */
    struct rpost post;       /* forwarding */
    struct reactor *origin;  /* of a forwarded child: where its parent waits */
    struct range_req *range; /* held while the device is in exclusive mode */
    struct xform *xform;     /* the core's own sub-request belongs to it */
    unsigned credits;        /* children promised and not taken */
    uint8_t state;
    uint8_t core_flags;
    struct iobuf *buf; /* reference held for the data, dropped at completion; may be NULL */
};

enum { BIO_MAX_DATA = 64 << 20 };

/* Zeroes and sets what a submitter need not think of. */
void bio_init(struct bio *bio, struct bdev_desc *desc, enum bio_op op, uint64_t offset,
              uint64_t length, bio_done_fn done, void *arg);
void bio_data(struct bio *bio, const struct iovec *iov, unsigned iovcnt);
void bio_submit(struct bio *bio);

/* In a task: submits and waits; returns bio->error. `done`/`arg` are overwritten. */
int bio_wait(struct bio *bio);

/* In a task, on any reactor: one operation with a plain buffer (any alignment; bounced by the
 * core). Returns 0 or a class. */
int bdev_read(struct bdev_desc *desc, uint64_t offset, void *buf, size_t len);
int bdev_write(struct bdev_desc *desc, uint64_t offset, const void *buf, size_t len,
               unsigned flags);
int bdev_flush(struct bdev_desc *desc);

const char *bio_op_name(enum bio_op op); /* "read", "write_zeroes", ... */

/* ---- data access by whoever processes a bio */

/* The bio's data from byte `from`, `len` long, as an iovec; returns entries used, at most max, or 0
 * when it needs more than max. */
unsigned bio_iovec(const struct bio *bio, uint64_t from, uint64_t len, struct iovec *out,
                   unsigned max);
void bio_copy_in(const struct bio *bio, uint64_t from, const void *src, size_t len); /* to iov */
void bio_copy_out(const struct bio *bio, uint64_t from, void *dst, size_t len);      /* from iov */
void bio_fill_zero(const struct bio *bio, uint64_t from, size_t len);

static inline bool bio_has_data(enum bio_op op)
{
    return op == BIO_READ || op == BIO_WRITE || op == BIO_COMPARE_AND_WRITE;
}

static inline bool bio_is_write(enum bio_op op) /* changes the medium */
{
    return op == BIO_WRITE || op == BIO_DISCARD || op == BIO_WRITE_ZEROES ||
           op == BIO_COMPARE_AND_WRITE || op == BIO_COPY;
}

#endif
