/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/nbd/nbd_wire.h"

#include <errno.h>
#include <string.h>

bool nbd_parse_option_header(struct rd *r, struct nbd_option_header *header_r)
{
    uint64_t magic = rd_be64(r);
    header_r->option = rd_be32(r);
    header_r->length = rd_be32(r);
    return rd_ok(r) && magic == NBD_OPTION_MAGIC;
}

bool nbd_parse_info_request(struct rd *r, struct nbd_info_request *request_r)
{
    request_r->name_len = rd_be32(r);
    request_r->name = (const char *)rd_bytes(r, request_r->name_len);
    request_r->wanted = 0;
    uint16_t count = rd_be16(r);
    if (!rd_ok(r) || request_r->name_len > NBD_STRING_MAX || rd_left(r) != count * 2u)
        return false;
    while (count--) {
        uint16_t type = rd_be16(r);
        if (type < NBD_INFO_COUNT)
            request_r->wanted |= 1u << type;
    }
    return true;
}

bool nbd_parse_meta_request(struct rd *r, struct nbd_meta_request *request_r)
{
    static const char allocation[] = NBD_CONTEXT_ALLOCATION;
    *request_r = (struct nbd_meta_request){.name_len = rd_be32(r)};
    request_r->name = (const char *)rd_bytes(r, request_r->name_len);
    request_r->count = rd_be32(r);
    if (!rd_ok(r) || request_r->name_len > NBD_STRING_MAX)
        return false;
    for (uint32_t i = 0; i < request_r->count; i++) {
        uint32_t len = rd_be32(r);
        const char *query = (const char *)rd_bytes(r, len);
        if (!rd_ok(r) || len > NBD_STRING_MAX || !memchr(query, ':', len))
            return false;
        if (len == 5 && !memcmp(query, allocation, 5))
            request_r->all = true;
        if (len == sizeof allocation - 1 && !memcmp(query, allocation, len))
            request_r->allocation = true;
    }
    return !rd_left(r);
}

bool nbd_parse_request(struct rd *r, enum nbd_mode mode, struct nbd_request *request_r)
{
    bool extended = mode == NBD_MODE_EXTENDED;
    uint32_t magic = rd_be32(r);
    request_r->flags = rd_be16(r);
    request_r->type = rd_be16(r);
    request_r->cookie = rd_be64(r);
    request_r->offset = rd_be64(r);
    request_r->length = extended ? rd_be64(r) : rd_be32(r);
    /* With extended headers a WRITE has to carry the flag; qemu's (8.2 to 10.0) does not, and sends
     * its data all the same, so nothing else can be meant. */
    bool follows = request_r->type == NBD_CMD_WRITE ||
                   (extended && request_r->flags & NBD_CMD_FLAG_PAYLOAD_LEN);
    request_r->payload = follows ? request_r->length : 0;
    return rd_ok(r) && magic == (extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
}

enum nbd_error nbd_parse_status_payload(struct rd *r, struct nbd_request *request)
{
    /* There is one context, and none may be named twice. */
    request->length = rd_be64(r);
    uint32_t id = rd_be32(r);
    return rd_ok(r) && !rd_left(r) && id == NBD_CONTEXT_ALLOCATION_ID ? NBD_OK : NBD_EINVAL;
}

/* Which transmission flag exposes a command, and which command flags it takes besides FUA ("valid
 * for all commands, provided NBD_FLAG_SEND_FUA has been negotiated"). */
static const struct rule {
    bool known, writes, data, range;
    uint16_t needs;
    uint16_t flags;
} rules[] = {
    [NBD_CMD_READ] = {.known = true, .data = true, .range = true, .flags = NBD_CMD_FLAG_DF},
    [NBD_CMD_WRITE] = {.known = true,
                       .writes = true,
                       .data = true,
                       .range = true,
                       .flags = NBD_CMD_FLAG_PAYLOAD_LEN},
    [NBD_CMD_DISC] = {.known = true},
    [NBD_CMD_FLUSH] = {.known = true, .needs = NBD_FLAG_SEND_FLUSH},
    [NBD_CMD_TRIM] = {.known = true, .writes = true, .range = true, .needs = NBD_FLAG_SEND_TRIM},
    [NBD_CMD_CACHE] = {.known = true, .range = true, .needs = NBD_FLAG_SEND_CACHE},
    [NBD_CMD_WRITE_ZEROES] = {.known = true,
                              .writes = true,
                              .range = true,
                              .needs = NBD_FLAG_SEND_WRITE_ZEROES,
                              .flags = NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO},
    [NBD_CMD_BLOCK_STATUS] = {.known = true,
                              .range = true,
                              .flags = NBD_CMD_FLAG_REQ_ONE | NBD_CMD_FLAG_PAYLOAD_LEN},
};

static uint16_t allowed_flags(const struct nbd_limits *limits, const struct rule *rule)
{
    uint16_t allowed = rule->flags;
    if (limits->flags & NBD_FLAG_SEND_FUA)
        allowed |= NBD_CMD_FLAG_FUA;
    if (!(limits->flags & NBD_FLAG_SEND_FAST_ZERO))
        allowed &= (uint16_t)~NBD_CMD_FLAG_FAST_ZERO;
    if (!(limits->flags & NBD_FLAG_SEND_DF))
        allowed &= (uint16_t)~NBD_CMD_FLAG_DF;
    if (limits->mode != NBD_MODE_EXTENDED)
        allowed &= (uint16_t)~NBD_CMD_FLAG_PAYLOAD_LEN;
    return allowed;
}

enum nbd_error nbd_check_range(const struct nbd_limits *limits, const struct nbd_request *request)
{
    bool takes_space = request->type == NBD_CMD_WRITE || request->type == NBD_CMD_WRITE_ZEROES;
    if (!request->length)
        return NBD_EINVAL;
    if (request->offset > limits->size || request->length > limits->size - request->offset)
        return takes_space ? NBD_ENOSPC : NBD_EINVAL;
    return NBD_OK;
}

static enum nbd_error check_status(const struct nbd_limits *limits,
                                   const struct nbd_request *request)
{
    if (!limits->allocation)
        return NBD_EINVAL;
    if (!(request->flags & NBD_CMD_FLAG_PAYLOAD_LEN))
        return nbd_check_range(limits, request);
    return request->payload >= NBD_STATUS_PAYLOAD_MIN && request->payload <= NBD_STATUS_PAYLOAD_MAX
               ? NBD_OK
               : NBD_EINVAL;
}

enum nbd_error nbd_check_request(const struct nbd_limits *limits, const struct nbd_request *request)
{
    if (request->type >= sizeof rules / sizeof *rules || !rules[request->type].known)
        return NBD_EINVAL;
    if (request->type == NBD_CMD_DISC)
        return NBD_OK;
    const struct rule *rule = &rules[request->type];
    if (rule->writes && limits->flags & NBD_FLAG_READ_ONLY)
        return NBD_EPERM;
    if (request->flags & ~allowed_flags(limits, rule) ||
        (limits->flags & rule->needs) != rule->needs)
        return NBD_EINVAL;
    if (!rule->range) /* "length and offset are reserved, and MUST be set to all-zero" */
        return request->offset || request->length ? NBD_EINVAL : NBD_OK;
    if (request->type == NBD_CMD_BLOCK_STATUS)
        return check_status(limits, request);
    if (request->type == NBD_CMD_WRITE && !request->payload)
        return NBD_EINVAL;
    enum nbd_error error = nbd_check_range(limits, request);
    if (error || !rule->data || request->length <= limits->max_payload)
        return error;
    /* "SHOULD NOT return NBD_EOVERFLOW except as documented ... when NBD_CMD_FLAG_DF is supported"
     */
    return request->type == NBD_CMD_READ && limits->mode >= NBD_MODE_STRUCTURED ? NBD_EOVERFLOW
                                                                                : NBD_EINVAL;
}

enum nbd_error nbd_error_of(int error, const struct nbd_request *request)
{
    switch (error) {
    case 0: return NBD_OK;
    case -EROFS:
    case -EBADE: /* another initiator's reservation */
    case -EPERM: return NBD_EPERM;
    case -ENOSPC:
    case -EDQUOT:
    case -EFBIG: return NBD_ENOSPC;
    case -EINVAL: return NBD_EINVAL;
    case -ENXIO: /* the device shrank since the check */
        return request->type == NBD_CMD_WRITE || request->type == NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC
                                                                                       : NBD_EINVAL;
    case -EOPNOTSUPP: /* ENOTSUP is for fast zeroes only */
        if (request->flags & NBD_CMD_FLAG_FAST_ZERO)
            return NBD_ENOTSUP;
        return request->type == NBD_CMD_TRIM || request->type == NBD_CMD_CACHE
                   ? NBD_OK /* both are hints */
                   : NBD_EINVAL;
    case -ENODEV: return NBD_ESHUTDOWN;
    case -ENOMEM: return NBD_ENOMEM;
    default: return NBD_EIO; /* EIO, ENODATA, EILSEQ, ETIMEDOUT, ... */
    }
}

const char *nbd_error_name(enum nbd_error error)
{
    switch (error) {
    case NBD_OK: return "OK";
    case NBD_EPERM: return "EPERM";
    case NBD_EIO: return "EIO";
    case NBD_ENOMEM: return "ENOMEM";
    case NBD_EINVAL: return "EINVAL";
    case NBD_ENOSPC: return "ENOSPC";
    case NBD_EOVERFLOW: return "EOVERFLOW";
    case NBD_ENOTSUP: return "ENOTSUP";
    case NBD_ESHUTDOWN: return "ESHUTDOWN";
    }
    return "?";
}

const char *nbd_error_text(enum nbd_error error)
{
    switch (error) {
    case NBD_OK: return "done";
    case NBD_EPERM: return "the export is read-only, or reserved by somebody else";
    case NBD_EIO: return "the device reports an error";
    case NBD_ENOMEM: return "the server is out of memory";
    case NBD_EINVAL: return "the request is not valid, or ends beyond the export";
    case NBD_ENOSPC: return "beyond the end of the export, or the device is out of space";
    case NBD_EOVERFLOW: return "longer than the longest request";
    case NBD_ENOTSUP: return "this cannot be zeroed faster than by writing";
    case NBD_ESHUTDOWN: return "the device is gone or going";
    }
    return "";
}
