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
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efu
/* The extension EXTENDED_HEADERS (proto.md of the branch extension-ext-header). */
#define NBD_EXTENDED_REQUEST_MAGIC 0x21e41c71u
#define NBD_EXTENDED_REPLY_MAGIC 0x6e8a278cu

enum {
    NBD_HELLO_SIZE = 18, /* magic, option magic, 16 bits of handshake flags */
    NBD_OPTION_HEADER_SIZE = 16,
    NBD_OPTION_REPLY_SIZE = 20,
    NBD_REQUEST_SIZE = 28,
    NBD_EXTENDED_REQUEST_SIZE = 32,
    NBD_SIMPLE_REPLY_SIZE = 16,
    NBD_STRUCTURED_REPLY_SIZE = 20,
    NBD_EXTENDED_REPLY_SIZE = 32,
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
    NBD_FLAG_BLOCK_STATUS_PAYLOAD = 1 << 12, /* EXTENDED_HEADERS */
};

/* "Option types" */
enum nbd_option {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10,
    NBD_OPT_EXTENDED_HEADERS = 11,
};

/* "Option reply types" */
#define NBD_REP_ERROR(n) (0x80000000u | (n))
enum nbd_option_reply {
    NBD_REP_ACK = 1,
    NBD_REP_SERVER = 2,
    NBD_REP_INFO = 3,
    NBD_REP_META_CONTEXT = 4,
};
#define NBD_REP_ERR_UNSUP NBD_REP_ERROR(1u)
#define NBD_REP_ERR_POLICY NBD_REP_ERROR(2u)
#define NBD_REP_ERR_INVALID NBD_REP_ERROR(3u)
#define NBD_REP_ERR_TLS_REQD NBD_REP_ERROR(5u)
#define NBD_REP_ERR_UNKNOWN NBD_REP_ERROR(6u)
#define NBD_REP_ERR_SHUTDOWN NBD_REP_ERROR(7u)
#define NBD_REP_ERR_TOO_BIG NBD_REP_ERROR(9u)
#define NBD_REP_ERR_EXT_HEADER_REQD NBD_REP_ERROR(10u)

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
    NBD_CMD_BLOCK_STATUS = 7,
};
enum nbd_command_flag {
    NBD_CMD_FLAG_FUA = 1 << 0,
    NBD_CMD_FLAG_NO_HOLE = 1 << 1,
    NBD_CMD_FLAG_DF = 1 << 2,
    NBD_CMD_FLAG_REQ_ONE = 1 << 3,
    NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
    NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5, /* EXTENDED_HEADERS */
};

/* "Structured reply flags", "Structured reply types" */
enum { NBD_REPLY_FLAG_DONE = 1 << 0 };
enum nbd_reply_type {
    NBD_REPLY_TYPE_NONE = 0,
    NBD_REPLY_TYPE_OFFSET_DATA = 1,
    NBD_REPLY_TYPE_OFFSET_HOLE = 2,
    NBD_REPLY_TYPE_BLOCK_STATUS = 5,
    NBD_REPLY_TYPE_BLOCK_STATUS_EXT = 6, /* EXTENDED_HEADERS */
    NBD_REPLY_TYPE_ERROR = 32769,
    NBD_REPLY_TYPE_ERROR_OFFSET = 32770,
};

/* "base:allocation metadata context"; we have no other, and give it this ID. */
#define NBD_CONTEXT_ALLOCATION "base:allocation"
enum { NBD_CONTEXT_ALLOCATION_ID = 1 };
enum { NBD_STATE_HOLE = 1 << 0, NBD_STATE_ZERO = 1 << 1 };

/* What the client negotiated: each takes in the one before. */
enum nbd_mode { NBD_MODE_SIMPLE, NBD_MODE_STRUCTURED, NBD_MODE_EXTENDED };

/* "Error values" */
enum nbd_error {
    NBD_OK = 0,
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_EOVERFLOW = 75,
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

struct nbd_meta_request {
    const char *name; /* not terminated; points into the cursor's bytes */
    uint32_t name_len;
    uint32_t count;  /* of queries */
    bool all;        /* a query is "base:" */
    bool allocation; /* a query is "base:allocation" */
};
/* The data of LIST_META_CONTEXT and SET_META_CONTEXT: false when lengths do not add up, a string is
 * too long, or a query has no namespace. */
bool nbd_parse_meta_request(struct rd *r, struct nbd_meta_request *request_r);

/* ---- transmission */
struct nbd_request {
    uint16_t flags, type;
    uint64_t cookie, offset;
    uint64_t length;  /* of what it has an effect on */
    uint64_t payload; /* bytes that follow the header */
};
static inline unsigned nbd_request_size(enum nbd_mode mode)
{
    return mode == NBD_MODE_EXTENDED ? NBD_EXTENDED_REQUEST_SIZE : NBD_REQUEST_SIZE;
}
/* Reads nbd_request_size() bytes; false: the magic is wrong or the bytes are not there. */
bool nbd_parse_request(struct rd *r, enum nbd_mode mode, struct nbd_request *request_r);

/* The payload of a BLOCK_STATUS: 64 bits of length, then 32 bits for each context asked for. */
enum { NBD_STATUS_PAYLOAD_MIN = 12, NBD_STATUS_PAYLOAD_MAX = 8 + 4 * 32 };
/* Sets request->length. NBD_EINVAL: a context that was not set, or twice, or none. */
enum nbd_error nbd_parse_status_payload(struct rd *r, struct nbd_request *request);

/* What a connection may ask for, as advertised. */
struct nbd_limits {
    uint64_t size;
    uint32_t max_payload; /* longest READ or WRITE */
    uint16_t flags;       /* enum nbd_transmission_flag */
    uint8_t mode;         /* enum nbd_mode */
    bool allocation;      /* the client has set base:allocation */
};
/* NBD_OK, or the error that the specification names for a request that cannot be served. DISC is
 * always fine. The payload is the caller's to skip. The range of a BLOCK_STATUS with a payload is
 * checked when that has come, by nbd_check_range. */
enum nbd_error nbd_check_request(const struct nbd_limits *limits,
                                 const struct nbd_request *request);
enum nbd_error nbd_check_range(const struct nbd_limits *limits, const struct nbd_request *request);

/* The one table from the block layer's error classes to the protocol's. `error` is 0 or -errno. */
enum nbd_error nbd_error_of(int error, const struct nbd_request *request);

const char *nbd_error_name(enum nbd_error error);
/* A sentence for people at the client. */
const char *nbd_error_text(enum nbd_error error);

#endif
