/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_RAID_STRIPE_H
#define ORION_RAID_STRIPE_H

#include "raid/parity.h"
#include "raid/raid_private.h"
#include "reactor/iobuf.h"

/*
 * The engine of raid4, 5 and 6. A stripe is one chunk of each slot; a row is a byte of each chunk
 * of a stripe. Each stripe belongs to one reactor, which alone knows who waits for its rows and who
 * works on them: no locks. What is asked for waits in the stripe until the turn ends; what then is
 * adjacent is worked on together. Work has its rows for itself, so that parity always fits.
 */
enum {
    STRIPE_ROWS_MAX = 1 << 20, /* rows that are worked on at once */
    STRIPE_RESERVE = 4096,     /* rows that can be worked on when memory is out */
    STRIPE_BUCKETS = 256,
};

/* Bytes of buffers a reactor; beyond it work waits. raid_set_stripe_memory. */
extern size_t stripe_memory; /* atomic */

enum stripe_kind {
    STRIPE_READ,   /* a bio, members missing or unreadable */
    STRIPE_WRITE,  /* a bio */
    STRIPE_RESYNC, /* parity is made to fit the data */
    STRIPE_FILL,   /* one member is filled from the others */
    STRIPE_CHECK,  /* parity and data are compared */
};

/* What a check says of STRIPE_BLOCK rows. */
enum { STRIPE_BLOCK = 4096, STRIPE_FITS = 0, STRIPE_DIFFERS = 1, STRIPE_WRONG = 2 /* + slot */ };

/* What somebody wants of one stripe. The memory is the submitter's until `done` runs, on the
 * stripe's reactor. */
struct stripe_req {
    struct list link;
    enum stripe_kind kind;
    uint64_t stripe;
    uint32_t lo, hi; /* rows; what lies between may be untouched */
    struct bio *bio;
    struct raid_member *to; /* FILL */
    uint8_t *verdict;       /* CHECK; of each STRIPE_BLOCK from lo on; both ends are multiples */
    bool mend;              /* CHECK; what does not fit is put right */
    int error;
    void (*done)(struct stripe_req *req);
    void *arg;
    /* the engine's */
    uint32_t next; /* rows before are done */
    bool taken;
};

struct stripe {
    struct list link; /* bucket, or free */
    struct list busy; /* o->busy while it has to be looked at */
    uint64_t number;
    struct list reqs, ops;
};

struct stripe_op;

/* A slot's part in some work. */
struct stripe_col {
    struct bio bio;
    struct iovec iov;
    struct stripe_op *op;
    struct raid_member *m;
    unsigned slot;
    uint32_t lo, hi; /* rows that clients touch; lo == hi: none */
    bool whole;      /* all rows of the work are touched */
    struct iobuf *buf[2];
    unsigned bufs;
    uint8_t *old, *now; /* of row op->lo; what was read, what is to be */
};

struct stripe_op {
    struct list link; /* stripe->ops, or free */
    struct stripe_owner *o;
    struct stripe *stripe;
    enum stripe_kind kind;
    uint32_t lo, hi;
    struct list reqs;
    struct parity_map map;
    struct raid_member *to;
    uint64_t bad;            /* slots that could not be read */
    uint64_t lost;           /* slots that are recovered */
    uint64_t reads;          /* slots whose old rows are read */
    uint64_t writes;         /* slots that get new rows */
    uint64_t touched, whole; /* data slots, by clients */
    bool modify;             /* parity by differences */
    bool copy;               /* FILL from who has the slot */
    bool fua;
    unsigned reserved; /* parts of the reserve in use */
    size_t memory;
    unsigned pending;
    struct rdefer defer;
    int error;
    struct raid_io *io;   /* its legs are the writes */
    bool logged;          /* a record of the log stands for it */
    bool named;           /* one that only names its stripe */
    bool writing;         /* and its rows are on their way; the log's */
    struct list log_link; /* waits for room in the log */
    struct bio log_bio;
    struct iobuf *log_buf;
    struct iovec *log_iov; /* slots + 1 */
    unsigned log_iovs;
    struct raid_member *log_member;
    struct bio second; /* to who is to replace a member: what that one gets */
    struct iovec second_iov;
    struct stripe_col col[]; /* by slot */
};

/* A reactor's part of an array. */
struct stripe_owner {
    struct raid_array *a;
    struct reactor *reactor;
    struct list bucket[STRIPE_BUCKETS];
    struct list spare_stripes, spare_ops;
    struct list busy; /* stripes to be looked at */
    struct rdefer turn;
    size_t memory; /* of buffers in use; atomic, as its peak */
    size_t memory_most;
    unsigned ops;            /* under way */
    bool tight;              /* memory is out */
    struct iobuf *reserve;   /* 2 x slots x STRIPE_RESERVE */
    uint64_t way[RAID_WAYS]; /* writes by kind, atomic */
    uint64_t gathered;       /* client writes that shared work with another one; atomic */
};

struct plog;

struct raid456 {
    struct plog *log;   /* NULL: none */
    const char *no_log; /* why */
    struct parity_geometry geometry;
    uint64_t stripe_bytes; /* of data */
    uint32_t chunk;
    struct stripe_owner *owner[REACTOR_MAX];
};

static inline struct raid456 *raid456_of(struct raid_array *a)
{
    return a->level_data;
}

/* ---- stripe.c: who waits, who works */
struct stripe_owner *stripe_owner_new(struct raid_array *a, struct reactor *r);
void stripe_owner_free(struct stripe_owner **o); /* nothing is under way */
struct stripe_owner *stripe_owner_of(struct raid_array *a, uint64_t stripe);
void stripe_submit(struct stripe_owner *o, struct stripe_req *req); /* on o's reactor */
/* The rows that a request touches in the data block `index` of its stripe, within [lo, hi). */
bool stripe_touched(const struct raid456 *r, const struct stripe_req *req, unsigned index,
                    uint32_t lo, uint32_t hi, uint32_t *lo_r, uint32_t *hi_r);
void stripe_op_end(struct stripe_op *op, int error);
void stripe_op_retry(struct stripe_op *op); /* from the start; nothing has been written */
void stripe_op_shrink(struct stripe_op *op, uint32_t hi); /* before anything has been done */

static inline uint32_t stripe_op_rows(const struct stripe_op *op)
{
    return op->hi - op->lo;
}

/* Of a row in each member's data. */
static inline uint64_t stripe_op_offset(const struct stripe_op *op, uint32_t row)
{
    return op->stripe->number * raid456_of(op->o->a)->chunk + row;
}

/* ---- stripe_plan.c: what work reads and writes */
void stripe_op_touch(struct stripe_op *op);        /* `touched`, `whole`, the columns' rows */
bool stripe_op_plan(struct stripe_op *op);         /* false: too much is missing */
bool stripe_op_listed(const struct stripe_op *op); /* blocks of its rows are known to be bad */

/* ---- stripe_io.c: the work */
/* False: no memory for it now. Else it ends by stripe_op_end, later. */
bool stripe_op_start(struct stripe_op *op);
void stripe_op_release(struct stripe_op *op); /* its buffers */
void stripe_op_logged(struct stripe_op *op);  /* its writes may begin */

/* ---- stripe_check.c: all rows are read, parity for the data as read is computed in `now`. Leaves
 * what is to be written in `now` and its slots in `writes`. */
void stripe_op_check(struct stripe_op *op);

#endif
