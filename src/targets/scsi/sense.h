/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_SCSI_SENSE_H
#define ORION_TARGETS_SCSI_SENSE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Sense data (SPC-4): what went wrong, as a sense key, additional sense code and qualifier, in
 * fixed (70h) or descriptor (72h) format. Codes are kept as one number, 0xKKAAQQ.
 */
enum sense_code {
    SENSE_NONE = 0x000000,
    SENSE_BECOMING_READY = 0x020401,
    SENSE_PORT_STANDBY = 0x02040b,
    SENSE_PORT_UNAVAILABLE = 0x02040c,
    SENSE_SANITIZING = 0x02041b,
    SENSE_SANITIZE_FAILED = 0x033103, /* medium error */
    SENSE_WRITE_ERROR = 0x030c00,
    SENSE_CRC_ERROR = 0x031000,
    SENSE_READ_ERROR = 0x031100,
    SENSE_SELF_TEST_FAILED = 0x043e03,
    SENSE_INTERNAL_FAILURE = 0x044400,
    SENSE_SET_GROUPS_FAILED = 0x04670a,
    SENSE_PARAMETER_LIST_LENGTH = 0x051a00,
    SENSE_INVALID_OPCODE = 0x052000,
    SENSE_LBA_OUT_OF_RANGE = 0x052100,
    SENSE_INVALID_FIELD_IN_CDB = 0x052400,
    SENSE_NO_SUCH_LUN = 0x052500,
    SENSE_INVALID_FIELD_IN_PARAMETERS = 0x052600,
    SENSE_INVALID_RELEASE = 0x052604,
    SENSE_NO_REGISTRATION_ROOM = 0x055504,
    SENSE_TOO_MANY_CSCDS = 0x052606,
    SENSE_UNSUPPORTED_CSCD = 0x052607,
    SENSE_TOO_MANY_SEGMENTS = 0x052608,
    SENSE_UNSUPPORTED_SEGMENT = 0x052609,
    SENSE_INLINE_DATA_TOO_LONG = 0x05260b,
    SENSE_OPERATION_IN_PROGRESS = 0x0b0016,
    SENSE_NO_SAVED_PARAMETERS = 0x053900,
    SENSE_INVALID_MESSAGE = 0x054900,
    SENSE_INFORMATION_UNIT = 0x050e03, /* invalid field in command information unit */
    SENSE_POWER_ON = 0x062900,
    SENSE_LUN_RESET = 0x062903, /* bus device reset function occurred */
    SENSE_READY_CHANGE = 0x062800,
    SENSE_MODE_CHANGED = 0x062a01,
    SENSE_RESERVATIONS_PREEMPTED = 0x062a03,
    SENSE_RESERVATIONS_RELEASED = 0x062a04,
    SENSE_REGISTRATIONS_PREEMPTED = 0x062a05,
    SENSE_ALUA_CHANGED = 0x062a06,
    SENSE_LOG_CHANGED = 0x062a02,
    SENSE_CAPACITY_CHANGED = 0x062a09,
    SENSE_LUNS_CHANGED = 0x063f0e,
    SENSE_THIN_THRESHOLD = 0x063807,
    SENSE_WRITE_PROTECTED = 0x072700,
    SENSE_NO_SPACE = 0x072707,
    SENSE_COMMUNICATION_TIMEOUT = 0x0b0801,
    SENSE_THIRD_PARTY_FAILURE = 0x0a0d01,
    SENSE_COPY_UNREACHABLE = 0x0a0d02,
    SENSE_COPY_ABORTED = 0x0a0000,
    SENSE_MISCOMPARE = 0x0e1d00,
};

/* Sense data before it is put into a format. */
struct sense {
    enum sense_code code;
    bool has_info;
    uint64_t info; /* INFORMATION: an LBA, or a byte offset for MISCOMPARE */
    bool has_command;
    uint32_t command;  /* COMMAND-SPECIFIC INFORMATION; EXTENDED COPY: the segment's number */
    bool has_field;    /* ILLEGAL REQUEST: the field pointer */
    bool field_in_cdb; /* else in the parameter list */
    uint8_t bit;       /* 0..7, the most significant wrong bit; 0xff: none in particular */
    uint16_t field;    /* byte */
    bool has_progress; /* NOT READY, NO SENSE: in 65536ths */
    uint16_t progress;
};

enum { SENSE_FIXED_LEN = 18, SENSE_DESCRIPTOR_MAX = 8 + 12 + 12 + 8 };

/* Returns the length: 18 in fixed format, 8 and the descriptors in descriptor format. An
 * INFORMATION of more than 32 bits does not fit the fixed format, and is left out there (VALID is
 * 0). */
unsigned sense_format(const struct sense *s, bool descriptor, uint8_t *out, unsigned cap);

/*
 * The one table: class of a bio's error -> what SCSI says. `write` tells a write error from a read
 * error. Returns the SCSI status (CHECK CONDITION, BUSY or RESERVATION CONFLICT); *code_r is set
 * with the first of them.
 */
uint8_t sense_of_errno(int error, bool write, enum sense_code *code_r);

#endif
