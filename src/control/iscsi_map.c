/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/iscsi_acl.h"
#include "targets/iscsi/iscsi.h"
#include "targets/scsi/scsi.h"

/*
 * What an initiator sees of a target's LUNs: entries "N=M" (its LUN N is the target's LUN M) or
 * "N-L=M" (N to L are M and those that follow). Kept as text, in the order of N.
 */
static bool number(const char **p, unsigned *n_r)
{
    char *end;
    if (!isdigit((unsigned char)**p) || (**p == '0' && isdigit((unsigned char)(*p)[1])))
        return false;
    unsigned long n = strtoul(*p, &end, 10);
    *p = end;
    *n_r = (unsigned)n;
    return n <= ISCSI_LUN_MAX;
}

static bool entry(const char *text, unsigned *first_r, unsigned *last_r, unsigned *to_r)
{
    const char *p = text;
    if (!number(&p, first_r))
        return false;
    *last_r = *first_r;
    if (*p == '-' && (p++, !number(&p, last_r) || *last_r < *first_r))
        return false;
    return *p++ == '=' && number(&p, to_r) && !*p && *to_r + (*last_r - *first_r) <= ISCSI_LUN_MAX;
}

static int by_number(const void *a, const void *b)
{
    unsigned first[2] = {0}, last, to;
    entry(*(char *const *)a, &first[0], &last, &to);
    entry(*(char *const *)b, &first[1], &last, &to);
    return first[0] < first[1] ? -1 : first[0] > first[1];
}

struct json_object *lun_map_given(const struct opts *o)
{
    unsigned n;
    char *const *list = opts_list(o, "lun_map", &n);
    if (!n)
        return NULL;
    autofree const char **sorted = xcalloc(n, sizeof *sorted);
    for (unsigned i = 0; i < n; i++)
        sorted[i] = list[i];
    qsort(sorted, n, sizeof *sorted, by_number);
    struct json_object *texts = json_object_new_array();
    for (unsigned i = 0; i < n; i++)
        json_object_array_add(texts, json_object_new_string(sorted[i]));
    return texts;
}

static int put_range(struct scsi_map *map, unsigned first, unsigned last, unsigned to,
                     struct err *e)
{
    for (unsigned lun = first; lun <= last; lun++) {
        if (map->lun[lun] != SCSI_NO_LUN)
            return err_set(e, ERR_INVALID, "lun_map", "lun_map says twice what LUN %u is", lun);
        map->lun[lun] = (uint16_t)(to + lun - first);
    }
    if (last >= map->size)
        map->size = last + 1;
    return 0;
}

int lun_map_parse(struct json_object *texts, struct scsi_map **map_r, struct err *e)
{
    *map_r = NULL;
    if (!texts || !json_object_array_length(texts))
        return 0;
    size_t room = ISCSI_LUN_MAX + 1;
    autofree struct scsi_map *map = xcalloc(1, sizeof *map + room * sizeof map->lun[0]);
    memset(map->lun, 0xff, room * sizeof map->lun[0]);
    for (size_t i = 0; i < json_object_array_length(texts); i++) {
        const char *text = json_object_get_string(json_object_array_get_idx(texts, i));
        unsigned first, last, to;
        if (!entry(text, &first, &last, &to))
            return err_set(e, ERR_INVALID, "lun_map",
                           "lun_map has '%.40s'; expected N=M or N-L=M, numbers from 0 to %d", text,
                           ISCSI_LUN_MAX);
        if (put_range(map, first, last, to, e))
            return -1;
    }
    *map_r = scsi_map_copy(map);
    return 0;
}
