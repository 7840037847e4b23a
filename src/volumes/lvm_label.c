/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "volumes/lvm_label.h"

#include <assert.h>
#include <isa-l/crc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/buf.h"

enum { LABEL_CRC_FROM = 20, LABEL_SIZE = 32, MDA_CRC_FROM = 4, MDA_VERSION = 1 };

static const char label_magic[8] = "LABELONE";
static const char label_type[8] = "LVM2 001";
static const char mda_magic[16] =
    "\040\114\126\115\062\040\170\133\065\101\045\162\060\116\052\076";
static const char alphabet[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ!#";

uint32_t lvm_crc(const void *p, size_t len)
{
    /* ISA-L inverts at both ends, LVM at neither. */
    return ~crc32_gzip_refl(~0xf597a6cfu, p, len);
}

void lvm_id_random(char id_r[LVM_ID + 1])
{
    /* The last two characters of the alphabet are LVM1's only. A byte of 248 and above would favour
     * the first ones. */
    unsigned n = 0;
    while (n < LVM_ID) {
        uint8_t b[64];
        if (getrandom(b, sizeof b, 0) != sizeof b)
            abort();
        for (unsigned i = 0; i < sizeof b && n < LVM_ID; i++)
            if (b[i] < 248)
                id_r[n++] = alphabet[b[i] % 62];
    }
    id_r[LVM_ID] = 0;
}

static bool dash_before(unsigned i)
{
    return i == 6 || i == 10 || i == 14 || i == 18 || i == 22 || i == 26;
}

const char *lvm_id_format(const char *id, char out[LVM_ID_TEXT])
{
    char *p = out;
    for (unsigned i = 0; i < LVM_ID; i++) {
        if (dash_before(i))
            *p++ = '-';
        *p++ = id[i];
    }
    *p = 0;
    return out;
}

static int digit(char c)
{
    const char *p = c ? strchr(alphabet, c) : NULL;
    return p ? (int)(p - alphabet) : -1;
}

bool lvm_id_parse(const char *text, char id_r[LVM_ID + 1])
{
    char id[LVM_ID + 1];
    for (unsigned i = 0; i < LVM_ID; i++) {
        if (dash_before(i) && *text++ != '-')
            return false;
        if (digit(*text) < 0)
            return false;
        id[i] = *text++;
    }
    if (*text)
        return false;
    id[LVM_ID] = 0;
    memcpy(id_r, id, sizeof id);
    return true;
}

bool lvm_id_valid(const char *id)
{
    for (unsigned i = 0; i < LVM_ID; i++)
        if (digit(id[i]) < 0)
            return false;
    return !id[LVM_ID];
}

struct uuid lvm_id_uuid(const char *id)
{
    assert(lvm_id_valid(id));
    uint8_t bits[24] = {0};
    for (unsigned i = 0; i < LVM_ID; i++) {
        unsigned v = (unsigned)digit(id[i]);
        for (unsigned b = 0; b < 6; b++) {
            unsigned at = i * 6 + b;
            bits[at / 8] |= (uint8_t)((v >> (5 - b) & 1) << (7 - at % 8));
        }
    }
    struct uuid u;
    for (unsigned i = 0; i < 16; i++)
        u.b[i] = (uint8_t)(bits[i] ^ (i < 8 ? bits[16 + i] : 0));
    u.b[6] = (uint8_t)((u.b[6] & 0x0f) | 0x80);
    u.b[8] = (uint8_t)((u.b[8] & 0x3f) | 0x80);
    return u;
}

/* A list of areas that ends with an empty one. */
static bool read_areas(struct rd *r, struct lvm_area *list, unsigned *count_r)
{
    for (unsigned n = 0;; n++) {
        struct lvm_area a = {.offset = rd_le64(r)};
        a.size = rd_le64(r);
        if (!rd_ok(r) || (a.offset && n == LVM_AREAS_MAX))
            return false;
        if (!a.offset) {
            *count_r = n;
            return true;
        }
        list[n] = a;
    }
}

static int parse_sector(const uint8_t *p, unsigned sector, struct lvm_label *l, struct err *e)
{
    struct rd r = rd_make(p, LVM_SECTOR);
    rd_skip(&r, sizeof label_magic);
    uint64_t own = rd_le64(&r);
    uint32_t crc = rd_le32(&r), offset = rd_le32(&r);
    const uint8_t *type = rd_bytes(&r, sizeof label_type);
    if (own != sector)
        return err_set(e, ERR_INVALID, "", "the LVM label in sector %u says it is of sector %llu",
                       sector, (unsigned long long)own);
    if (crc != lvm_crc(p + LABEL_CRC_FROM, LVM_SECTOR - LABEL_CRC_FROM))
        return err_set(e, ERR_INVALID, "", "the LVM label's checksum is wrong");
    if (memcmp(type, label_type, sizeof label_type))
        return err_set(e, ERR_INVALID, "", "the LVM label is of a type other than \"LVM2 001\"");

    memset(l, 0, sizeof *l);
    l->sector = sector;
    rd_seek(&r, offset);
    rd_copy(&r, l->pv_id, LVM_ID);
    l->device_size = rd_le64(&r);
    if (!read_areas(&r, l->data, &l->data_count) || !read_areas(&r, l->mda, &l->mda_count))
        return err_set(e, ERR_INVALID, "", "the PV header's lists of areas do not end");
    if (!lvm_id_valid(l->pv_id))
        return err_set(e, ERR_INVALID, "", "the PV header's id has characters that no id has");
    if (rd_left(&r) < 8)
        return 0;
    l->ext_version = rd_le32(&r);
    l->ext_flags = rd_le32(&r);
    if (!l->ext_version)
        l->ext_flags = 0;
    else if (!read_areas(&r, l->boot, &l->boot_count))
        return err_set(e, ERR_INVALID, "", "the PV header's list of boot areas does not end");
    return 0;
}

int lvm_label_parse(const void *head, size_t len, struct lvm_label *label_r, struct err *e)
{
    const uint8_t *p = head;
    int bad = 0;
    for (unsigned s = 0; s < LVM_LABEL_SCAN / LVM_SECTOR && (s + 1) * LVM_SECTOR <= len; s++) {
        const uint8_t *q = p + s * LVM_SECTOR;
        if (memcmp(q, label_magic, sizeof label_magic))
            continue;
        if (!parse_sector(q, s, label_r, e))
            return 0;
        bad = -1; /* LVM goes on to the next sector too */
    }
    return bad ? bad : err_set(e, ERR_NOT_FOUND, "", "there is no LVM label");
}

static void write_areas(struct wr *w, const struct lvm_area *list, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        wr_le64(w, list[i].offset);
        wr_le64(w, list[i].size);
    }
    wr_zero(w, 16);
}

static void put_crc(uint8_t sector[LVM_SECTOR])
{
    struct wr c = wr_make(sector, LVM_SECTOR);
    wr_room(&c, 16);
    wr_le32(&c, lvm_crc(sector + LABEL_CRC_FROM, LVM_SECTOR - LABEL_CRC_FROM));
}

void lvm_label_build(const struct lvm_label *l, uint8_t sector[LVM_SECTOR])
{
    memset(sector, 0, LVM_SECTOR);
    struct wr w = wr_make(sector, LVM_SECTOR);
    wr_copy(&w, label_magic, sizeof label_magic);
    wr_le64(&w, l->sector);
    wr_le32(&w, 0); /* crc, below */
    wr_le32(&w, LABEL_SIZE);
    wr_copy(&w, label_type, sizeof label_type);
    wr_copy(&w, l->pv_id, LVM_ID);
    wr_le64(&w, l->device_size);
    write_areas(&w, l->data, l->data_count);
    write_areas(&w, l->mda, l->mda_count);
    wr_le32(&w, 2);
    wr_le32(&w, l->ext_flags);
    write_areas(&w, l->boot, l->boot_count);
    assert(wr_ok(&w)); /* three lists of LVM_AREAS_MAX fit */
    put_crc(sector);
}

int lvm_label_resize(uint8_t sector[LVM_SECTOR], unsigned number, const char *pv_id, uint64_t size,
                     struct err *e)
{
    struct lvm_label now;
    if (memcmp(sector, label_magic, sizeof label_magic) || parse_sector(sector, number, &now, e) ||
        strcmp(now.pv_id, pv_id) != 0)
        return err_set(e, ERR_INVALID, "", "the LVM label is not the one that was read before");
    struct rd r = rd_make(sector, LVM_SECTOR);
    rd_seek(&r, 20); /* the offset of the PV header; the parser took it */
    struct wr w = wr_make(sector, LVM_SECTOR);
    wr_room(&w, rd_le32(&r) + LVM_ID);
    wr_le64(&w, size);
    assert(wr_ok(&w));
    put_crc(sector);
    return 0;
}

static int check_slot(const struct lvm_mda *m, const struct lvm_locn *s, const char *what,
                      struct err *e)
{
    if (!s->size && !s->offset)
        return 0;
    if (s->offset < LVM_MDA_HEADER || s->offset >= m->size || !s->size ||
        s->size > m->size - LVM_MDA_HEADER)
        return err_set(e, ERR_INVALID, "",
                       "the metadata area's %s text (offset %llu, size %llu) is not within it",
                       what, (unsigned long long)s->offset, (unsigned long long)s->size);
    return 0;
}

int lvm_mda_parse(const void *header, uint64_t start, uint64_t size, struct lvm_mda *mda_r,
                  struct err *e)
{
    const uint8_t *p = header;
    struct rd r = rd_make(p, LVM_MDA_HEADER);
    struct lvm_mda m;
    uint32_t crc = rd_le32(&r);
    const uint8_t *magic = rd_bytes(&r, sizeof mda_magic);
    uint32_t version = rd_le32(&r);
    m.start = rd_le64(&r);
    m.size = rd_le64(&r);
    for (unsigned i = 0; i < 2; i++) {
        m.slot[i].offset = rd_le64(&r);
        m.slot[i].size = rd_le64(&r);
        m.slot[i].crc = rd_le32(&r);
        m.slot[i].flags = rd_le32(&r);
    }
    if (crc != lvm_crc(p + MDA_CRC_FROM, LVM_MDA_HEADER - MDA_CRC_FROM))
        return err_set(e, ERR_INVALID, "", "the metadata area's header has a wrong checksum");
    if (memcmp(magic, mda_magic, sizeof mda_magic) || version != MDA_VERSION)
        return err_set(e, ERR_INVALID, "", "the metadata area is of an unknown kind or version");
    if (m.start != start || (size && m.size != size))
        return err_set(e, ERR_INVALID, "", "the metadata area says that it lies elsewhere");
    if (m.size % LVM_SECTOR || m.size < 4 * LVM_SECTOR || m.start > INT64_MAX ||
        m.size > INT64_MAX - m.start)
        return err_set(e, ERR_INVALID, "", "the metadata area's size %llu is out of range",
                       (unsigned long long)m.size);
    if (check_slot(&m, &m.slot[0], "committed", e))
        return -1;
    /* The precommitted slot counts only for whoever wrote it: a wrong one is as good as none. */
    if (check_slot(&m, &m.slot[1], "precommitted", NULL))
        memset(&m.slot[1], 0, sizeof m.slot[1]);
    *mda_r = m;
    return 0;
}

void lvm_mda_build(const struct lvm_mda *m, uint8_t header[LVM_MDA_HEADER])
{
    memset(header, 0, LVM_MDA_HEADER);
    struct wr w = wr_make(header, LVM_MDA_HEADER);
    wr_le32(&w, 0);
    wr_copy(&w, mda_magic, sizeof mda_magic);
    wr_le32(&w, MDA_VERSION);
    wr_le64(&w, m->start);
    wr_le64(&w, m->size);
    for (unsigned i = 0; i < 2; i++) {
        wr_le64(&w, m->slot[i].offset);
        wr_le64(&w, m->slot[i].size);
        wr_le32(&w, m->slot[i].crc);
        wr_le32(&w, m->slot[i].flags);
    }
    assert(wr_ok(&w));
    struct wr c = wr_make(header, LVM_MDA_HEADER);
    wr_le32(&c, lvm_crc(header + MDA_CRC_FROM, LVM_MDA_HEADER - MDA_CRC_FROM));
}

bool lvm_mda_ignored(const struct lvm_mda *mda)
{
    return mda->slot[0].flags & LVM_LOCN_IGNORED;
}

static uint64_t sectors_up(uint64_t v)
{
    return (v + LVM_SECTOR - 1) / LVM_SECTOR * LVM_SECTOR;
}

int lvm_mda_place(const struct lvm_mda *mda, uint64_t size, uint64_t *offset_r, struct err *e)
{
    uint64_t ring = mda->size - LVM_MDA_HEADER;
    if (!size || ring / 2 < LVM_SECTOR || size > ring / 2 - LVM_SECTOR)
        return err_set(e, ERR_NO_SPACE, "",
                       "the pool's metadata (%llu bytes) is too long for the metadata area, which "
                       "takes %llu: delete volumes, or join fragmented ones",
                       (unsigned long long)size,
                       (unsigned long long)(ring / 2 < LVM_SECTOR ? 0 : ring / 2 - LVM_SECTOR));
    const struct lvm_locn *old = &mda->slot[0];
    if (!old->size || lvm_mda_ignored(mda)) {
        *offset_r = LVM_MDA_HEADER;
        return 0;
    }
    uint64_t from = old->offset - LVM_MDA_HEADER; /* positions in the ring */
    uint64_t next = sectors_up((from + old->size) % ring);
    if (next + LVM_SECTOR > ring)
        next = 0;
    uint64_t ahead = (next + ring - from) % ring;
    if (ahead < old->size || ahead + sectors_up(size) > ring)
        return err_set(
            e, ERR_NO_SPACE, "",
            "the pool's old and new metadata do not fit into the metadata area together");
    *offset_r = next + LVM_MDA_HEADER;
    return 0;
}

unsigned lvm_mda_ranges(const struct lvm_mda *mda, uint64_t offset, uint64_t size,
                        struct lvm_area out[2])
{
    uint64_t to_end = mda->size - offset;
    out[0] = (struct lvm_area){mda->start + offset, size < to_end ? size : to_end};
    if (size <= to_end)
        return 1;
    out[1] = (struct lvm_area){mda->start + LVM_MDA_HEADER, size - to_end};
    return 2;
}
