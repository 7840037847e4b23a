/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PERSISTENT RESERVE, RESERVE(6)/RELEASE(6): what they answer and whom they stop. */
#include "lab.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "block/gate.h"
#include "targets/scsi/scsi_private.h"

enum { REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_ABORT, IGNORE, MOVE };
enum { WE = 1, EA = 3, WE_RO = 5, EA_RO = 6, WE_AR = 7, EA_AR = 8 };
enum { APTPL = 1, ALL_TG_PT = 4, SPEC_I_PT = 8 };

/* Two hosts: the lab's own nexus (a) and b, on the other reactor. */
struct pair {
    struct lab *lab;
    struct scsi_nexus *b;
};

static struct io *as_b(struct pair *p, const uint8_t *cdb, unsigned len, const void *out, size_t n)
{
    struct io *io = io_new(p->b, 1, 0, cdb, len);
    io->out = out;
    io->out_len = n;
    io_start(io);
    io_wait(io);
    return io;
}

static struct pair pair_new(void)
{
    struct pair p = {.lab = lab_new()};
    p.b = lab_login(p.lab, 1, "iqn.2026-11.lab:b,i,0x2");
    expect_sense(as_b(&p, (const uint8_t[6]){0}, 6, NULL, 0), SENSE_POWER_ON);
    return p;
}

static void pair_end(struct pair *p)
{
    lab_logout(&p->b, 1);
    lab_end(&p->lab);
}

static struct io *out(struct pair *p, char who, unsigned sa, unsigned type, uint64_t key,
                      uint64_t sa_key, unsigned flags)
{
    uint8_t cdb[10] = {0x5f, (uint8_t)sa, (uint8_t)type, 0, 0, 0, 0, 0, 24, 0}, list[24] = {0};
    struct wr w = wr_make(list, sizeof list);
    wr_be64(&w, key);
    wr_be64(&w, sa_key);
    list[20] = (uint8_t)flags;
    return who == 'a' ? lab_out(p->lab, cdb, 10, list, 24) : as_b(p, cdb, 10, list, 24);
}

static struct io *in(struct pair *p, unsigned sa)
{
    return CMD(p->lab, 0x5e, (uint8_t)sa, 0, 0, 0, 0, 0, 4, 0, 0);
}

static void both_register(struct pair *p)
{
    expect_good(out(p, 'a', REGISTER, 0, 0, 0xa, 0));
    expect_good(out(p, 'b', REGISTER, 0, 0, 0xb, 0));
}

static unsigned read_status(struct pair *p, char who)
{
    static const uint8_t cdb[10] = {0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0};
    struct io *io = who == 'a' ? lab_cmd(p->lab, cdb, 10) : as_b(p, cdb, 10, NULL, 0);
    unsigned status = io->cmd.status;
    io_free(&io);
    return status;
}

static unsigned write_status(struct pair *p, char who)
{
    static const uint8_t cdb[10] = {0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}, data[512];
    struct io *io = who == 'a' ? lab_out(p->lab, cdb, 10, data, 512) : as_b(p, cdb, 10, data, 512);
    unsigned status = io->cmd.status;
    io_free(&io);
    return status;
}

HARNESS_TEST(each_type_stops_whom_it_should)
{
    static const struct {
        unsigned type;
        bool reg_read, reg_write, read, write; /* the other: registered, not registered */
    } rows[] = {
        {WE, true, false, true, false},   {EA, false, false, false, false},
        {WE_RO, true, true, true, false}, {EA_RO, true, true, false, false},
        {WE_AR, true, true, true, false}, {EA_AR, true, true, false, false},
    };
    struct pair p = pair_new();
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        both_register(&p);
        expect_good(out(&p, 'a', RESERVE, rows[i].type, 0xa, 0, 0));
        check_int(write_status(&p, 'a'), SCSI_GOOD);
        check_int(read_status(&p, 'b') == SCSI_GOOD, rows[i].reg_read);
        check_int(write_status(&p, 'b') == SCSI_GOOD, rows[i].reg_write);
        expect_good(out(&p, 'b', REGISTER, 0, 0xb, 0, 0));
        check_int(read_status(&p, 'b'), rows[i].read ? SCSI_GOOD : SCSI_RESERVATION_CONFLICT);
        check_int(write_status(&p, 'b'), rows[i].write ? SCSI_GOOD : SCSI_RESERVATION_CONFLICT);
        expect_good(as_b(&p, (const uint8_t[6]){0}, 6, NULL, 0));
        expect_good(out(&p, 'a', CLEAR, 0, 0xa, 0, 0));
        check_int(write_status(&p, 'b'), SCSI_GOOD);
    }
    pair_end(&p);
}

HARNESS_TEST(a_key_must_be_the_registered_one)
{
    struct pair p = pair_new();
    expect_status(out(&p, 'a', REGISTER, 0, 7, 8, 0), SCSI_RESERVATION_CONFLICT);
    expect_good(out(&p, 'a', REGISTER, 0, 0, 8, 0));
    expect_status(out(&p, 'a', REGISTER, 0, 7, 9, 0), SCSI_RESERVATION_CONFLICT);
    expect_good(out(&p, 'a', IGNORE, 0, 7, 9, 0));
    expect_status(out(&p, 'a', RESERVE, WE, 8, 0, 0), SCSI_RESERVATION_CONFLICT);
    expect_status(out(&p, 'b', RESERVE, WE, 9, 0, 0), SCSI_RESERVATION_CONFLICT);
    expect_good(out(&p, 'a', RESERVE, WE, 9, 0, 0));
    expect_good(out(&p, 'a', RESERVE, WE, 9, 0, 0));
    expect_status(out(&p, 'a', RESERVE, EA, 9, 0, 0), SCSI_RESERVATION_CONFLICT);
    expect_field(out(&p, 'a', RESERVE, 2, 9, 0, 0), true, 2, 3);
    expect_field(out(&p, 'a', RESERVE, 0x11, 9, 0, 0), true, 2, 7);
    expect_sense(out(&p, 'a', RELEASE, EA, 9, 0, 0), SENSE_INVALID_RELEASE);
    expect_good(out(&p, 'a', RELEASE, WE, 9, 0, 0));
    pair_end(&p);
}

HARNESS_TEST(keys_reservation_and_full_status_are_read)
{
    struct pair p = pair_new();
    both_register(&p);
    expect_good(out(&p, 'a', RESERVE, EA_RO, 0xa, 0, 0));
    struct io *io = in(&p, 0);
    check_int(be(io->in, 4), 2);
    check_int(be(io->in + 4, 4), 16);
    check_int(be(io->in + 12, 4) + be(io->in + 20, 4), 0xa + 0xb);
    expect_good(io);
    io = in(&p, 1);
    check_int(io->in_len, 24);
    check_int(be(io->in + 12, 4), 0xa);
    check_int(io->in[21], EA_RO);
    expect_good(io);
    io = in(&p, 2);
    check_int(be(io->in, 2), 8);
    check_int(be(io->in + 4, 2), 0xea01);
    expect_good(io);
    io = in(&p, 3);
    check_int(be(io->in + 4, 4), io->in_len - 8);
    check_int(be(io->in + 8 + 4, 4), 0xa);
    check_int(io->in[8 + 12], 1);
    check_int(be(io->in + 8 + 18, 2), 1);
    check_int(io->in[8 + 24], 0x45);
    check(!strcmp((const char *)io->in + 8 + 28, "iqn.2026-11.lab:i,i,0x1"));
    expect_good(io);
    pair_end(&p);
}

HARNESS_TEST(the_end_of_a_shared_reservation_is_told)
{
    struct pair p = pair_new();
    both_register(&p);
    expect_good(out(&p, 'a', RESERVE, WE_RO, 0xa, 0, 0));
    expect_good(out(&p, 'a', RELEASE, WE_RO, 0xa, 0, 0));
    expect_sense(as_b(&p, (const uint8_t[6]){0}, 6, NULL, 0), SENSE_RESERVATIONS_RELEASED);
    expect_good(out(&p, 'a', RESERVE, EA_RO, 0xa, 0, 0));
    expect_good(out(&p, 'a', REGISTER, 0, 0xa, 0, 0));
    expect_sense(as_b(&p, (const uint8_t[6]){0}, 6, NULL, 0), SENSE_RESERVATIONS_RELEASED);
    expect_good(out(&p, 'a', REGISTER, 0, 0, 0xa, 0));
    expect_good(out(&p, 'a', CLEAR, 0, 0xa, 0, 0));
    expect_sense(as_b(&p, (const uint8_t[6]){0}, 6, NULL, 0), SENSE_RESERVATIONS_PREEMPTED);
    pair_end(&p);
}

HARNESS_TEST(preempting_takes_registration_and_reservation)
{
    struct pair p = pair_new();
    both_register(&p);
    expect_good(out(&p, 'b', RESERVE, EA, 0xb, 0, 0));
    check_int(write_status(&p, 'a'), SCSI_RESERVATION_CONFLICT);
    expect_status(out(&p, 'a', PREEMPT, WE, 0xa, 0xc, 0), SCSI_RESERVATION_CONFLICT);
    expect_field(out(&p, 'a', PREEMPT, WE, 0xa, 0, 0), false, 8, 7);
    expect_good(out(&p, 'a', PREEMPT, WE, 0xa, 0xb, 0));
    check_int(write_status(&p, 'a'), SCSI_GOOD);
    expect_sense(as_b(&p, (const uint8_t[6]){0}, 6, NULL, 0), SENSE_REGISTRATIONS_PREEMPTED);
    check_int(write_status(&p, 'b'), SCSI_RESERVATION_CONFLICT);
    expect_status(out(&p, 'b', REGISTER, 0, 0xb, 0xc, 0), SCSI_RESERVATION_CONFLICT);
    struct io *io = in(&p, 1);
    check_int(io->in[21], WE);
    expect_good(io);
    pair_end(&p);
}

HARNESS_TEST(preempt_and_abort_ends_the_others_commands)
{
    struct pair p = pair_new();
    static const uint8_t write[10] = {0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}, data[512];
    both_register(&p);
    struct io *victim = io_new(p.b, 1, 0, write, 10);
    victim->out = data;
    victim->out_len = 512;
    io_begin(victim);
    expect_good(out(&p, 'a', PREEMPT_ABORT, WE, 0xa, 0xb, 0));
    io_wait(victim);
    check(victim->cmd.aborted);
    check_int(victim->cmd.status, SCSI_TASK_ABORTED);
    io_free(&victim);
    pair_end(&p);
}

HARNESS_TEST(all_registrants_keep_it_until_the_last_goes)
{
    struct pair p = pair_new();
    both_register(&p);
    expect_good(out(&p, 'a', RESERVE, EA_AR, 0xa, 0, 0));
    expect_good(out(&p, 'a', REGISTER, 0, 0xa, 0, 0));
    check_int(read_status(&p, 'a'), SCSI_RESERVATION_CONFLICT);
    check_int(write_status(&p, 'b'), SCSI_GOOD);
    expect_good(out(&p, 'b', REGISTER, 0, 0xb, 0, 0));
    check_int(read_status(&p, 'a'), SCSI_GOOD);
    pair_end(&p);
}

static size_t move_list(uint8_t *list, const char *initiator, unsigned flags)
{
    struct wr w = wr_make(list, 128);
    size_t padded = (strlen(initiator) + 4) / 4 * 4;
    wr_be64(&w, 0xa);
    wr_be64(&w, 0xb);
    wr_u8(&w, 0);
    wr_u8(&w, flags);
    wr_be16(&w, 1);
    wr_be32(&w, padded + 4);
    wr_be16(&w, 0x4500);
    wr_be16(&w, padded);
    wr_copy(&w, initiator, strlen(initiator));
    wr_zero(&w, padded - strlen(initiator));
    return w.pos;
}

HARNESS_TEST(a_reservation_moves_to_another_nexus)
{
    struct pair p = pair_new();
    uint8_t list[128];
    size_t n = move_list(list, "iqn.2026-11.lab:b,i,0x2", 2);
    uint8_t cdb[10] = {0x5f, MOVE, 0, 0, 0, 0, 0, 0, (uint8_t)n, 0};
    expect_good(out(&p, 'a', REGISTER, 0, 0, 0xa, 0));
    expect_status(lab_out(p.lab, cdb, 10, list, n), SCSI_RESERVATION_CONFLICT);
    expect_good(out(&p, 'a', RESERVE, EA, 0xa, 0, 0));
    expect_good(lab_out(p.lab, cdb, 10, list, n));
    check_int(write_status(&p, 'a'), SCSI_RESERVATION_CONFLICT);
    check_int(write_status(&p, 'b'), SCSI_GOOD);
    expect_good(out(&p, 'b', RELEASE, EA, 0xb, 0, 0));
    list[17] = 0;
    list[24] = 0x05; /* a name without ISID names no port */
    expect_good(out(&p, 'a', REGISTER, 0, 0, 0xa, 0));
    expect_field(lab_out(p.lab, cdb, 10, list, n), false, 24, 7);
    pair_end(&p);
}

HARNESS_TEST(spec_i_pt_registers_ports_that_are_not_there)
{
    struct pair p = pair_new();
    static const char name[] = "iqn.2026-11.lab:b,i,0x2";
    uint8_t list[24 + 4 + 4 + 24] = {0}, cdb[10] = {0x5f, 0, 0, 0, 0, 0, 0, 0, sizeof list, 0};
    struct wr w = wr_make(list, sizeof list);
    wr_be64(&w, 0);
    wr_be64(&w, 0xa);
    wr_be32(&w, 0);
    wr_be32(&w, SPEC_I_PT << 24);
    wr_be32(&w, 4 + 24);
    wr_be32(&w, 0x45000018);
    wr_copy(&w, name, sizeof name);
    expect_good(lab_out(p.lab, cdb, 10, list, sizeof list));
    expect_good(out(&p, 'b', RESERVE, WE, 0xa, 0, 0));
    list[27] = 12; /* the list is not as long as it says */
    expect_good(out(&p, 'a', REGISTER, 0, 0xa, 0, 0));
    expect_field(lab_out(p.lab, cdb, 10, list, sizeof list), false, 24, 7);
    pair_end(&p);
}

HARNESS_TEST(a_nexus_is_the_same_in_capitals)
{
    struct pair p = pair_new();
    uint8_t list[128];
    size_t n = move_list(list, "IQN.2026-11.Lab:B,i,0x2", 2);
    uint8_t cdb[10] = {0x5f, MOVE, 0, 0, 0, 0, 0, 0, (uint8_t)n, 0};
    expect_good(out(&p, 'a', REGISTER, 0, 0, 0xa, 0));
    expect_good(out(&p, 'a', RESERVE, EA, 0xa, 0, 0));
    expect_good(lab_out(p.lab, cdb, 10, list, n));
    check_int(write_status(&p, 'b'), SCSI_GOOD);
    expect_good(out(&p, 'b', RELEASE, EA, 0xb, 0, 0));
    pair_end(&p);
}

HARNESS_TEST(all_target_ports_are_registered_together)
{
    scsi_set_ports(1u << 1 | 1u << 2);
    struct pair p = pair_new();
    expect_good(out(&p, 'a', REGISTER, 0, 0, 0xa, ALL_TG_PT));
    struct io *io = in(&p, 0);
    check_int(be(io->in + 4, 4), 16);
    expect_good(io);
    expect_good(out(&p, 'a', REGISTER, 0, 0xa, 0, 0));
    io = in(&p, 0);
    check_int(be(io->in + 4, 4), 0);
    expect_good(io);
    pair_end(&p);
    scsi_set_ports(1u << 1);
}

HARNESS_TEST(reserve_6_is_for_one_nexus_until_it_goes)
{
    struct pair p = pair_new();
    static const uint8_t reserve[6] = {0x16}, release[6] = {0x17}, tur[6] = {0},
                         inquiry[6] = {0x12, 0, 0, 0, 36};
    expect_good(lab_cmd(p.lab, reserve, 6));
    expect_good(lab_cmd(p.lab, reserve, 6));
    expect_status(as_b(&p, reserve, 6, NULL, 0), SCSI_RESERVATION_CONFLICT);
    expect_status(as_b(&p, tur, 6, NULL, 0), SCSI_RESERVATION_CONFLICT);
    expect_good(as_b(&p, release, 6, NULL, 0));
    check_int(read_status(&p, 'b'), SCSI_RESERVATION_CONFLICT);
    expect_good(as_b(&p, inquiry, 6, NULL, 0));
    expect_status(in(&p, 0), SCSI_RESERVATION_CONFLICT);
    expect_status(out(&p, 'b', REGISTER, 0, 0, 1, 0), SCSI_RESERVATION_CONFLICT);
    expect_good(lab_cmd(p.lab, release, 6));
    expect_good(as_b(&p, reserve, 6, NULL, 0));
    check_int(read_status(&p, 'a'), SCSI_RESERVATION_CONFLICT);
    lab_logout(&p.b, 1);
    while (read_status(&p, 'a') != SCSI_GOOD)
        task_sleep_us(100);
    p.b = lab_login(p.lab, 1, "iqn.2026-11.lab:b,i,0x2");
    pair_end(&p);
}

HARNESS_TEST(a_reset_ends_a_reserve_6)
{
    struct pair p = pair_new();
    static const uint8_t reserve[6] = {0x16}, tur[6] = {0};
    expect_good(lab_cmd(p.lab, reserve, 6));
    check_int(lab_tmf(p.b, 1, SCSI_LOGICAL_UNIT_RESET, 0, NULL), SCSI_TMF_COMPLETE);
    expect_sense(as_b(&p, tur, 6, NULL, 0), SENSE_LUN_RESET);
    check_int(read_status(&p, 'b'), SCSI_GOOD);
    pair_end(&p);
}

/* SPC-4, CRH: GOOD and nothing done for the holder, and for registrants of the types they share;
 * all others conflict as soon as anybody is registered. */
HARNESS_TEST(reserve_6_beside_registrations_does_nothing)
{
    static const struct {
        unsigned type;
        bool registrant;
    } rows[] = {{WE, false},   {EA, false},   {WE_RO, true},
                {EA_RO, true}, {WE_AR, true}, {EA_AR, true}};
    static const uint8_t cdbs[2][6] = {{0x16}, {0x17}};
    struct pair p = pair_new();
    for (unsigned k = 0; k < 2; k++) {
        const uint8_t *cdb = cdbs[k];
        for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            both_register(&p);
            expect_status(lab_cmd(p.lab, cdb, 6), SCSI_RESERVATION_CONFLICT); /* none is there */
            expect_good(out(&p, 'a', RESERVE, rows[i].type, 0xa, 0, 0));
            expect_good(lab_cmd(p.lab, cdb, 6));
            expect_status(as_b(&p, cdb, 6, NULL, 0),
                          rows[i].registrant ? SCSI_GOOD : SCSI_RESERVATION_CONFLICT);
            expect_good(out(&p, 'b', REGISTER, 0, 0xb, 0, 0));
            expect_status(as_b(&p, cdb, 6, NULL, 0), SCSI_RESERVATION_CONFLICT);
            expect_good(out(&p, 'a', RELEASE, rows[i].type, 0xa, 0, 0));
            expect_good(out(&p, 'a', CLEAR, 0, 0xa, 0, 0));
            check_int(write_status(&p, 'b'), SCSI_GOOD);
        }
    }
    pair_end(&p);
}

HARNESS_TEST(a_list_of_gigabytes_is_refused_before_there_is_room_for_it)
{
    struct pair p = pair_new();
    expect_field(CMD(p.lab, 0x5f, 0, 0, 0, 0, 0x80, 0, 0, 0, 0), true, 5, 7);
    pair_end(&p);
}

/* ---- through a loss of power */

static struct {
    uint8_t data[4096];
    size_t len;
    bool there;
    int fail;
} kept;

static int keep_load(const char *kind, const struct uuid *id, uint8_t **data_r, size_t *len_r)
{
    (void)id;
    if (!kept.there || strcmp(kind, "reservations"))
        return -ENOENT;
    *data_r = xcalloc(1, kept.len);
    memcpy(*data_r, kept.data, kept.len);
    *len_r = kept.len;
    return 0;
}

static int keep_save(const char *kind, const struct uuid *id, const void *data, size_t len)
{
    (void)kind, (void)id;
    if (kept.fail)
        return kept.fail;
    check(len <= sizeof kept.data);
    memcpy(kept.data, data, len);
    kept.len = len;
    kept.there = true;
    return 0;
}

static int keep_forget(const char *kind, const struct uuid *id)
{
    (void)kind, (void)id;
    kept.there = false;
    return 0;
}

static const struct scsi_store keep = {keep_load, keep_save, keep_forget, keep_load};

HARNESS_TEST(what_shall_outlive_power_does)
{
    scsi_set_store(&keep);
    struct pair p = pair_new();
    expect_good(out(&p, 'a', REGISTER, 0, 0, 0xa, APTPL));
    expect_good(out(&p, 'b', REGISTER, 0, 0, 0xb, APTPL));
    expect_good(out(&p, 'a', RESERVE, EA_RO, 0xa, 0, 0));
    pair_end(&p);
    check(kept.there);
    p = pair_new(); /* another device: the identity is not looked at here */
    struct io *io = in(&p, 1);
    check_int(be(io->in + 12, 4), 0xa);
    check_int(io->in[21], EA_RO);
    expect_good(io);
    io = in(&p, 2);
    check_int(io->in[3] & 1, 1);
    expect_good(io);
    expect_good(out(&p, 'b', REGISTER, 0, 0xb, 0xb, 0)); /* APTPL 0: no longer */
    check(!kept.there);
    pair_end(&p);
    scsi_set_store(NULL);
}

/* A LUN of its own for both hosts, read-only: a conflict goes before what else is wrong. */
HARNESS_TEST(a_conflict_is_told_before_write_protection_and_range)
{
    lab_mem("m", LAB_SIZE, 512);
    struct pair p = {.lab = lab_with(&(struct scsi_lun_args){.device = "m", .read_only = true})};
    p.b = lab_login(p.lab, 1, "iqn.2026-11.lab:b,i,0x2");
    expect_sense(as_b(&p, (const uint8_t[6]){0}, 6, NULL, 0), SENSE_POWER_ON);
    static const uint8_t beyond[10] = {0x28, 0, 0x7f, 0, 0, 0, 0, 0, 1, 0}, data[512];
    static const uint8_t unmap[10] = {0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0};
    expect_good(out(&p, 'a', REGISTER, 0, 0, 0xa, 0));
    expect_good(out(&p, 'a', RESERVE, EA, 0xa, 0, 0));
    check_int(write_status(&p, 'a'), SCSI_CHECK_CONDITION);
    check_int(write_status(&p, 'b'), SCSI_RESERVATION_CONFLICT);
    expect_status(as_b(&p, beyond, 10, NULL, 0), SCSI_RESERVATION_CONFLICT);
    expect_sense(lab_cmd(p.lab, beyond, 10), SENSE_LBA_OUT_OF_RANGE);
    expect_status(as_b(&p, unmap, 10, data, 512), SCSI_RESERVATION_CONFLICT);
    expect_good(out(&p, 'a', RELEASE, EA, 0xa, 0, 0));
    expect_good(out(&p, 'a', RESERVE, WE, 0xa, 0, 0));
    expect_sense(as_b(&p, beyond, 10, NULL, 0), SENSE_LBA_OUT_OF_RANGE); /* it may read */
    check_int(write_status(&p, 'b'), SCSI_RESERVATION_CONFLICT);
    pair_end(&p);
}

static int write_as(struct bdev_desc *desc, const char *nexus)
{
    uint8_t b[512] = {0};
    struct iovec iov = {b, sizeof b};
    struct bio bio;
    bio_init(&bio, desc, BIO_WRITE, 0, sizeof b, NULL, NULL);
    bio_data(&bio, &iov, 1);
    bio.nexus = gate_nexus(nexus);
    return bio_wait(&bio);
}

/* Whoever opens the device first, and whether or not a LUN is on it. */
HARNESS_TEST(a_saved_reservation_holds_before_anybody_can_open_the_device)
{
    scsi_set_store(&keep);
    struct pair p = pair_new();
    expect_good(out(&p, 'a', REGISTER, 0, 0, 0xa, APTPL));
    expect_good(out(&p, 'a', RESERVE, EA, 0xa, 0, 0));
    pair_end(&p);
    lab_mem("m", LAB_SIZE, 512);
    struct bdev_user user = {.label = "a test"};
    struct err e;
    struct bdev_desc *desc = bdev_open("m", CLAIM_SHARED_WRITE, &user, &e);
    check_int(write_as(desc, "nbd somebody"), -EBADE);
    check_int(bdev_write(desc, 0, "x", 1, 0), 0); /* the daemon's own */
    bdev_close(&desc);
    bdev_unregister(bdev_find("m"));

    kept.data[20] ^= 1; /* who holds it cannot be told: nobody gets through */
    lab_mem("m", LAB_SIZE, 512);
    desc = bdev_open("m", CLAIM_SHARED_WRITE, &user, &e);
    check_int(write_as(desc, "nbd somebody"), -EBADE);
    bdev_close(&desc);
    bdev_unregister(bdev_find("m"));
    kept.there = false;
    scsi_set_store(NULL);
}

HARNESS_TEST(nothing_changes_unless_it_could_be_kept)
{
    scsi_set_store(&keep);
    struct pair p = pair_new();
    kept.fail = -EIO;
    expect_sense(out(&p, 'a', REGISTER, 0, 0, 0xa, APTPL), SENSE_INTERNAL_FAILURE);
    kept.fail = 0;
    struct io *io = in(&p, 0);
    check_int(be(io->in + 4, 4), 0);
    expect_good(io);
    scsi_set_store(NULL);
    expect_field(out(&p, 'a', REGISTER, 0, 0, 0xa, APTPL), false, 20, 0);
    pair_end(&p);
}

HARNESS_TEST(a_damaged_record_keeps_the_lun_away)
{
    scsi_set_store(&keep);
    struct pair p = pair_new();
    struct err e;
    expect_good(out(&p, 'a', REGISTER, 0, 0, 0xa, APTPL));
    pair_end(&p);
    kept.data[20] ^= 1;
    lab_mem("m", LAB_SIZE, 512);
    struct scsi_target *t = scsi_target_new("iqn.2026-11.lab:u");
    struct scsi_lun_args args = {.device = "m", .label = "lab"};
    check_int(scsi_lun_add(t, &args, &e), -1);
    check(strstr(e.msg, "reservations"));
    scsi_target_free(&t);
    bdev_unregister(bdev_find("m"));
    kept.there = false;
    scsi_set_store(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_stops_whom_it_should),
        cmocka_unit_test(a_key_must_be_the_registered_one),
        cmocka_unit_test(keys_reservation_and_full_status_are_read),
        cmocka_unit_test(the_end_of_a_shared_reservation_is_told),
        cmocka_unit_test(preempting_takes_registration_and_reservation),
        cmocka_unit_test(preempt_and_abort_ends_the_others_commands),
        cmocka_unit_test(all_registrants_keep_it_until_the_last_goes),
        cmocka_unit_test(a_reservation_moves_to_another_nexus),
        cmocka_unit_test(spec_i_pt_registers_ports_that_are_not_there),
        cmocka_unit_test(a_nexus_is_the_same_in_capitals),
        cmocka_unit_test(all_target_ports_are_registered_together),
        cmocka_unit_test(reserve_6_is_for_one_nexus_until_it_goes),
        cmocka_unit_test(a_reset_ends_a_reserve_6),
        cmocka_unit_test(reserve_6_beside_registrations_does_nothing),
        cmocka_unit_test(a_list_of_gigabytes_is_refused_before_there_is_room_for_it),
        cmocka_unit_test(what_shall_outlive_power_does),
        cmocka_unit_test(a_conflict_is_told_before_write_protection_and_range),
        cmocka_unit_test(a_saved_reservation_holds_before_anybody_can_open_the_device),
        cmocka_unit_test(nothing_changes_unless_it_could_be_kept),
        cmocka_unit_test(a_damaged_record_keeps_the_lun_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
