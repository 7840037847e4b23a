/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_SCSI_OPCODE_H
#define ORION_TARGETS_SCSI_OPCODE_H

#include <stdbool.h>
#include <stdint.h>

#include "targets/scsi/scsi.h"

/*
 * The table of commands. It drives dispatch, validation of CDBs, REPORT SUPPORTED OPCODES and its
 * tests: a command that is not in it does not exist.
 */
enum scsi_op_flags {
    OP_NO_MEDIUM = 1 << 0,  /* works while the device is absent */
    OP_NO_UA = 1 << 1,      /* a pending unit attention does not stop it (SAM-5, unit attention) */
    OP_NO_LUN = 1 << 2,     /* answers where there is no LUN */
    OP_WELL_KNOWN = 1 << 3, /* the REPORT LUNS well-known LUN has it */
    OP_WRITES = 1 << 4, /* changes the medium: refused when write-protected (UNMAP looks itself) */
    OP_RANGE = 1 << 5,  /* lba and count must be on the medium */
    OP_MOVES = 1 << 6,  /* moves count blocks of data */
    OP_LENGTH = 1 << 7, /* count is an allocation or parameter list length, in bytes */
    OP_LBP = 1 << 8,    /* exists only where provisioning is managed */
    OP_FUA = 1 << 9,    /* byte 1 bit 3 */
    OP_EXACT = 1 << 10, /* the announced length must be the command's */
    OP_PARTIAL = 1 << 12, /* less data-out than the command's is fine */
    OP_UNMAP = 1 << 11,   /* has an UNMAP bit, byte 1 bit 3, where provisioning is managed */
    /* Under somebody else's reservation (SPC-4 and SBC-3, tables "allowed commands"). None of these
     * three: a conflict unless the nexus may write. */
    OP_FREE = 1 << 13,     /* goes through, or checks for itself */
    OP_READS = 1 << 14,    /* allowed to whom a read is */
    OP_RELEASE = 1 << 16,  /* RELEASE(6): not stopped by a RESERVE(6) either */
    OP_ANY_PATH = 1 << 17, /* works through a port in standby, or unavailable, too */
    OP_STANDBY = 1 << 19,  /* through a port in standby only (and the active ones) */
    OP_UNREADY = 1 << 18,  /* answers while the medium is sanitized */
    OP_GATED = 1 << 15,    /* all it does are bios, which the gate checks: no need to ask before */
};

enum { OP_NO_SA = 0xffff };

struct scsi_opcode {
    uint8_t opcode;
    uint8_t cdb_len;
    uint16_t sa; /* service action (byte 1 bits 4..0), or OP_NO_SA */
    uint8_t dir; /* enum scsi_dir */
    uint32_t flags;
    uint8_t lba_at, lba_len, count_at, count_len; /* fields of the CDB; length 0: none */
    uint16_t timeout;                             /* recommended, in seconds */
    /* Checks what the flags do not say and sets cmd->length. NULL: nothing to do. False: the
     * command is finished (scsi_refuse). */
    bool (*prepare)(struct scsi_cmd *cmd);
    void (*run)(struct scsi_cmd *cmd);
    uint8_t usage[16]; /* CDB usage data: bits evaluated; byte 0 the opcode */
    const char *name;
};

void scsi_opcodes_init(void); /* main, once before the first command; more often is fine */
/* NULL: no such command. *has_sa_r (may be NULL): the opcode has service actions. */
const struct scsi_opcode *scsi_opcode_find(uint8_t opcode, unsigned sa, bool *has_sa_r);
const struct scsi_opcode *scsi_opcode_of_cdb(const uint8_t *cdb);
/* 0: the CDB has no bit outside the usage mask; else 1 + byte * 8 + bit of the first one. */
unsigned scsi_opcode_check(const struct scsi_opcode *op, const uint8_t *cdb);
const struct scsi_opcode *scsi_opcode_table(unsigned *count_r);
/* The usage mask as a LUN has it. */
void scsi_opcode_usage(const struct scsi_opcode *op, bool lbp, uint8_t usage_r[16]);
bool scsi_opcode_present(const struct scsi_opcode *op, bool lbp);

/* ---- the commands, by file */
/* inquiry.c */
void scsi_run_inquiry(struct scsi_cmd *cmd);
bool scsi_prepare_inquiry(struct scsi_cmd *cmd);
void scsi_run_request_sense(struct scsi_cmd *cmd);
/* report.c */
void scsi_run_nothing(struct scsi_cmd *cmd); /* the checks were all there is to do */
void scsi_run_send_diagnostic(struct scsi_cmd *cmd);
void scsi_run_report_luns(struct scsi_cmd *cmd);
void scsi_run_report_opcodes(struct scsi_cmd *cmd);
void scsi_run_report_tmf(struct scsi_cmd *cmd);
void scsi_run_read_capacity10(struct scsi_cmd *cmd);
void scsi_run_read_capacity16(struct scsi_cmd *cmd);
bool scsi_prepare_start_stop(struct scsi_cmd *cmd);
void scsi_run_start_stop(struct scsi_cmd *cmd);
bool scsi_prepare_prevent(struct scsi_cmd *cmd);
/* mode.c */
void scsi_run_mode_sense(struct scsi_cmd *cmd);
void scsi_run_mode_select(struct scsi_cmd *cmd);
/* rw.c */
bool scsi_prepare_rw6(struct scsi_cmd *cmd);
void scsi_run_read(struct scsi_cmd *cmd);
void scsi_run_write(struct scsi_cmd *cmd);
void scsi_run_sync(struct scsi_cmd *cmd);
void scsi_run_prefetch(struct scsi_cmd *cmd);
/* verify.c */
bool scsi_prepare_verify(struct scsi_cmd *cmd);
void scsi_run_verify(struct scsi_cmd *cmd);
bool scsi_prepare_write_verify(struct scsi_cmd *cmd);
void scsi_run_write_verify(struct scsi_cmd *cmd);
/* caw.c */
bool scsi_prepare_caw(struct scsi_cmd *cmd);
void scsi_run_caw(struct scsi_cmd *cmd);
/* provisioning.c */
void scsi_run_unmap(struct scsi_cmd *cmd);
bool scsi_prepare_write_same(struct scsi_cmd *cmd);
void scsi_run_write_same(struct scsi_cmd *cmd);
void scsi_run_get_lba_status(struct scsi_cmd *cmd);

/* xcopy.c */
void scsi_run_extended_copy(struct scsi_cmd *cmd);
void scsi_run_copy_status(struct scsi_cmd *cmd);
void scsi_run_copy_data(struct scsi_cmd *cmd);
void scsi_run_copy_parameters(struct scsi_cmd *cmd);
void scsi_run_copy_failure(struct scsi_cmd *cmd);
/* orwrite.c */
bool scsi_prepare_orwrite(struct scsi_cmd *cmd);
void scsi_run_orwrite(struct scsi_cmd *cmd);
/* log.c */
void scsi_run_log_sense(struct scsi_cmd *cmd);
void scsi_run_log_select(struct scsi_cmd *cmd);
void scsi_run_read_defects(struct scsi_cmd *cmd);
/* sanitize.c */
void scsi_run_sanitize(struct scsi_cmd *cmd);
/* alua.c */
void scsi_run_report_groups(struct scsi_cmd *cmd);
void scsi_run_set_groups(struct scsi_cmd *cmd);
/* reserve.c */
void scsi_run_reserve6(struct scsi_cmd *cmd);
void scsi_run_release6(struct scsi_cmd *cmd);
/* prin.c */
void scsi_run_pr_in(struct scsi_cmd *cmd);
/* prout.c */
void scsi_run_pr_out(struct scsi_cmd *cmd);

/* vpd.c: fills the whole page; false: there is no such page. */
struct wr;
bool scsi_vpd_page(const struct scsi_cmd *cmd, uint8_t page, struct wr *w);

#endif
