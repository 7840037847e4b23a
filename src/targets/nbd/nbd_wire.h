/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_NBD_WIRE_H
#define ORION_TARGETS_NBD_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/*
 * What goes over the wire, from doc/proto.md of the NBD project (section names in quotes). All
 * numbers are big-endian. Everything here is pure: no I/O, no state.
 */
#define NBD_MAGIC 0x4e42444d41474943ull        /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC 0x49484156454f5054ull /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC 0x3e889045565a9ull
#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u

enum {
    NBD_HELLO_SIZE = 18, /* magic, option magic, 16 bits of handshake flags */
    NBD_OPTION_HEADER_SIZE = 16,
    NBD_OPTION_REPLY_SIZE = 20,
    NBD_REQUEST_SIZE = 28,
    NBD_SIMPLE_REPLY_SIZE = 16,
    NBD_STRING_MAX = 4096, /* "Protocol phases": the longest string of either side */
};

/* "Handshake flags", "Client flags" */
enum { NBD_FLAG_FIXED_NEWSTYLE = 1 << 0, NBD_FLAG_NO_ZEROES = 1 << 1 };

/* "Transmission flags" */
enum nbd_transmission_flag {
    NBD_FLAG_HAS_FLAGS = 1 << 0,
    NBD_FLAG_READ_ONLY = 1 << 1,
    NBD_FLAG_SEND_FLUSH = 1 << 2,
    NBD_FLAG_SEND_FUA = 1 << 3,
    NBD_FLAG_ROTATIONAL = 1 << 4,
    NBD_FLAG_SEND_TRIM = 1 << 5,
    NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
    NBD_FLAG_SEND_DF = 1 << 7,
    NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
    NBD_FLAG_SEND_CACHE = 1 << 10,
    NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
};

/* "Option types" */
enum nbd_option {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
};

/* "Option reply types" */
#define NBD_REP_ERROR(n) (0x80000000u | (n))
enum nbd_option_reply {
    NBD_REP_ACK = 1,
    NBD_REP_SERVER = 2,
    NBD_REP_INFO = 3,
};
#define NBD_REP_ERR_UNSUP NBD_REP_ERROR(1u)
#define NBD_REP_ERR_POLICY NBD_REP_ERROR(2u)
#define NBD_REP_ERR_INVALID NBD_REP_ERROR(3u)
#define NBD_REP_ERR_UNKNOWN NBD_REP_ERROR(6u)
#define NBD_REP_ERR_SHUTDOWN NBD_REP_ERROR(7u)
#define NBD_REP_ERR_TOO_BIG NBD_REP_ERROR(9u)

enum nbd_info_type {
    NBD_INFO_EXPORT = 0,
    NBD_INFO_NAME = 1,
    NBD_INFO_DESCRIPTION = 2,
    NBD_INFO_BLOCK_SIZE = 3,
    NBD_INFO_COUNT
};

/* "Request types", "Command flags" */
enum nbd_command {
    NBD_CMD_READ = 0,
    NBD_CMD_WRITE = 1,
    NBD_CMD_DISC = 2,
    NBD_CMD_FLUSH = 3,
    NBD_CMD_TRIM = 4,
    NBD_CMD_CACHE = 5,
    NBD_CMD_WRITE_ZEROES = 6,
};
enum nbd_command_flag {
    NBD_CMD_FLAG_FUA = 1 << 0,
    NBD_CMD_FLAG_NO_HOLE = 1 << 1,
    NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
};

/* "Error values" */
enum nbd_error {
    NBD_OK = 0,
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_ENOTSUP = 95,
    NBD_ESHUTDOWN = 108,
};

/* ---- handshake */
struct nbd_option_header {
    uint32_t option, length; /* length of the data that follows */
};
/* Reads NBD_OPTION_HEADER_SIZE bytes; false: the magic is wrong or the bytes are not there. */
bool nbd_parse_option_header(struct rd *r, struct nbd_option_header *header_r);

struct nbd_info_request {
    const char *name; /* not terminated; points into the cursor's bytes */
    uint32_t name_len;
    uint32_t wanted; /* bit (1 << enum nbd_info_type) per known item asked for */
};
/* The data of INFO and GO, all of it: false when lengths do not add up. */
bool nbd_parse_info_request(struct rd *r, struct nbd_info_request *request_r);

/* ---- transmission */
struct nbd_request {
    uint16_t flags, type;
    uint64_t cookie, offset;
    uint32_t length;
};
/* Reads NBD_REQUEST_SIZE bytes; false: the magic is wrong or the bytes are not there. */
bool nbd_parse_request(struct rd *r, struct nbd_request *request_r);

/* What a connection may ask for, as advertised. */
struct nbd_limits {
    uint64_t size;
    uint32_t block_size;  /* power of two: unit of offsets and lengths */
    uint32_t max_payload; /* longest READ or WRITE */
    uint16_t flags;       /* enum nbd_transmission_flag */
};
/* NBD_OK, or the error that the specification names for a request that cannot be served. DISC is
 * always fine. Bytes that follow a WRITE's header are the caller's to skip. */
enum nbd_error nbd_check_request(const struct nbd_limits *limits,
                                 const struct nbd_request *request);

/* The one table from the block layer's error classes to the protocol's. `error` is 0 or -errno. */
enum nbd_error nbd_error_of(int error, const struct nbd_request *request);

const char *nbd_error_name(enum nbd_error error);

#endif
