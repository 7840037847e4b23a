/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TESTS_RAID_POWERCUT_H
#define ORION_TESTS_RAID_POWERCUT_H

#include "arrays.h"

/*
 * Power cuts. A life is what happens to an array's members from power on to power off: every write
 * and flush of every member is recorded, and every request of the clients, all by one clock. A cut
 * is a moment of it, and what the members' volatile caches made of the writes that nothing had made
 * durable by then: there, absent, or torn at sectors, each write on its own. From that the members'
 * contents are built, on which the array must start again, and hold:
 *   - each write that was acknowledged and flushed, or had FUA;
 *   - elsewhere, by sector, what was there before or what a client was writing, nothing else.
 */
#ifndef PC_MEMBER_BLOCKS
#define PC_MEMBER_BLOCKS 36 /* room for three windows of a rebuild */
#endif

enum {
    PC_MEMBERS = 8,
    PC_SECTOR = 512,
    PC_BLOCK = 64 << 10,
    PC_BLOCKS = PC_MEMBER_BLOCKS,   /* at most 64: a word of bits says which ones are not zero */
    PC_SIZE = PC_BLOCKS * PC_BLOCK, /* of a member */
    PC_OPS = 4000,
    PC_ROWS = 40,
    PC_BADS = 4,
};

struct pc_image {
    uint8_t *data;   /* PC_SIZE bytes */
    uint64_t blocks; /* all others are zero on the device, and anything here */
};

enum pc_kind { PC_WRITE, PC_ZERO, PC_FLUSH, PC_DISCARD, PC_BYTE /* the last one of a sector */ };

struct pc_op {
    enum pc_kind kind;
    bool fua;
    uint64_t lba, sectors;
    uint64_t submitted, completed; /* moments; 0 = not */
};

struct pc_life {
    unsigned number; /* tells writes of one life from those of another */
    char kind[4];    /* members are fault devices of this name and a number */
    unsigned members;
    struct pc_image base[PC_MEMBERS]; /* when it began; data may be NULL */
    uint64_t clock;
    struct pc_op *op;
    unsigned ops;      /* atomic */
    uint8_t *baseline; /* what the array held when it began */
    uint64_t size;     /* of the array, bytes */
    uint64_t fresh;    /* from this byte on it held members' junk (pc_junk) at first; 0: nowhere */
    uint64_t created;  /* the moment from which on the array must be found */
    unsigned block;    /* of members; 0 = 512 */
    struct bdev_desc *hold[PC_MEMBERS];
    struct pc_record {
        struct fault_entry *entry;
        unsigned n;
    } record[PC_MEMBERS]; /* from pc_hold on */
};

/* How much of a write that nothing made durable is on the medium. */
struct pc_cut {
    uint64_t at;
    unsigned keep, torn; /* of 100 such writes are there; of the rest are torn */
    uint64_t seed;
    uint8_t *whole[PC_MEMBERS]; /* by entry: it is there, whatever the seed says; or NULL */
};

/* What is known of the array's shape, for what it does not promise. */
struct pc_shape {
    int32_t level;
    unsigned slots, data;
    uint64_t chunk;
    uint64_t lost;    /* slots that went with the power */
    uint64_t missing; /* slots that nobody had any more when it went */
    bool no_log;
    uint64_t size;      /* of the array by now, bytes; 0: as in the life */
    uint64_t open_from; /* from this sector on a member's loss is a loss; 0: nowhere */
    unsigned bads;
    struct pc_bad {
        unsigned slot;
        uint64_t from, to; /* sectors of its data; cannot be read */
    } bad[PC_BADS];
};

extern char pc_why[512]; /* what the last check that returned false had to say */
bool pc_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

uint64_t pc_hash(uint64_t a, uint64_t b);
uint64_t pc_random(uint64_t *state, uint64_t below);

/* ---- a life. In tasks. */
void pc_life_begin(struct pc_life *l, const char *kind, unsigned members);
void pc_power_on(struct pc_life *l); /* devices with what `base` holds, recorded */
/* It is over: no scan sees the devices any more, and what was recorded is known. */
void pc_hold(struct pc_life *l);
void pc_life_end(struct pc_life *l); /* devices and memory go */

/* Before power on: from that byte of each member on there is junk that tells what it is. */
void pc_junk(struct pc_life *l, uint64_t from);

/* One request of a client, on any reactor, recorded. The data tells which it is. */
int pc_request(struct pc_life *l, struct bdev_desc *d, enum pc_kind kind, uint64_t lba,
               uint64_t sectors, bool fua);

/* What becomes of a write by chance: of a `dice` below 4 something else, as far as the array has
 * it. May change the place. */
enum pc_kind pc_kind_by(uint64_t dice, struct bdev_desc *d, uint64_t *lba, uint64_t *sectors);

/* What such a request leaves: in a sector, in its first word, in its last byte. */
void pc_stamp(const struct pc_life *l, unsigned op, uint64_t lba, void *sector);
uint64_t pc_first_word(const struct pc_life *l, unsigned op, uint64_t lba);
uint8_t pc_byte(unsigned op);
uint64_t pc_tick(struct pc_life *l);
uint64_t pc_now(const struct pc_life *l); /* the moment; devices may tick meanwhile */

/* A read, and whether it is what clients may expect who write meanwhile. A class, or 1: it is not.
 */
int pc_read(struct pc_life *l, struct bdev_desc *d, uint64_t lba, uint64_t sectors);

/* ---- a cut. Of a life that is over */
/* `out` gets its memory here and loses what it had. */
void pc_build(const struct pc_life *l, const struct pc_cut *c, struct pc_image out[PC_MEMBERS]);
void pc_free_images(struct pc_image image[PC_MEMBERS]);
/* Does the array's content fit what clients may expect after a cut at `at`? UINT64_MAX: no cut was,
 * each completed write is there. */
bool pc_check_content(const struct pc_life *l, const uint8_t *content, uint64_t at,
                      const struct pc_shape *shape);
/* For other eyes: the members as files DIR/NUMBER-MEMBER, and DIR/NUMBER-must, a line of sector and
 * its first word for each sector that can only hold one version. */
void pc_dump(const struct pc_life *l, uint64_t at, const struct pc_image image[PC_MEMBERS],
             const char *dir, uint64_t number);
/* Prints the writes that a cut has damaged, and what clients were doing. */
void pc_print_cut(const struct pc_life *l, const struct pc_cut *c);

/* A life in a file, with `n` pieces of the test's own, for builds with the same PC_ sizes. A life
 * that was loaded has no devices. */
void pc_save(const struct pc_life *l, const struct iovec *own, unsigned n, const char *path);
void pc_load(struct pc_life *l, const struct iovec *own, unsigned n, const char *path);

/* Puts into c->whole all writes that need not be lost for the failure. */
void pc_shrink(const struct pc_life *l, struct pc_cut *c,
               bool (*fails)(const struct pc_life *l, const struct pc_cut *c));

/* A test for each of n rows, which begin with their name; `only` that one. An exit status. */
int pc_rows(const char *group, const void *rows, size_t size, unsigned n, CMUnitTestFunction fn,
            const char *only);

/* Do copies and parity of the array on the devices `kind`0... fit? Looks at superblocks for who
 * takes part, and at lists of bad blocks for what does not. `absent` devices do not exist. */
bool pc_check_members(const char *kind, unsigned devices, uint64_t absent);

#endif
