/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "volumes/lvm_text_private.h"

#define VG(f) offsetof(struct lvm_vg, f)
#define PV(f) offsetof(struct lvm_pv, f)
#define LV(f) offsetof(struct lvm_lv, f)

const struct lvm_field lvm_vg_fields[] = {
    {"id", LVM_F_ID, true, true, VG(id)},
    {"seqno", LVM_F_U32, true, true, VG(seqno)},
    {"status", LVM_F_STRS, true, true, VG(status)},
    {"flags", LVM_F_STRS, false, true, VG(flags)},
    {"tags", LVM_F_STRS, false, false, VG(tags)},
    {"system_id", LVM_F_STR, false, false, VG(system_id)},
    {"extent_size", LVM_F_U32, true, true, VG(extent_size)},
    {"max_lv", LVM_F_U32, false, true, VG(max_lv)},
    {"max_pv", LVM_F_U32, false, true, VG(max_pv)},
    {"metadata_copies", LVM_F_U32, false, true, VG(metadata_copies)},
    {0},
};

const struct lvm_field lvm_pv_fields[] = {
    {"id", LVM_F_ID, true, true, PV(id)},
    {"device", LVM_F_STR, false, false, PV(device)},
    {"status", LVM_F_STRS, true, true, PV(status)},
    {"flags", LVM_F_STRS, false, true, PV(flags)},
    {"tags", LVM_F_STRS, false, false, PV(tags)},
    {"dev_size", LVM_F_U64, false, false, PV(dev_size)},
    {"pe_start", LVM_F_U64, true, true, PV(pe_start)},
    {"pe_count", LVM_F_U32, true, true, PV(pe_count)},
    {0},
};

const struct lvm_field lvm_lv_fields[] = {
    {"id", LVM_F_ID, true, true, LV(id)},
    {"status", LVM_F_STRS, true, true, LV(status)},
    {"flags", LVM_F_STRS, false, true, LV(flags)},
    {"tags", LVM_F_STRS, false, false, LV(tags)},
    {"creation_time", LVM_F_U64, false, false, LV(creation_time)},
    {"creation_host", LVM_F_STR, false, false, LV(creation_host)},
    {0},
};

/* ---- lists of strings */
bool lvm_strs_has(const struct lvm_strs *s, const char *v)
{
    for (unsigned i = 0; i < s->n; i++)
        if (!strcmp(s->v[i], v))
            return true;
    return false;
}

void lvm_strs_add(struct lvm_strs *s, const char *v)
{
    if (lvm_strs_has(s, v))
        return;
    s->v = xrealloc(s->v, (s->n + 1) * sizeof *s->v);
    s->v[s->n++] = xstrdup(v);
}

void lvm_strs_del(struct lvm_strs *s, const char *v)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < s->n; i++) {
        if (strcmp(s->v[i], v))
            s->v[kept++] = s->v[i];
        else
            free(s->v[i]);
    }
    s->n = kept;
}

void lvm_strs_free(struct lvm_strs *s)
{
    for (unsigned i = 0; i < s->n; i++)
        free(s->v[i]);
    free(s->v);
    *s = (struct lvm_strs){0};
}

/* ---- the group */
static void pv_clear(struct lvm_pv *pv)
{
    free(pv->key);
    free(pv->device);
    free(pv->extra);
    lvm_strs_free(&pv->status);
    lvm_strs_free(&pv->flags);
    lvm_strs_free(&pv->tags);
}

static void seg_clear(struct lvm_seg *seg)
{
    free(seg->type);
    free(seg->piece);
    free(seg->extra);
}

void lvm_lv_clear(struct lvm_lv *lv)
{
    for (unsigned i = 0; i < lv->seg_count; i++)
        seg_clear(&lv->seg[i]);
    free(lv->seg);
    free(lv->name);
    free(lv->creation_host);
    free(lv->extra);
    lvm_strs_free(&lv->status);
    lvm_strs_free(&lv->flags);
    lvm_strs_free(&lv->tags);
}

void lvm_vg_free(struct lvm_vg **pvg)
{
    struct lvm_vg *vg = *pvg;
    *pvg = NULL;
    if (!vg)
        return;
    for (unsigned i = 0; i < vg->pv_count; i++)
        pv_clear(&vg->pv[i]);
    for (unsigned i = 0; i < vg->lv_count; i++)
        lvm_lv_clear(&vg->lv[i]);
    lvm_strs_free(&vg->status);
    lvm_strs_free(&vg->flags);
    lvm_strs_free(&vg->tags);
    free(vg->pv);
    free(vg->lv);
    free(vg->name);
    free(vg->system_id);
    free(vg->extra);
    free(vg->creation_host);
    free(vg);
}

static struct lvm_strs strs_copy(const struct lvm_strs *s)
{
    struct lvm_strs c = {.v = xcalloc(s->n, sizeof *c.v), .n = s->n};
    for (unsigned i = 0; i < s->n; i++)
        c.v[i] = xstrdup(s->v[i]);
    return c;
}

static void *array_copy(const void *p, size_t n, size_t size)
{
    void *c = xcalloc(n, size);
    if (n)
        memcpy(c, p, n * size);
    return c;
}

static void pv_copy(struct lvm_pv *pv)
{
    pv->key = xstrdup(pv->key);
    pv->device = xstrdup(pv->device);
    pv->extra = xstrdup(pv->extra);
    pv->status = strs_copy(&pv->status);
    pv->flags = strs_copy(&pv->flags);
    pv->tags = strs_copy(&pv->tags);
}

static void lv_copy(struct lvm_lv *lv)
{
    lv->name = xstrdup(lv->name);
    lv->creation_host = xstrdup(lv->creation_host);
    lv->extra = xstrdup(lv->extra);
    lv->status = strs_copy(&lv->status);
    lv->flags = strs_copy(&lv->flags);
    lv->tags = strs_copy(&lv->tags);
    lv->seg = array_copy(lv->seg, lv->seg_count, sizeof *lv->seg);
    for (unsigned i = 0; i < lv->seg_count; i++) {
        struct lvm_seg *seg = &lv->seg[i];
        seg->type = xstrdup(seg->type);
        seg->piece = array_copy(seg->piece, seg->piece_count, sizeof *seg->piece);
        seg->extra = xstrdup(seg->extra);
    }
}

/* Copies the struct, then replaces each pointer in the copy by a copy of what it points to. */
struct lvm_vg *lvm_vg_clone(const struct lvm_vg *vg)
{
    struct lvm_vg *c = xcalloc(1, sizeof *c);
    *c = *vg;
    c->name = xstrdup(vg->name);
    c->system_id = xstrdup(vg->system_id);
    c->extra = xstrdup(vg->extra);
    c->creation_host = xstrdup(vg->creation_host);
    c->status = strs_copy(&vg->status);
    c->flags = strs_copy(&vg->flags);
    c->tags = strs_copy(&vg->tags);
    c->pv = array_copy(vg->pv, vg->pv_count, sizeof *vg->pv);
    c->lv = array_copy(vg->lv, vg->lv_count, sizeof *vg->lv);
    for (unsigned i = 0; i < c->pv_count; i++)
        pv_copy(&c->pv[i]);
    for (unsigned i = 0; i < c->lv_count; i++)
        lv_copy(&c->lv[i]);
    return c;
}

void lvm_vg_note(struct lvm_vg *vg, const char *fmt, ...)
{
    if (*vg->read_only_why)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(vg->read_only_why, sizeof vg->read_only_why, fmt, ap);
    va_end(ap);
}

struct lvm_lv *lvm_vg_lv(const struct lvm_vg *vg, const char *name)
{
    for (unsigned i = 0; i < vg->lv_count; i++)
        if (!strcmp(vg->lv[i].name, name))
            return &vg->lv[i];
    return NULL;
}

static bool key_taken(const struct lvm_vg *vg, const char *key)
{
    for (unsigned i = 0; i < vg->pv_count; i++)
        if (vg->pv[i].key && !strcmp(vg->pv[i].key, key))
            return true;
    return lvm_vg_lv(vg, key);
}

struct lvm_pv *lvm_vg_add_pv(struct lvm_vg *vg, const char *id)
{
    char key[16];
    unsigned k = 0;
    do
        snprintf(key, sizeof key, "pv%u", k++);
    while (key_taken(vg, key));
    vg->pv = xrealloc(vg->pv, (vg->pv_count + 1) * sizeof *vg->pv);
    struct lvm_pv *pv = &vg->pv[vg->pv_count++];
    *pv = (struct lvm_pv){.key = xstrdup(key), .extra = xstrdup("")};
    snprintf(pv->id, sizeof pv->id, "%s", id);
    return pv;
}

struct lvm_lv *lvm_vg_add_lv(struct lvm_vg *vg, const char *name)
{
    vg->lv = xrealloc(vg->lv, (vg->lv_count + 1) * sizeof *vg->lv);
    struct lvm_lv *lv = &vg->lv[vg->lv_count++];
    *lv = (struct lvm_lv){.name = xstrdup(name), .extra = xstrdup("")};
    return lv;
}

void lvm_vg_del_lv(struct lvm_vg *vg, struct lvm_lv *lv)
{
    unsigned i = (unsigned)(lv - vg->lv);
    assert(i < vg->lv_count);
    lvm_lv_clear(lv);
    memmove(lv, lv + 1, (vg->lv_count - i - 1) * sizeof *lv);
    vg->lv_count--;
}

void lvm_lv_append(struct lvm_lv *lv, const struct lvm_piece *piece)
{
    struct lvm_seg *last = lv->seg_count ? &lv->seg[lv->seg_count - 1] : NULL;
    lv->extents += piece->len;
    if (last && last->plain && last->piece_count == 1 && last->piece->pv == piece->pv &&
        last->piece->pe + last->piece->len == piece->pe && !*last->extra) {
        last->count += piece->len;
        last->piece->len += piece->len;
        return;
    }
    lv->seg = xrealloc(lv->seg, (lv->seg_count + 1) * sizeof *lv->seg);
    struct lvm_seg *seg = &lv->seg[lv->seg_count++];
    *seg = (struct lvm_seg){.start = lv->extents - piece->len,
                            .count = piece->len,
                            .type = xstrdup("striped"),
                            .plain = true,
                            .piece = xcalloc(1, sizeof *piece),
                            .piece_count = 1,
                            .extra = xstrdup("")};
    *seg->piece = *piece;
}

bool lvm_lv_cut(struct lvm_lv *lv, uint32_t extents)
{
    assert(extents && extents <= lv->extents);
    for (unsigned i = 0; i < lv->seg_count; i++) {
        struct lvm_seg *seg = &lv->seg[i];
        if (seg->start + seg->count > extents &&
            (!seg->plain || (seg->start < extents && (extents - seg->start) % seg->piece_count)))
            return false;
    }
    while (lv->seg[lv->seg_count - 1].start >= extents)
        seg_clear(&lv->seg[--lv->seg_count]);
    struct lvm_seg *last = &lv->seg[lv->seg_count - 1];
    last->count = extents - last->start;
    for (unsigned i = 0; i < last->piece_count; i++)
        last->piece[i].len = last->count / last->piece_count;
    lv->extents = extents;
    return true;
}

bool lvm_lv_visible(const struct lvm_lv *lv)
{
    return lv->cow ||
           (lvm_strs_has(&lv->status, "VISIBLE") && strcmp(lv->seg[0].type, "snapshot") != 0);
}

bool lvm_lv_name_ok(const char *name, const char **why_r)
{
    /* lvm2's lib/misc/lvm-string.c: words that mark LVM's own hidden volumes. */
    static const char *const prefix[] = {"pvmove", "snapshot"};
    static const char *const inside[] = {
        "_cdata",   "_cmeta",  "_corig", "_cvol",  "_imeta", "_iorig", "_mimage",  "_mlog",
        "_pmspare", "_rimage", "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig"};
    *why_r = "LVM keeps names with this word for its own hidden volumes";
    for (unsigned i = 0; i < sizeof prefix / sizeof *prefix; i++)
        if (!strncmp(name, prefix[i], strlen(prefix[i])))
            return false;
    for (unsigned i = 0; i < sizeof inside / sizeof *inside; i++)
        if (strstr(name, inside[i]))
            return false;
    *why_r = "a name has letters, digits, '.', '_', '+' and '-', and does not begin with '-'";
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-");
    return n && n <= LVM_NAME_MAX && !name[n] && *name != '-' && strcmp(name, ".") &&
           strcmp(name, "..");
}

/* ---- the space in use */
static int by_place(const void *a, const void *b)
{
    const struct lvm_piece *x = a, *y = b;
    if (x->pv != y->pv)
        return x->pv < y->pv ? -1 : 1;
    return x->pe < y->pe ? -1 : x->pe > y->pe;
}

struct lvm_piece *lvm_vg_used(const struct lvm_vg *vg, unsigned *n_r)
{
    unsigned n = 0;
    for (unsigned i = 0; i < vg->lv_count; i++)
        for (unsigned s = 0; s < vg->lv[i].seg_count; s++)
            n += vg->lv[i].seg[s].piece_count;
    struct lvm_piece *all = xcalloc(n, sizeof *all);
    unsigned at = 0;
    for (unsigned i = 0; i < vg->lv_count; i++) {
        for (unsigned s = 0; s < vg->lv[i].seg_count; s++) {
            const struct lvm_seg *seg = &vg->lv[i].seg[s];
            if (seg->piece_count)
                memcpy(all + at, seg->piece, seg->piece_count * sizeof *all);
            at += seg->piece_count;
        }
    }
    qsort(all, n, sizeof *all, by_place);
    *n_r = n;
    return all;
}

static int by_start(const void *a, const void *b)
{
    const struct lvm_seg *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

static int check_segments(struct lvm_lv *lv, struct err *e)
{
    qsort(lv->seg, lv->seg_count, sizeof *lv->seg, by_start);
    lv->extents = 0;
    for (unsigned i = 0; i < lv->seg_count; i++) {
        if (lv->seg[i].start != lv->extents)
            return err_set(e, ERR_INVALID, "",
                           "volume %s: its segments leave a gap or overlap at "
                           "extent %u",
                           lv->name, lv->extents);
        if (__builtin_add_overflow(lv->extents, lv->seg[i].count, &lv->extents))
            return err_set(e, ERR_INVALID, "", "volume %s: it has too many extents", lv->name);
    }
    return 0;
}

static int check_space(const struct lvm_vg *vg, struct err *e)
{
    unsigned n;
    autofree struct lvm_piece *used = lvm_vg_used(vg, &n);
    for (unsigned i = 0; i < n; i++) {
        const struct lvm_pv *pv = &vg->pv[used[i].pv];
        if (used[i].pe > pv->pe_count || used[i].len > pv->pe_count - used[i].pe)
            return err_set(e, ERR_INVALID, "", "a volume uses extent %u of %s, which has %u",
                           used[i].pe + used[i].len - 1, pv->key, pv->pe_count);
        if (i && used[i - 1].pv == used[i].pv && used[i - 1].pe + used[i - 1].len > used[i].pe)
            return err_set(e, ERR_INVALID, "", "extent %u of %s is in use twice", used[i].pe,
                           pv->key);
    }
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct lvm_lv *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static void mark(struct lvm_lv **sorted, unsigned n, const struct lvm_strs *names, bool cow)
{
    for (unsigned i = 0; i < names->n; i++) {
        struct lvm_lv probe = {.name = names->v[i]}, *key = &probe;
        struct lvm_lv **hit = bsearch(&key, sorted, n, sizeof *sorted, by_name);
        if (hit && cow)
            (*hit)->cow = true;
        else if (hit)
            (*hit)->referenced = true;
    }
}

static int check_names(struct lvm_vg *vg, const struct lvm_strs *names, const struct lvm_strs *cows,
                       struct err *e)
{
    autofree struct lvm_lv **sorted = xcalloc(vg->lv_count, sizeof *sorted);
    for (unsigned i = 0; i < vg->lv_count; i++)
        sorted[i] = &vg->lv[i];
    qsort(sorted, vg->lv_count, sizeof *sorted, by_name);
    for (unsigned i = 1; i < vg->lv_count; i++)
        if (!strcmp(sorted[i - 1]->name, sorted[i]->name))
            return err_set(e, ERR_INVALID, "", "volume %s is there twice", sorted[i]->name);
    mark(sorted, vg->lv_count, names, false);
    mark(sorted, vg->lv_count, cows, true);
    return 0;
}

int lvm_vg_check(struct lvm_vg *vg, const struct lvm_strs *names, const struct lvm_strs *cows,
                 struct err *e)
{
    for (unsigned i = 0; i < vg->lv_count; i++)
        if (check_segments(&vg->lv[i], e))
            return -1;
    return check_names(vg, names, cows, e) ? -1 : check_space(vg, e);
}

int lvm_vg_check_whole(const struct lvm_vg *vg, struct err *e)
{
    struct lvm_vg same = *vg; /* nobody is marked: there are no names */
    struct lvm_strs none = {0};
    return check_names(&same, &none, &none, e) ? -1 : check_space(vg, e);
}
