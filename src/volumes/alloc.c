/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "volumes/alloc.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/size.h"

/* The free runs of the usable PVs, by PV and extent. */
static struct lvm_piece *free_runs(const struct lvm_vg *vg, const bool *usable, unsigned *n_r)
{
    unsigned used_count, n = 0, u = 0;
    autofree struct lvm_piece *used = lvm_vg_used(vg, &used_count);
    struct lvm_piece *run = xcalloc(used_count + vg->pv_count, sizeof *run);
    for (unsigned pv = 0; pv < vg->pv_count; pv++) {
        uint32_t at = 0;
        for (; u < used_count && used[u].pv == pv; u++) {
            if (used[u].pe > at && usable[pv])
                run[n++] = (struct lvm_piece){pv, at, used[u].pe - at};
            at = used[u].pe + used[u].len;
        }
        if (vg->pv[pv].pe_count > at && usable[pv])
            run[n++] = (struct lvm_piece){pv, at, vg->pv[pv].pe_count - at};
    }
    *n_r = n;
    return run;
}

static int by_length(const void *a, const void *b)
{
    const struct lvm_piece *x = a, *y = b;
    if (x->len != y->len)
        return x->len < y->len ? 1 : -1;
    if (x->pv != y->pv)
        return x->pv < y->pv ? -1 : 1;
    return x->pe < y->pe ? -1 : 1;
}

static struct lvm_piece *run_behind(struct lvm_piece *run, unsigned n,
                                    const struct lvm_piece *after)
{
    for (unsigned i = 0; after && i < n; i++)
        if (run[i].pv == after->pv && run[i].pe == after->pe + after->len)
            return &run[i];
    return NULL;
}

static struct lvm_piece *one_piece(const struct lvm_piece *run, uint32_t count, unsigned *n_r)
{
    struct lvm_piece *p = xcalloc(1, sizeof *p);
    *p = (struct lvm_piece){run->pv, run->pe, count};
    *n_r = 1;
    return p;
}

struct lvm_piece *alloc_extents(const struct lvm_vg *vg, const bool *usable, uint32_t count,
                                const struct lvm_piece *after, unsigned *n_r, struct err *e)
{
    assert(count);
    unsigned n, taken = 0;
    uint64_t total = 0;
    autofree struct lvm_piece *run = free_runs(vg, usable, &n);
    for (unsigned i = 0; i < n; i++)
        total += run[i].len;
    if (total < count) {
        char want[16], have[16];
        uint64_t extent = (uint64_t)vg->extent_size * LVM_SECTOR;
        err_set(e, ERR_NO_SPACE, "size", "pool %s has %s free (%llu extents), %s are needed (%u)",
                vg->name, size_format(total * extent, have), (unsigned long long)total,
                size_format(count * extent, want), count);
        return NULL;
    }
    struct lvm_piece *behind = run_behind(run, n, after);
    if (behind && behind->len >= count)
        return one_piece(behind, count, n_r);
    for (unsigned i = 0; i < n; i++)
        if (run[i].len >= count)
            return one_piece(&run[i], count, n_r);

    struct lvm_piece *out = xcalloc(n, sizeof *out);
    if (behind) {
        out[taken++] = *behind;
        count -= behind->len;
        behind->len = 0;
    }
    qsort(run, n, sizeof *run, by_length);
    for (unsigned i = 0; count; i++) {
        out[taken] = run[i];
        if (out[taken].len > count)
            out[taken].len = count;
        count -= out[taken++].len;
    }
    *n_r = taken;
    return out;
}

uint32_t alloc_free(const struct lvm_vg *vg, unsigned pv)
{
    uint32_t left = vg->pv[pv].pe_count;
    for (unsigned i = 0; i < vg->lv_count; i++) {
        for (unsigned s = 0; s < vg->lv[i].seg_count; s++) {
            const struct lvm_seg *seg = &vg->lv[i].seg[s];
            for (unsigned k = 0; k < seg->piece_count; k++)
                left -= seg->piece[k].pv == pv ? seg->piece[k].len : 0;
        }
    }
    return left;
}
