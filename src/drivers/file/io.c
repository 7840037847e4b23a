/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/killpoint.h"
#include "base/log.h"
#include "block/event.h"
#include "drivers/file/file_private.h"
#include "reactor/task.h"

/*
 * The state of a READ or WRITE, in the bio's scratch. An iovec of our own is needed because the
 * bio's may begin in the middle of an entry, be longer than the bio, or have more entries than one
 * system call takes; two entries are enough for nearly all.
 */
enum { FEW = 2 };
struct rw {
    uint64_t done;      /* bytes */
    struct iovec *many; /* from malloc when FEW do not do */
    struct iovec few[FEW];
};
_Static_assert(sizeof(struct rw) <= sizeof(((struct bio *)0)->drv), "struct rw must fit");

/* What EXTENTS, DISCARD by ioctl, and the tail of a zeroing FUA keep there. */
enum { STEP_FIRST, STEP_SYNC };
struct misc {
    uint64_t step;
    int64_t result;
    struct file_dev *dev;
};

static struct file_dev *dev_of(const struct bio *bio)
{
    return container_of(bio->ch->bdev, struct file_dev, bdev);
}

static struct rw *rw_of(struct bio *bio)
{
    return (struct rw *)&bio->drv;
}

static struct misc *misc_of(struct bio *bio)
{
    return (struct misc *)&bio->drv;
}

static bool learnt(const bool *flag)
{
    return __atomic_load_n(flag, __ATOMIC_RELAXED);
}

/* The kernel's errno as a class of block/bio.h. */
static int class_of(int error)
{
    switch (error) {
    case 0:
    case -EIO:
    case -ENODATA:
    case -EILSEQ:
    case -ENODEV:
    case -ETIMEDOUT:
    case -ENOSPC:
    case -EROFS:
    case -EBADE:
    case -EOPNOTSUPP: return error;
    case -EDQUOT:
    case -EFBIG: return -ENOSPC;
    case -EPERM:
    case -EACCES: return -EROFS;
    case -ENXIO:
    case -ESHUTDOWN: return -ENODEV;
    default: return -EIO;
    }
}

static void fail_log(const struct bio *bio, int error)
{
    log_every(5, LOG_LEVEL_WARN, "file", "%s: %s of %llu bytes at %llu failed: %s",
              dev_of(bio)->path, bio_op_name(bio->op), (unsigned long long)bio->length,
              (unsigned long long)bio->offset, strerror(-error));
}

/*
 * Has somebody cut the file off below us? Reads past the end tell by themselves; a write would make
 * the file long again, with zeroes where data was, so whatever promises durability looks too. The
 * answer comes from what the kernel has in memory, and costs no wait.
 */
static bool shrank(struct file_dev *dev)
{
    struct statx sx;
    if (dev->is_node || learnt(&dev->shrunk))
        return !dev->is_node;
    uint64_t size = __atomic_load_n(&dev->bdev.size, __ATOMIC_RELAXED);
    if (statx(dev->fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_SIZE, &sx) ||
        sx.stx_size >= size)
        return false;
    if (!__atomic_exchange_n(&dev->shrunk, true, __ATOMIC_RELAXED)) {
        char object[96];
        snprintf(object, sizeof object, "device %s", dev->bdev.name);
        event_raise(object, "device-failed", "%s has become shorter: %llu of %llu bytes", dev->path,
                    (unsigned long long)sx.stx_size, (unsigned long long)size);
    }
    return true;
}

/* ---- the ring */

/* An sqe, or `again` runs with the bio on a later turn. The ring is full only when completions have
 * piled up, so the extra memory is a rare thing. */
struct starved {
    struct rdefer defer;
    struct bio *bio;
    void (*again)(struct bio *bio);
};

static void feed(void *arg)
{
    struct starved s = *(struct starved *)arg;
    free(arg);
    s.again(s.bio);
}

static struct io_uring_sqe *get_sqe(struct bio *bio, void (*fn)(struct ring_op *op, int res),
                                    void (*again)(struct bio *bio))
{
    bio->ring.fn = fn;
    struct io_uring_sqe *sqe = reactor_sqe(&bio->ring);
    if (sqe)
        return sqe;
    struct starved *s = calloc(1, sizeof *s);
    if (!s) {
        bio_complete(bio, -EAGAIN);
        return NULL;
    }
    s->bio = bio;
    s->again = again;
    reactor_defer(&s->defer, feed, s);
    return NULL;
}

/* ---- reads and writes */

/* The entries of the bio's data from byte rw->done on, at most `max`; *bytes_r is how much they
 * cover, in whole blocks. */
static unsigned fill_vec(const struct bio *bio, uint64_t from, struct iovec *out, unsigned max,
                         uint64_t *bytes_r)
{
    uint64_t left = bio->length - from, skip = bio->iov_skip + from, covered = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < bio->iovcnt && n < max && covered < left; i++) {
        uint64_t len = bio->iov[i].iov_len;
        if (skip >= len) {
            skip -= len;
            continue;
        }
        out[n].iov_base = (char *)bio->iov[i].iov_base + skip;
        out[n].iov_len = len - skip < left - covered ? len - skip : left - covered;
        covered += out[n++].iov_len;
        skip = 0;
    }
    uint64_t over = covered % bio->ch->bdev->block_size;
    *bytes_r = covered - over;
    while (over && n) {
        struct iovec *last = &out[n - 1];
        uint64_t cut = over < last->iov_len ? over : last->iov_len;
        last->iov_len -= cut;
        over -= cut;
        n -= !last->iov_len;
    }
    return n;
}

static unsigned vec_max(const struct bio *bio)
{
    return bio->iovcnt < IOV_MAX ? bio->iovcnt : IOV_MAX;
}

/* Entries for one system call: all that is left of the bio where they fit. */
static unsigned next_vec(struct bio *bio, struct iovec **iov_r)
{
    struct rw *rw = rw_of(bio);
    uint64_t bytes;
    unsigned n;
    *iov_r = rw->few;
    if (!rw->many) {
        n = fill_vec(bio, rw->done, rw->few, FEW, &bytes);
        if (bytes == bio->length - rw->done)
            return n;
        rw->many = malloc(vec_max(bio) * sizeof *rw->many);
        if (!rw->many)
            return n; /* part by part is slow, and correct */
    }
    *iov_r = rw->many;
    return fill_vec(bio, rw->done, rw->many, vec_max(bio), &bytes);
}

static void rw_end(struct bio *bio, int error)
{
    struct rw *rw = rw_of(bio);
    free(rw->many);
    if (error) {
        fail_log(bio, error);
        /* The kernel does not say which block was bad; after partial success, or with one block
         * only, it is known. */
        uint64_t block = bio->ch->bdev->block_size;
        if (rw->done || bio->length == block)
            bio->bad_offset = bio->offset + rw->done;
    }
    bio_complete(bio, class_of(error));
}

/* Takes one result. True: go on with the rest. */
static bool rw_took(struct bio *bio, ssize_t res)
{
    struct rw *rw = rw_of(bio);
    /* An -EAGAIN is asked again once, from a worker that may wait; the answer then stands. */
    if (res == -EINTR || (res == -EAGAIN && !bio->pending++))
        return true;
    if (res <= 0) { /* no progress: the end of the file, which was further away */
        rw_end(bio, res ? (int)res : shrank(dev_of(bio)) ? -ENODEV : -EIO);
        return false;
    }
    uint64_t block = bio->ch->bdev->block_size;
    uint64_t done = (rw->done + (uint64_t)res) / block * block;
    if (done == rw->done) {
        rw_end(bio, shrank(dev_of(bio)) ? -ENODEV : -EIO);
        return false;
    }
    rw->done = done;
    if (done < bio->length)
        return true;
    rw_end(bio, bio->flags & BIO_FUA && shrank(dev_of(bio)) ? -ENODEV : 0);
    return false;
}

static int rw_flags(const struct bio *bio)
{
    return bio->flags & BIO_FUA && !dev_of(bio)->in_memory ? RWF_DSYNC : 0;
}

static void rw_ring(struct bio *bio);

static void rw_ring_done(struct ring_op *op, int res)
{
    struct bio *bio = container_of(op, struct bio, ring);
    if (rw_took(bio, res))
        rw_ring(bio);
}

static void rw_ring(struct bio *bio)
{
    struct io_uring_sqe *sqe = get_sqe(bio, rw_ring_done, rw_ring);
    if (!sqe)
        return;
    struct file_dev *dev = dev_of(bio);
    struct iovec *iov;
    unsigned n = next_vec(bio, &iov);
    uint64_t at = bio->offset + rw_of(bio)->done;
    if (bio->op == BIO_READ && n == 1)
        io_uring_prep_read(sqe, dev->fd, iov->iov_base, (unsigned)iov->iov_len, at);
    else if (bio->op == BIO_READ)
        io_uring_prep_readv2(sqe, dev->fd, iov, n, at, 0);
    else
        io_uring_prep_writev2(sqe, dev->fd, iov, n, at, rw_flags(bio));
    if (bio->pending)
        sqe->flags |= IOSQE_ASYNC;
}

static void rw_inline(struct bio *bio)
{
    struct file_dev *dev = dev_of(bio);
    ssize_t res;
    do {
        struct iovec *iov;
        int n = (int)next_vec(bio, &iov);
        off_t at = (off_t)(bio->offset + rw_of(bio)->done);
        res = bio->op == BIO_READ ? preadv(dev->fd, iov, n, at)
                                  : pwritev2(dev->fd, iov, n, at, rw_flags(bio));
    } while (rw_took(bio, res < 0 ? -errno : res));
}

/* ---- flush */

static void sync_done(struct ring_op *op, int res)
{
    struct bio *bio = container_of(op, struct bio, ring);
    if (res < 0)
        fail_log(bio, res);
    else if (shrank(dev_of(bio)))
        res = -ENODEV;
    /* Not asked again: the kernel reports lost pages once, the core keeps the error. */
    bio_complete(bio, class_of(res));
}

static void sync_ring(struct bio *bio)
{
    struct io_uring_sqe *sqe = get_sqe(bio, sync_done, sync_ring);
    if (sqe)
        io_uring_prep_fsync(sqe, dev_of(bio)->fd, IORING_FSYNC_DATASYNC);
}

static void file_flush(struct bio *bio)
{
    struct file_dev *dev = dev_of(bio);
    if (dev->in_memory || dev->bdev.read_only)
        bio_complete(bio, shrank(dev) ? -ENODEV : 0);
    else
        sync_ring(bio);
}

/* ---- zeroes and discards by fallocate */

/* FALLOCATE's mode for the op. On block nodes PUNCH_HOLE zeroes with unmapping, or fails where the
 * device cannot; ZERO_RANGE keeps the blocks and writes zeroes itself if it must. */
static int falloc_mode(const struct bio *bio)
{
    return bio->op == BIO_WRITE_ZEROES && bio->flags & BIO_NO_UNMAP
               ? FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE
               : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
}

static void falloc_ring(struct bio *bio);

static void falloc_done(struct ring_op *op, int res)
{
    struct bio *bio = container_of(op, struct bio, ring);
    struct file_dev *dev = dev_of(bio);
    if (res == -EINTR || (res == -EAGAIN && !bio->pending++)) {
        falloc_ring(bio);
        return;
    }
    if (res == -EOPNOTSUPP || res == -ENOSYS) {
        bool punch = falloc_mode(bio) & FALLOC_FL_PUNCH_HOLE;
        __atomic_store_n(punch ? &dev->no_punch : &dev->no_zero_range, true, __ATOMIC_RELAXED);
    }
    /* EREMOTEIO: a disk refused a command that it had said it knows. */
    if (res == -EOPNOTSUPP || res == -ENOSYS || res == -EINVAL || res == -EREMOTEIO) {
        bio_complete(bio, -EOPNOTSUPP);
        return;
    }
    if (res < 0) {
        fail_log(bio, res);
        bio_complete(bio, class_of(res));
    } else if (bio->flags & BIO_FUA && !dev->in_memory) {
        sync_ring(bio);
    } else {
        bio_complete(bio, 0);
    }
}

static void falloc_ring(struct bio *bio)
{
    struct io_uring_sqe *sqe = get_sqe(bio, falloc_done, falloc_ring);
    if (sqe)
        io_uring_prep_fallocate(sqe, dev_of(bio)->fd, falloc_mode(bio), (off_t)bio->offset,
                                (off_t)bio->length);
}

static void file_zero(struct bio *bio)
{
    struct file_dev *dev = dev_of(bio);
    bool punch = falloc_mode(bio) & FALLOC_FL_PUNCH_HOLE;
    if (learnt(punch ? &dev->no_punch : &dev->no_zero_range) ||
        (bio->flags & BIO_FAST_ZERO && !dev->fast_zero))
        bio_complete(bio, -EOPNOTSUPP); /* the core writes zeroes, unless it must be fast */
    else
        falloc_ring(bio);
}

/* A node's discard promises nothing about what is read afterwards, so it is not PUNCH_HOLE. There
 * is no io_uring op for it on the kernels we run on. */
static void node_discard(void *arg)
{
    struct bio *bio = arg;
    uint64_t range[2] = {bio->offset, bio->length};
    misc_of(bio)->result = ioctl(misc_of(bio)->dev->fd, BLKDISCARD, range) ? -errno : 0;
}

static void helped(void *arg)
{
    struct bio *bio = arg;
    int error = (int)misc_of(bio)->result;
    if (error && error != -EOPNOTSUPP)
        fail_log(bio, error);
    bio_complete(bio, class_of(error));
}

/* ---- extents */

/* In memory each page of data is looked at: of more than so many, not by the reactor itself. */
enum { MAP_INLINE_MAX = 64 << 20 };

static void find_extents(void *arg)
{
    struct bio *bio = arg;
    struct misc *m = misc_of(bio);
    struct bio_extents *x = bio->extents;
    off_t at = (off_t)bio->offset, end = (off_t)(bio->offset + bio->length);
    x->count = 0;
    while (at < end && x->count < x->max) {
        off_t data = lseek(m->dev->fd, at, SEEK_DATA);
        if (data < 0 && errno != ENXIO) { /* ENXIO: no data up to the end of the file */
            m->result = -errno;
            return;
        }
        if (data < 0 && shrank(m->dev)) { /* what was cut off is no hole */
            m->result = -ENODEV;
            return;
        }
        bool hole = data != at;
        off_t stop = hole ? data : lseek(m->dev->fd, at, SEEK_HOLE);
        if (stop < 0 || stop > end)
            stop = end;
        /* Whole blocks only: a block with some data in it counts as data. */
        off_t block = (off_t)bio->ch->bdev->block_size;
        stop = hole ? stop / block * block : (stop + block - 1) / block * block;
        if (stop <= at) {
            hole = false;
            stop = at + block;
        }
        x->list[x->count++] = (struct extent){
            .length = (uint64_t)(stop - at),
            .flags = hole ? EXTENT_HOLE | EXTENT_ZERO : 0,
        };
        at = stop;
    }
}

void file_submit(struct bdev *bdev, struct bio *bio)
{
    struct file_dev *dev = container_of(bdev, struct file_dev, bdev);
    if (learnt(&dev->shrunk)) {
        bio_complete(bio, -ENODEV);
        return;
    }
    if (bio->op != BIO_READ)
        kill_point();
    switch (bio->op) {
    case BIO_READ:
    case BIO_WRITE:
        if (dev->rw_way == WAY_INLINE)
            rw_inline(bio);
        else
            rw_ring(bio);
        return;
    case BIO_FLUSH: file_flush(bio); return;
    case BIO_WRITE_ZEROES: file_zero(bio); return;
    case BIO_DISCARD:
        if (!dev->is_node) {
            file_zero(bio);
            return;
        }
        misc_of(bio)->dev = dev;
        helper_run(node_discard, helped, bio);
        return;
    case BIO_EXTENTS:
        misc_of(bio)->dev = dev;
        if (dev->in_memory && bdev->size <= MAP_INLINE_MAX) {
            find_extents(bio);
            helped(bio);
        } else {
            helper_run(find_extents, helped, bio); /* the extent tree may have to be read */
        }
        return;
    default: assert(!"an op that is not native");
    }
}
