/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <libdevmapper.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "volumes/lvm_text_private.h"

enum { STRINGS_MAX = 4 * LVM_LVS_MAX };
enum { DEPTH_MAX = 8 }; /* LVM nests five deep; libdevmapper's parser recurses, on a small stack */

/*
 * What libdevmapper's parser gets was checked first: a lexical subset in which it and this scanner
 * cannot disagree about where strings, comments and sections begin. So nesting is bounded, no key
 * has a '/' (which would nest without braces), and no string is open at the end. All that LVM
 * writes is within the subset.
 */
struct scan {
    const char *p, *end;
    unsigned depth;
    bool after_string;
    struct err *e;
    const char *begin;
};

static int scan_fail(const struct scan *s, const char *what)
{
    unsigned line = 1;
    for (const char *q = s->begin; q < s->p; q++)
        line += *q == '\n';
    return err_set(s->e, ERR_INVALID, "", "metadata text, line %u: %s", line, what);
}

static int scan_string(struct scan *s)
{
    for (s->p++; s->p < s->end && *s->p != '"'; s->p++)
        if (*s->p == '\\' && ++s->p == s->end)
            break;
    if (s->p >= s->end)
        return scan_fail(s, "a string does not end");
    s->p++;
    return 0;
}

static int scan_word(struct scan *s)
{
    bool number = isdigit((unsigned char)*s->p) || *s->p == '-' || *s->p == '+' || *s->p == '.';
    const char *from = s->p;
    while (s->p < s->end && (isalnum((unsigned char)*s->p) || strchr("_.+-", *s->p)))
        s->p++;
    if (s->p == from)
        return scan_fail(s, "a character that is not part of the format");
    if (s->p < s->end && !isspace((unsigned char)*s->p) &&
        !strchr(number ? "#={},]" : "#={}", *s->p))
        return scan_fail(s, "a word runs into something else");
    return 0;
}

static int scan_token(struct scan *s)
{
    char c = *s->p;
    bool after_string = s->after_string;
    s->after_string = false;
    switch (c) {
    case '"': s->after_string = true; return scan_string(s);
    case '{':
        if (after_string)
            return scan_fail(s, "a section with a quoted name");
        if (++s->depth > DEPTH_MAX)
            return scan_fail(s, "sections are nested too deeply");
        break;
    case '}':
        if (!s->depth--)
            return scan_fail(s, "a } without its {");
        break;
    case '=':
        if (after_string)
            return scan_fail(s, "a value with a quoted name");
        break;
    case '[':
    case ']':
    case ',': break;
    default: return scan_word(s);
    }
    s->p++;
    return 0;
}

static int scan_text(const char *text, size_t len, struct err *e)
{
    struct scan s = {.p = text, .end = text + len, .e = e, .begin = text};
    while (s.p < s.end) {
        if (isspace((unsigned char)*s.p)) {
            s.p++;
        } else if (*s.p == '#') {
            while (s.p < s.end && *s.p != '\n')
                s.p++;
        } else if (scan_token(&s)) {
            return -1;
        }
    }
    return s.depth ? scan_fail(&s, "a section does not end") : 0;
}

/* libdevmapper prints to stderr unless it is told where to. The parser runs on one thread at a
 * time: pools hold their lock around it. */
static char dm_message[200];

__attribute__((format(printf, 5, 6))) static void dm_note(int level, const char *file, int line,
                                                          int error, const char *fmt, ...)
{
    (void)file;
    (void)line;
    (void)error;
    va_list ap;
    va_start(ap, fmt);
    if ((level & 7) <= 4) /* LOG_WARNING and worse */
        vsnprintf(dm_message, sizeof dm_message, fmt, ap);
    va_end(ap);
}

static struct dm_config_tree *parse_tree(const char *text, size_t len, struct err *e)
{
    if (len > LVM_TEXT_MAX) {
        err_set(e, ERR_INVALID, "", "metadata text: %zu bytes, the limit is %d", len, LVM_TEXT_MAX);
        return NULL;
    }
    while (len && !text[len - 1])
        len--;
    if (memchr(text, 0, len)) {
        err_set(e, ERR_INVALID, "", "metadata text: there is a NUL within");
        return NULL;
    }
    if (scan_text(text, len, e))
        return NULL;
    autofree char *copy = xcalloc(len + 1, 1); /* its numbers are read by strtoll: needs a NUL */
    memcpy(copy, text, len);
    dm_log_with_errno_init(dm_note);
    dm_message[0] = 0;
    struct dm_config_tree *t = dm_config_create();
    if (!t)
        abort(); /* out of memory */
    if (dm_config_parse_without_dup_node_check(t, copy, copy + len) && t->root)
        return t;
    err_set(e, ERR_INVALID, "", "metadata text: %s", *dm_message ? dm_message : "it is empty");
    dm_config_destroy(t);
    return NULL;
}

/* ---- values */
static int bad(struct err *e, const struct dm_config_node *section, const char *key,
               const char *expected)
{
    return err_set(e, ERR_INVALID, "", "metadata text, section %.80s: %s must be %s", section->key,
                   key, expected);
}

static const struct dm_config_node *child(const struct dm_config_node *section, const char *key)
{
    const struct dm_config_node *n = section->child;
    while (n && strcmp(n->key, key))
        n = n->sib;
    return n;
}

static int read_strs(const struct dm_config_value *v, struct lvm_strs *out)
{
    for (; v && v->type != DM_CFG_EMPTY_ARRAY; v = v->next) {
        if (v->type != DM_CFG_STRING || out->n == 1000)
            return -1;
        lvm_strs_add(out, v->v.str);
    }
    return 0;
}

static bool get_uint(const struct dm_config_value *v, uint64_t max, uint64_t *out)
{
    if (!v || v->type != DM_CFG_INT || v->next || v->v.i < 0 || (uint64_t)v->v.i > max)
        return false;
    *out = (uint64_t)v->v.i;
    return true;
}

static int read_field(const struct dm_config_node *section, const struct dm_config_node *n,
                      const struct lvm_field *d, char *base, struct err *e)
{
    char *at = base + d->offset;
    bool string = n->v && n->v->type == DM_CFG_STRING && !n->v->next;
    uint64_t u;
    switch (d->kind) {
    case LVM_F_ID:
        if (!string || !lvm_id_parse(n->v->v.str, at))
            return bad(e, section, d->key, "an id of LVM's form");
        return 0;
    case LVM_F_STR:
        if (!string || *(char **)(void *)at)
            return bad(e, section, d->key, "one string");
        *(char **)(void *)at = xstrdup(n->v->v.str);
        return 0;
    case LVM_F_STRS:
        if (!n->v || read_strs(n->v, (void *)at))
            return bad(e, section, d->key, "a list of strings");
        return 0;
    case LVM_F_U32:
        if (!get_uint(n->v, UINT32_MAX, &u))
            return bad(e, section, d->key, "a number of 32 bits");
        *(uint32_t *)(void *)at = (uint32_t)u;
        return 0;
    case LVM_F_U64:
        if (!get_uint(n->v, INT64_MAX, &u))
            return bad(e, section, d->key, "a number");
        *(uint64_t *)(void *)at = u;
        return 0;
    }
    return 0;
}

/* ---- what we only carry */
static int put_line(const char *line, void *f)
{
    fprintf(f, "%s\n", line);
    return 1;
}

static bool exact(const struct dm_config_node *n) /* nothing in it changes by being rewritten */
{
    for (const struct dm_config_value *v = n->v; v; v = v->next)
        if (v->type == DM_CFG_FLOAT)
            return false;
    for (const struct dm_config_node *c = n->child; c; c = c->sib)
        if (!exact(c))
            return false;
    return n->v || n->child;
}

struct parse {
    struct lvm_vg *vg;
    struct lvm_strs names; /* strings in segments that are not plain */
    struct lvm_strs cows;  /* stores of snapshots */
    unsigned segs, strings;
    struct err *e;
};

static void keep(struct parse *p, FILE *f, const struct dm_config_node *n)
{
    if (!exact(n))
        lvm_vg_note(p->vg, "its metadata has something at \"%.60s\" that cannot be written back",
                    n->key);
    dm_config_write_one_node(n, put_line, f);
}

/* Reads the known values of a section into `base`, and gives the others to `rest` (true: it took
 * it; NULL: none), then to the text of what we carry. */
static int read_section(struct parse *p, const struct dm_config_node *section,
                        const struct lvm_field *fields, void *base, char **extra_r,
                        int (*rest)(struct parse *p, const struct dm_config_node *n, void *base))
{
    size_t size;
    FILE *f = open_memstream(extra_r, &size);
    int result = 0;
    uint32_t seen = 0;
    for (const struct dm_config_node *n = section->child; n && !result; n = n->sib) {
        const struct lvm_field *d = fields;
        while (d->key && strcmp(d->key, n->key))
            d++;
        uint32_t bit = 1u << (d - fields);
        if (d->key && !(seen & bit)) {
            seen |= bit;
            result = read_field(section, n, d, base, p->e);
        } else if (d->key) {
            result = bad(p->e, section, d->key, "there only once");
        } else {
            int took = rest ? rest(p, n, base) : 0;
            if (took < 0)
                result = -1;
            else if (!took)
                keep(p, f, n);
        }
    }
    fclose(f);
    for (const struct lvm_field *d = fields; d->key && !result; d++)
        if (d->required && !(seen & 1u << (d - fields)))
            result = bad(p->e, section, d->key, "there");
    return result;
}

/* ---- PVs */
static int pv_index(const struct lvm_vg *vg, const char *key)
{
    for (unsigned i = 0; i < vg->pv_count; i++)
        if (!strcmp(vg->pv[i].key, key))
            return (int)i;
    return -1;
}

static int read_pv(struct parse *p, const struct dm_config_node *n)
{
    struct lvm_vg *vg = p->vg;
    if (vg->pv_count == LVM_PVS_MAX || pv_index(vg, n->key) >= 0)
        return bad(p->e, n, "its name", "there once, and PVs not more than 1024");
    vg->pv = xrealloc(vg->pv, (vg->pv_count + 1) * sizeof *vg->pv);
    struct lvm_pv *pv = &vg->pv[vg->pv_count++];
    *pv = (struct lvm_pv){.key = xstrdup(n->key)};
    if (read_section(p, n, lvm_pv_fields, pv, &pv->extra, NULL))
        return -1;
    for (unsigned i = 0; i + 1 < vg->pv_count; i++)
        if (!strcmp(vg->pv[i].id, pv->id))
            return bad(p->e, n, "id", "unlike that of other PVs");
    uint64_t end;
    if (__builtin_mul_overflow((uint64_t)pv->pe_count, vg->extent_size, &end) ||
        __builtin_add_overflow(end, pv->pe_start, &end) || end > INT64_MAX / LVM_SECTOR)
        return bad(p->e, n, "pe_count", "in the range of 63-bit sizes");
    for (unsigned i = 0; i < pv->status.n; i++)
        if (strcmp(pv->status.v[i], "ALLOCATABLE"))
            lvm_vg_note(vg, "PV %.20s has status %.40s", pv->key, pv->status.v[i]);
    if (lvm_strs_has(&pv->flags, "MISSING"))
        lvm_vg_note(vg, "PV %.20s was marked missing (vgextend --restoremissing clears it)",
                    pv->key);
    return 0;
}

/* ---- segments */
static bool type_known(const char *type)
{
    static const char *const known[] = {"striped", "linear",     "snapshot", "mirror",     "thin",
                                        "error",   "thin-pool",  "cache",    "cache-pool", "zero",
                                        "vdo",     "writecache", "vdo-pool", "integrity"};
    static const char *const marks[] = {"METADATA_FORMAT", "CROP_METADATA", "CACHE_USES_CACHEVOL"};
    size_t len = strcspn(type, "+");
    bool ok = !strncmp(type, "raid", 4);
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        ok |= strlen(known[i]) == len && !strncmp(type, known[i], len);
    if (!type[len])
        return ok;
    bool mark = false;
    for (unsigned i = 0; i < sizeof marks / sizeof *marks; i++)
        mark |= !strcmp(type + len + 1, marks[i]);
    return ok && mark;
}

static void add_piece(struct lvm_seg *seg, unsigned pv, uint32_t pe, uint32_t len)
{
    seg->piece = xrealloc(seg->piece, (seg->piece_count + 1) * sizeof *seg->piece);
    seg->piece[seg->piece_count++] = (struct lvm_piece){pv, pe, len};
}

/* Unlike lvm_strs_add, which looks for duplicates: that would cost n * n. */
static void append(struct lvm_strs *s, const char *v)
{
    s->v = xrealloc(s->v, (s->n + 1) * sizeof *s->v);
    s->v[s->n++] = xstrdup(v);
}

/* The PVs and volumes that a segment names, in whatever list: ("pv0", 17) is space of a PV. */
static int find_pieces(struct parse *p, const struct dm_config_node *n, struct lvm_seg *seg,
                       uint32_t len)
{
    for (const struct dm_config_value *v = n->v; v; v = v->next) {
        if (v->type != DM_CFG_STRING)
            continue;
        if (++p->strings > STRINGS_MAX)
            return bad(p->e, n, "the number of names in segments", "at most 262144");
        int pv = pv_index(p->vg, v->v.str);
        uint64_t pe;
        if (pv < 0) {
            append(&p->names, v->v.str);
            if (!strcmp(n->key, "cow_store") && !strcmp(seg->type, "snapshot"))
                append(&p->cows, v->v.str);
            continue;
        }
        struct dm_config_value one = v->next ? *v->next : (struct dm_config_value){0};
        one.next = NULL;
        if (!v->next || !get_uint(&one, UINT32_MAX, &pe))
            return bad(p->e, n, "a PV", "followed by the number of an extent");
        add_piece(seg, (unsigned)pv, (uint32_t)pe, len);
    }
    for (const struct dm_config_node *c = n->child; c; c = c->sib)
        if (find_pieces(p, c, seg, len))
            return -1;
    return 0;
}

static int read_seg(struct parse *p, const struct dm_config_node *n, struct lvm_lv *lv)
{
    const struct dm_config_node *type = child(n, "type"), *stripes = child(n, "stripes"),
                                *start = child(n, "start_extent"),
                                *count = child(n, "extent_count"),
                                *width = child(n, "stripe_count"), *size = child(n, "stripe_size");
    uint64_t s, c, w = 1, z = 0;
    if (!type || !type->v || type->v->type != DM_CFG_STRING || !start || !count ||
        !get_uint(start->v, UINT32_MAX, &s) || !get_uint(count->v, UINT32_MAX, &c) || !c)
        return bad(p->e, n, "type, start_extent and extent_count", "there and in range");
    if (++p->segs > LVM_LVS_MAX)
        return bad(p->e, n, "the number of segments", "at most 65536");
    lv->seg = xrealloc(lv->seg, (lv->seg_count + 1) * sizeof *lv->seg);
    struct lvm_seg *seg = &lv->seg[lv->seg_count++];
    *seg = (struct lvm_seg){
        .start = (uint32_t)s, .count = (uint32_t)c, .type = xstrdup(type->v->v.str)};
    bool striped = !strcmp(seg->type, "striped");
    if (!type_known(seg->type))
        lvm_vg_note(p->vg, "volume %.40s has a segment of type \"%.40s\", which is not known",
                    lv->name, seg->type);
    if (striped && (!width || !get_uint(width->v, 1024, &w) || !w || c % w || !stripes ||
                    (size && !get_uint(size->v, UINT32_MAX, &z)) || (w > 1 && !z)))
        return bad(p->e, n, "stripe_count, stripe_size and stripes", "there and in range");
    unsigned before = p->names.n;
    size_t len;
    FILE *f = open_memstream(&seg->extra, &len);
    int result = 0;
    for (const struct dm_config_node *x = n->child; x && !result; x = x->sib)
        if (x != type && strcmp(x->key, "tags"))
            result = find_pieces(p, x, seg, (uint32_t)(c / w));
    seg->plain = striped && p->names.n == before && seg->piece_count == w;
    if (!result && striped && !seg->plain && p->names.n == before)
        result = bad(p->e, n, "stripes", "as many as stripe_count says");
    seg->stripe_size = w > 1 ? (uint32_t)z : 0;
    for (const struct dm_config_node *x = n->child; x && !result; x = x->sib)
        if (x != type && x != start && x != count &&
            !(seg->plain && (x == width || x == size || x == stripes)))
            keep(p, f, x);
    fclose(f);
    return result;
}

/* ---- LVs */
static int lv_rest(struct parse *p, const struct dm_config_node *n, void *base)
{
    struct lvm_lv *lv = base;
    if (!strcmp(n->key, "segment_count"))
        return 1; /* compared when all are read */
    if (n->v || strncmp(n->key, "segment", 7))
        return 0;
    return read_seg(p, n, lv) ? -1 : 1;
}

static int read_lv(struct parse *p, const struct dm_config_node *n)
{
    static const char *const known[] = {"READ",      "WRITE",   "VISIBLE",    "FIXED_MINOR",
                                        "NOTSYNCED", "REBUILD", "WRITEMOSTLY"};
    struct lvm_vg *vg = p->vg;
    if (vg->lv_count == LVM_LVS_MAX || strlen(n->key) > LVM_NAME_MAX)
        return bad(p->e, n, "its name", "at most 127 long, and volumes not more than 65536");
    struct lvm_lv *lv = &vg->lv[vg->lv_count++];
    *lv = (struct lvm_lv){.name = xstrdup(n->key)};
    if (read_section(p, n, lvm_lv_fields, lv, &lv->extra, lv_rest))
        return -1;
    const struct dm_config_node *count = child(n, "segment_count");
    uint64_t c;
    if (!count || !get_uint(count->v, UINT32_MAX, &c) || c != lv->seg_count || !c)
        return bad(p->e, n, "segment_count", "the number of its segments");
    for (unsigned i = 0; i < lv->status.n; i++) {
        bool ok = false;
        for (unsigned k = 0; k < sizeof known / sizeof *known; k++)
            ok |= !strcmp(lv->status.v[i], known[k]);
        if (!ok)
            lvm_vg_note(vg, "volume %.40s has status %.40s", lv->name, lv->status.v[i]);
    }
    return 0;
}

/* ---- the group */
static int vg_rest(struct parse *p, const struct dm_config_node *n, void *base)
{
    struct lvm_vg *vg = base;
    bool string = n->v && n->v->type == DM_CFG_STRING;
    if (!strcmp(n->key, "physical_volumes") || !strcmp(n->key, "logical_volumes"))
        return 1;
    if (!strcmp(n->key, "format")) {
        if (!string || strcmp(n->v->v.str, "lvm2"))
            return err_set(p->e, ERR_INVALID, "", "metadata text: its format is not lvm2");
        return 1;
    }
    if (!strcmp(n->key, "lock_type") && (!string || strcmp(n->v->v.str, "none")))
        lvm_vg_note(vg, "it is shared between hosts by a lock manager (lock_type)");
    return 0;
}

static void note_vg_status(struct lvm_vg *vg)
{
    for (unsigned i = 0; i < vg->status.n; i++) {
        const char *s = vg->status.v[i];
        if (strcmp(s, "READ") && strcmp(s, "WRITE") && strcmp(s, "RESIZEABLE"))
            lvm_vg_note(vg, "the group has status %.60s", s);
    }
    if (!lvm_strs_has(&vg->status, "WRITE"))
        lvm_vg_note(vg, "the group's status has no WRITE");
}

static int read_sections(struct parse *p, const struct dm_config_node *n)
{
    const struct dm_config_node *pvs = NULL, *lvs = NULL;
    unsigned lv_count = 0;
    for (const struct dm_config_node *c = n->child; c; c = c->sib) {
        bool pv = !strcmp(c->key, "physical_volumes"), lv = !strcmp(c->key, "logical_volumes");
        if ((pv || lv) && (c->v || (pv ? pvs : lvs)))
            return bad(p->e, n, c->key, "a section, and there once");
        pvs = pv ? c : pvs;
        lvs = lv ? c : lvs;
    }
    if (!pvs)
        return bad(p->e, n, "physical_volumes", "there");
    for (const struct dm_config_node *c = pvs->child; c; c = c->sib)
        if (read_pv(p, c))
            return -1;
    for (const struct dm_config_node *c = lvs ? lvs->child : NULL; c; c = c->sib)
        lv_count++;
    if (lv_count > LVM_LVS_MAX)
        return bad(p->e, n, "the number of volumes", "at most 65536");
    p->vg->lv = xcalloc(lv_count, sizeof *p->vg->lv);
    for (const struct dm_config_node *c = lvs ? lvs->child : NULL; c; c = c->sib)
        if (read_lv(p, c))
            return -1;
    return 0;
}

static int read_vg(struct parse *p, const struct dm_config_node *n)
{
    struct lvm_vg *vg = p->vg;
    vg->name = xstrdup(n->key);
    if (strlen(n->key) > LVM_NAME_MAX)
        return bad(p->e, n, "its name", "at most 127 characters long");
    if (read_section(p, n, lvm_vg_fields, vg, &vg->extra, vg_rest))
        return -1;
    if (!vg->extent_size || vg->extent_size > 1u << 31)
        return bad(p->e, n, "extent_size", "1 to 2^31 sectors");
    note_vg_status(vg);
    if (read_sections(p, n))
        return -1;
    return lvm_vg_check(vg, &p->names, &p->cows, p->e);
}

/* The values that stand beside the group: what kind of text it is, who wrote it. */
static const struct dm_config_node *check_head(struct lvm_vg *vg, const struct dm_config_tree *t,
                                               struct err *e)
{
    const struct dm_config_node *group = NULL, *contents = NULL, *version = NULL;
    uint64_t v = 0;
    for (const struct dm_config_node *n = t->root; n; n = n->sib) {
        if (!n->v && group) {
            err_set(e, ERR_INVALID, "", "metadata text: there is more than one group");
            return NULL;
        }
        if (!n->v)
            group = n;
        else if (!strcmp(n->key, "contents"))
            contents = n;
        else if (!strcmp(n->key, "version"))
            version = n;
        else if (!strcmp(n->key, "creation_time"))
            (void)get_uint(n->v, INT64_MAX, &vg->creation_time);
        else if (!strcmp(n->key, "creation_host") && n->v->type == DM_CFG_STRING &&
                 !vg->creation_host)
            vg->creation_host = xstrdup(n->v->v.str);
    }
    if (group && contents && contents->v->type == DM_CFG_STRING &&
        !strcmp(contents->v->v.str, "Text Format Volume Group") && version &&
        get_uint(version->v, 1, &v) && v == 1)
        return group;
    err_set(e, ERR_INVALID, "", "metadata text: it is not a volume group of version 1");
    return NULL;
}

struct lvm_vg *lvm_text_parse(const char *text, size_t len, struct err *e)
{
    struct dm_config_tree *t = parse_tree(text, len, e);
    if (!t)
        return NULL;
    struct lvm_vg *vg = xcalloc(1, sizeof *vg);
    struct parse p = {.vg = vg, .e = e};
    const struct dm_config_node *group = check_head(vg, t, e);
    if (!group || read_vg(&p, group))
        lvm_vg_free(&vg);
    lvm_strs_free(&p.names);
    lvm_strs_free(&p.cows);
    dm_config_destroy(t);
    return vg;
}
