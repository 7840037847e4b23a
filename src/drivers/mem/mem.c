/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory driver: anonymous memory, gone when the daemon ends. Every op completes at once.
 *
 * One bit a page says whether it was ever written, so that extents and discards are exact without
 * asking the kernel. Bits and bytes are touched by every reactor: bits atomically; bytes without a
 * lock, because requests that overlap have no order on any disk.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "drivers/drivers.h"

enum { PAGE = 4096, WORD_BITS = 64 };

/* The longest range that one discard works through before other requests get their turn: giving
 * back 16 Ki pages takes the kernel about 2 ms. */
#define EXTENT_MAX ((uint64_t)64 << 20)
/* One answer about what is allocated: 64 Ki words to look at. */
#define MAP_MAX ((uint64_t)16 << 30)

struct mem_dev {
    struct bdev bdev;
    uint8_t *data;
    size_t mapped;             /* bytes of data: the size rounded up to pages */
    _Atomic uint64_t *written; /* a bit a page */
    size_t written_size;       /* bytes of the bitmap */
};

static struct mem_dev *mem_of(struct bdev *bdev)
{
    return container_of(bdev, struct mem_dev, bdev);
}

static bool page_written(const struct mem_dev *dev, uint64_t page)
{
    return atomic_load_explicit(&dev->written[page / WORD_BITS], memory_order_relaxed) >>
               (page % WORD_BITS) &
           1;
}

/* The pages [first, end) now are (or are not) allocated. */
static void pages_mark(struct mem_dev *dev, uint64_t first, uint64_t end, bool on)
{
    while (first < end) {
        unsigned bit = first % WORD_BITS;
        uint64_t n = end - first < WORD_BITS - bit ? end - first : WORD_BITS - bit;
        uint64_t mask = (n == WORD_BITS ? UINT64_MAX : ((uint64_t)1 << n) - 1) << bit;
        _Atomic uint64_t *word = &dev->written[first / WORD_BITS];
        uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
        if (on && (old & mask) != mask)
            atomic_fetch_or_explicit(word, mask, memory_order_relaxed);
        else if (!on && (old & mask))
            atomic_fetch_and_explicit(word, ~mask, memory_order_relaxed);
        first += n;
    }
}

/* The end of the run of pages from `first` that are all written or all not, at most `end`. */
static uint64_t pages_run(const struct mem_dev *dev, uint64_t first, uint64_t end)
{
    bool on = page_written(dev, first);
    uint64_t page = first + 1;
    while (page < end) {
        uint64_t word = atomic_load_explicit(&dev->written[page / WORD_BITS], memory_order_relaxed);
        if (page % WORD_BITS == 0 && word == (on ? UINT64_MAX : 0)) {
            page += WORD_BITS;
            continue;
        }
        if ((word >> (page % WORD_BITS) & 1) != on)
            return page;
        page++;
    }
    return page < end ? page : end;
}

/* The mapping lasts until the last user has closed the device. */
static void mem_read(struct mem_dev *dev, struct bio *bio)
{
    const uint8_t *data = dev->data + bio->offset;
    if (bio->flags & BIO_BORROW)
        bio->lent = data;
    else
        bio_copy_in(bio, 0, data, bio->length);
}

static void mem_write(struct mem_dev *dev, struct bio *bio)
{
    bio_copy_out(bio, 0, dev->data + bio->offset, bio->length);
    pages_mark(dev, bio->offset / PAGE, (bio->offset + bio->length + PAGE - 1) / PAGE, true);
}

/* Part of one page: it stays allocated. */
static void zero_part(struct mem_dev *dev, uint64_t from, uint64_t to)
{
    if (from < to && page_written(dev, from / PAGE))
        memset(dev->data + from, 0, to - from);
}

/* Gives whole pages back and zeroes what is left at both ends. */
static int mem_discard(struct mem_dev *dev, uint64_t offset, uint64_t length)
{
    uint64_t end = offset + length;
    uint64_t first = (offset + PAGE - 1) / PAGE, last = end / PAGE;
    if (end == dev->bdev.size)
        last = dev->mapped / PAGE; /* the tail of the last page is nobody's */
    if (first >= last) {
        uint64_t cut = first * PAGE < end ? first * PAGE : end;
        zero_part(dev, offset, cut);
        zero_part(dev, cut, end);
        return 0;
    }
    zero_part(dev, offset, first * PAGE);
    if (last * PAGE < end)
        zero_part(dev, last * PAGE, end);
    for (uint64_t page = first, next; page < last; page = next) {
        next = pages_run(dev, page, last);
        if (!page_written(dev, page))
            continue;
        /* The bits go first: a page that is marked free and still holds data would be read as it
         * is; nobody may rely on either while the discard is under way. */
        pages_mark(dev, page, next, false);
        if (madvise(dev->data + page * PAGE, (next - page) * PAGE, MADV_DONTNEED))
            memset(dev->data + page * PAGE, 0, (next - page) * PAGE);
    }
    return 0;
}

static int mem_write_zeroes(struct mem_dev *dev, struct bio *bio)
{
    if (!(bio->flags & BIO_NO_UNMAP))
        return mem_discard(dev, bio->offset, bio->length);
    memset(dev->data + bio->offset, 0, bio->length);
    pages_mark(dev, bio->offset / PAGE, (bio->offset + bio->length + PAGE - 1) / PAGE, true);
    return 0;
}

static int mem_extents(struct mem_dev *dev, struct bio *bio)
{
    struct bio_extents *x = bio->extents;
    uint64_t at = bio->offset;
    uint64_t end = at + (bio->length < MAP_MAX ? bio->length : MAP_MAX);
    x->count = 0;
    while (at < end && x->count < x->max) {
        uint64_t stop = pages_run(dev, at / PAGE, (end + PAGE - 1) / PAGE) * PAGE;
        if (stop > end)
            stop = end;
        x->list[x->count++] = (struct extent){
            .length = stop - at,
            .flags = page_written(dev, at / PAGE) ? 0 : EXTENT_HOLE | EXTENT_ZERO,
        };
        at = stop;
    }
    return x->count ? 0 : -EINVAL;
}

/*
 * Clients that read and write one block at the same time get what a disk would give them: old or
 * new, in any mix. ThreadSanitizer would see the two copies as a race of ours.
 */
#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif
#ifdef TSAN
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
static void medium_begin(void)
{
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}
static void medium_end(void)
{
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}
#else
static void medium_begin(void)
{
}
static void medium_end(void)
{
}
#endif

static void mem_submit(struct bdev *bdev, struct bio *bio)
{
    struct mem_dev *dev = mem_of(bdev);
    int error = 0;
    medium_begin();
    switch (bio->op) {
    case BIO_READ: mem_read(dev, bio); break;
    case BIO_WRITE: mem_write(dev, bio); break;
    case BIO_FLUSH: break;
    case BIO_DISCARD: error = mem_discard(dev, bio->offset, bio->length); break;
    case BIO_WRITE_ZEROES: error = mem_write_zeroes(dev, bio); break;
    case BIO_EXTENTS: error = mem_extents(dev, bio); break;
    default: error = -EOPNOTSUPP; break;
    }
    medium_end();
    bio_complete(bio, error);
}

static void mem_free(struct mem_dev *dev)
{
    if (dev->data)
        munmap(dev->data, dev->mapped);
    if (dev->written)
        munmap(dev->written, dev->written_size);
    free(dev);
}

static void mem_destroy(struct bdev *bdev)
{
    mem_free(mem_of(bdev));
}

static void mem_attrs(struct bdev *bdev, void (*fn)(const char *key, const char *value, void *arg),
                      void *arg)
{
    struct mem_dev *dev = mem_of(bdev);
    uint64_t pages = 0;
    for (size_t i = 0; i < dev->written_size / sizeof *dev->written; i++)
        pages += (unsigned)__builtin_popcountll(
            atomic_load_explicit(&dev->written[i], memory_order_relaxed));
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)pages * PAGE);
    fn("allocated", text, arg);
}

static const struct bdev_ops mem_ops = {
    .type = "mem",
    .submit = mem_submit,
    .destroy = mem_destroy,
    .attrs = mem_attrs,
};

static const struct opt mem_opts[] = {
    DRIVER_GEOMETRY_OPTS,
    {.name = NULL},
};

/* Zeroes that cost nothing until they are written. */
static void *map_zeroes(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static int mem_map(struct mem_dev *dev, struct err *e)
{
    dev->mapped = (dev->bdev.size + PAGE - 1) / PAGE * PAGE;
    dev->written_size = (dev->mapped / PAGE + WORD_BITS - 1) / WORD_BITS * sizeof *dev->written;
    dev->data = map_zeroes(dev->mapped);
    dev->written = map_zeroes(dev->written_size);
    if (!dev->data || !dev->written)
        return err_set(e, ERR_NO_SPACE, "size", "no address space for %llu bytes of memory: %s",
                       (unsigned long long)dev->bdev.size, strerror(errno));
    return 0;
}

static int mem_create(const char *name, const struct uuid *uuid, const struct opts *opts,
                      struct bdev **bdev_r, struct err *e)
{
    struct mem_dev *dev = xcalloc(1, sizeof *dev);
    struct bdev *b = &dev->bdev;
    driver_identity(b, name, uuid, &mem_ops);
    b->native = 1u << BIO_READ | 1u << BIO_WRITE | 1u << BIO_FLUSH | 1u << BIO_DISCARD |
                1u << BIO_WRITE_ZEROES | 1u << BIO_EXTENTS;
    b->native_fua = true; /* nothing is more durable than memory here */
    b->discard_gran = PAGE;
    b->discard_zeroes = true;
    b->known_zero = true;
    b->max_extent_io = EXTENT_MAX;
    int rc = driver_geometry(b, opts, e);
    b->phys_block = b->block_size; /* no write to memory must read first */
    if (rc || mem_map(dev, e) || bdev_register(b, e)) {
        mem_free(dev);
        return -1;
    }
    *bdev_r = b;
    return 0;
}

const struct driver mem_driver = {
    .name = "mem",
    .help = "memory of the daemon, lost when it ends",
    .opts = mem_opts,
    .create = mem_create,
};
