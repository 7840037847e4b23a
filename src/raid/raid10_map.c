/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "raid/md_super.h"
#include "raid/raid10.h"
#include "raid/raid_private.h"

bool raid10_geometry_init(struct raid10_geometry *g, const struct md_super *sb)
{
    uint32_t layout = sb->layout ? sb->layout : RAID10_NEAR_2;
    g->slots = sb->raid_disks;
    g->near = layout & 0xff;
    g->far = layout >> 8 & 0xff;
    g->offset = layout >> 16 & 1;
    g->copies = g->near * g->far;
    g->chunk = (uint64_t)sb->chunk * MD_SECTOR;
    if (layout >> 17 || g->copies < 2 || g->copies > g->slots || g->copies > RAID10_COPIES_MAX)
        return false;
    if (!g->chunk)
        return true; /* only who has copies is asked for */
    uint64_t rows = sb->size * MD_SECTOR / g->chunk / g->far;
    uint64_t chunks = rows * g->slots / g->near;
    uint64_t used = (chunks * g->copies + g->slots - 1) / g->slots;
    g->stride = g->offset ? g->chunk : used / g->far * g->chunk;
    g->size = used / g->far * g->slots / g->near * g->chunk;
    return true;
}

uint32_t raid10_layout_parse(const char *text)
{
    char *end;
    unsigned long n = text[0] && isdigit((unsigned char)text[1]) ? strtoul(text + 1, &end, 10) : 0;
    if (n < 2 || n > RAID10_COPIES_MAX || *end)
        return 0;
    switch (text[0]) {
    case 'n': return (uint32_t)n | 1 << 8;
    case 'f': return 1 | (uint32_t)n << 8;
    case 'o': return 1 | (uint32_t)n << 8 | 1 << 16;
    default: return 0;
    }
}

void raid10_layout_name(uint32_t layout, char out[24])
{
    unsigned near_copies = layout & 0xff, far_copies = layout >> 8 & 0xff;
    char kind = layout >> 16 & 1 ? 'o' : 'f';
    if (!layout)
        snprintf(out, 24, "n2");
    else if (far_copies < 2)
        snprintf(out, 24, "n%u", near_copies);
    else if (near_copies < 2)
        snprintf(out, 24, "%c%u", kind, far_copies);
    else
        snprintf(out, 24, "n%u%c%u", near_copies, kind, far_copies);
}

uint64_t raid_sync_sectors(const struct md_super *sb)
{
    struct raid10_geometry g;
    if (sb->level != 10 || !raid10_geometry_init(&g, sb))
        return sb->size;
    return g.size / MD_SECTOR;
}

void raid10_copies(const struct raid10_geometry *g, uint64_t offset, struct raid10_copy *copy)
{
    uint64_t first = offset / g->chunk * g->near, row = first / g->slots;
    unsigned slot = (unsigned)(first % g->slots);
    uint64_t at = row * (g->offset ? g->far : 1) * g->chunk + offset % g->chunk;
    for (unsigned n = 0; n < g->near; n++) {
        for (unsigned f = 0; f < g->far; f++)
            *copy++ = (struct raid10_copy){(slot + f * g->near) % g->slots, at + f * g->stride};
        if (++slot == g->slots) {
            /* The next near copy begins a row; with `offset` that is the next group of rows. */
            slot = 0;
            at += g->chunk;
        }
    }
}

uint64_t raid10_virtual(const struct raid10_geometry *g, unsigned slot, uint64_t offset)
{
    uint64_t row = offset / g->chunk;
    unsigned f;
    if (g->offset) {
        f = (unsigned)(row % g->far);
        row /= g->far;
    } else {
        f = (unsigned)(offset / g->stride);
        row = offset % g->stride / g->chunk;
    }
    unsigned from = (slot + g->slots * f - f * g->near % g->slots) % g->slots;
    return (row * g->slots + from) / g->near * g->chunk + offset % g->chunk;
}
