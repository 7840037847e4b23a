/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_VOLUMES_LVM_LABEL_H
#define ORION_VOLUMES_LVM_LABEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/uuid.h"

/*
 * The binary part of LVM2's format (lib/format_text/layout.h, lib/label/label.h of lvm2): label, PV
 * header, header of a metadata area, and where texts lie in its ring. Pure bytes, no I/O. All
 * numbers are little endian, all offsets and sizes bytes.
 *
 *   sectors 0..3   one of them (by habit 1) is the label: "LABELONE", its own sector number, crc,
 *                  offset of the PV header, "LVM2 001"; then the PV header
 *   4096           metadata area: a 512-byte header, then a ring of VG texts
 *   1 MiB          data
 */
enum {
    LVM_SECTOR = 512,
    LVM_LABEL_SCAN = 4 * LVM_SECTOR, /* the label is within */
    LVM_MDA_HEADER = 512,
    LVM_AREAS_MAX = 8,            /* areas of a kind that we take; LVM writes at most two */
    LVM_TEXT_MAX = 4 << 20,       /* longest VG text that we read */
    LVM_PV_USED = 1,              /* extension flag: the PV belongs to a VG */
    LVM_LOCN_IGNORED = 1,         /* slot 0: this metadata area is not in use */
    LVM_DEFAULT_MDA_START = 4096, /* what LVM and we choose for new PVs */
    LVM_DEFAULT_DATA_START = 1 << 20,
    LVM_ID = 32,      /* characters of an id without dashes */
    LVM_ID_TEXT = 39, /* with dashes (6-4-4-4-4-4-6) and the final NUL */
};

/* CRC32 of polynomial edb88320, started with 0xf597a6cf, without the final inversion. */
uint32_t lvm_crc(const void *p, size_t len);

/* ---- ids: 32 characters of 0-9 a-z A-Z (! and # in very old ones); char[33] in memory */
void lvm_id_random(char id_r[LVM_ID + 1]);
const char *lvm_id_format(const char *id, char out[LVM_ID_TEXT]);
bool lvm_id_parse(const char *text, char id_r[LVM_ID + 1]); /* takes exactly the form with dashes */
bool lvm_id_valid(const char *id);                          /* 32 characters of the alphabet */
/* The id folded to 128 bits (RFC 9562 version 8): 6 bits a character, the last 64 of the 192 bits
 * xor-ed onto the first 64. The same for the same id, for ever. */
struct uuid lvm_id_uuid(const char *id);

struct lvm_area {
    uint64_t offset, size;
};

struct lvm_label {
    unsigned sector; /* 0..3 */
    char pv_id[LVM_ID + 1];
    uint64_t device_size;
    struct lvm_area data[LVM_AREAS_MAX], mda[LVM_AREAS_MAX], boot[LVM_AREAS_MAX];
    unsigned data_count, mda_count, boot_count;
    uint32_t ext_version, ext_flags; /* version 0: no extension */
};

/* Looks for the label in the first sectors of a device. ERR_NOT_FOUND: there is none (field empty).
 * ERR_INVALID: there is one with a bad checksum or list, or of another type. */
int lvm_label_parse(const void *head, size_t len, struct lvm_label *label_r, struct err *e);
/* Fills the label's sector (extension version 2). */
void lvm_label_build(const struct lvm_label *label, uint8_t sector[LVM_SECTOR]);

/* Puts another size of the device into the label that stands in a sector, and leaves all else.
 * Fails when there is none of this PV. */
int lvm_label_resize(uint8_t sector[LVM_SECTOR], unsigned number, const char *pv_id, uint64_t size,
                     struct err *e);

struct lvm_locn { /* where a text lies: offset from the start of the metadata area */
    uint64_t offset, size;
    uint32_t crc, flags;
};

struct lvm_mda {
    uint64_t start, size;    /* on the device; the header included */
    struct lvm_locn slot[2]; /* 0 committed, 1 precommitted; size 0 = empty */
};

/* `start` and `size`: as the label says, or size 0 = not known. Errors name what is wrong. */
int lvm_mda_parse(const void *header, uint64_t start, uint64_t size, struct lvm_mda *mda_r,
                  struct err *e);
void lvm_mda_build(const struct lvm_mda *mda, uint8_t header[LVM_MDA_HEADER]);
bool lvm_mda_ignored(const struct lvm_mda *mda);

/* Where the next text of `size` bytes goes: behind the committed one, on a 512-byte boundary,
 * around the end of the ring if it must, never over the committed one. ERR_NO_SPACE when it is too
 * long. */
int lvm_mda_place(const struct lvm_mda *mda, uint64_t size, uint64_t *offset_r, struct err *e);
/* The one or two ranges on the device of a text at `offset` of the ring; returns how many. */
unsigned lvm_mda_ranges(const struct lvm_mda *mda, uint64_t offset, uint64_t size,
                        struct lvm_area out[2]);

#endif
