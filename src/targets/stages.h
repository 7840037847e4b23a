/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_STAGES_H
#define ORION_TARGETS_STAGES_H

#include "base/list.h"
#include "block/stats.h"
#include "reactor/reactor.h"

/*
 * Where the time of a request goes, per export (an NBD export, or one LUN of an iSCSI target). The
 * transport notes when a request passes each point, always by reactor_now(), which reads the clock
 * once a batch; the four stages are the differences:
 *
 *   receive  data-out from the network          received - admitted
 *   queue    waiting for memory, depth, order   (admitted - arrived) + (submitted - received)
 *   device   the block device                   done - submitted
 *   send     the reply, until the socket has it  sent - done
 *
 * A book is main's; each reactor counts in its own part, made at its first request. Anybody reads.
 */
enum io_stage { STAGE_RECEIVE, STAGE_QUEUE, STAGE_DEVICE, STAGE_SEND, STAGES };
enum stage_op { STAGE_READ, STAGE_WRITE, STAGE_OTHER, STAGE_OPS };

struct io_times { /* ns; all 0 at first */
    uint64_t arrived, admitted, received, submitted, done;
};

struct stage_hist {
    uint64_t total_ns;
    uint64_t bucket[HIST_BUCKETS];
};
struct stage_counters {
    struct stage_hist stage[STAGES];
    struct stage_hist op[STAGE_OPS]; /* from arrived to sent */
    uint64_t bytes[STAGE_OPS], errors[STAGE_OPS];
};

struct stage_book {
    struct list link;
    char protocol[8];
    char object[256]; /* export name or IQN */
    char lun[8];      /* "" where there are none */
    struct stage_counters *per[REACTOR_MAX];
};

/* Main. A book must be removed before its memory goes; no request may use it then. */
void stages_add(struct stage_book *b, const char *protocol, const char *object, const char *lun);
void stages_hide(struct stage_book *b); /* it is listed no more, and counts until it is removed */
void stages_remove(struct stage_book *b);
void stages_for_each(void (*fn)(const struct stage_book *b, void *arg), void *arg);
void stages_sum(const struct stage_book *b, struct stage_counters *sum_r);

/* One request that is over, on its reactor. */
struct stage_request {
    const struct io_times *times;
    uint64_t sent; /* ns */
    enum bio_op op;
    uint64_t offset, length; /* bytes */
    bool failed;
    const char *client; /* for the log */
};
/* A request that never reached its device (submitted == 0) is not counted. One slower than the
 * threshold is logged with its stages, at most one line a second. */
void stages_count(struct stage_book *b, const struct stage_request *q);

void stages_slow_ms(unsigned ms); /* any thread; 0: never */
uint64_t stages_slow_total(void); /* requests over the threshold, logged or not */
const char *io_stage_name(enum io_stage s);
const char *stage_op_name(enum stage_op op);

#endif
