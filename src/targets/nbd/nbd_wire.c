/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/nbd/nbd_wire.h"

#include <errno.h>

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

bool nbd_parse_request(struct rd *r, struct nbd_request *request_r)
{
    uint32_t magic = rd_be32(r);
    request_r->flags = rd_be16(r);
    request_r->type = rd_be16(r);
    request_r->cookie = rd_be64(r);
    request_r->offset = rd_be64(r);
    request_r->length = rd_be32(r);
    return rd_ok(r) && magic == NBD_REQUEST_MAGIC;
}

/* Which transmission flag exposes a command, and which command flags it takes besides FUA ("valid
 * for all commands, provided NBD_FLAG_SEND_FUA has been negotiated"). */
static const struct rule {
    bool known, writes, payload, range;
    uint16_t needs;
    uint16_t flags;
} rules[] = {
    [NBD_CMD_READ] = {.known = true, .payload = true, .range = true},
    [NBD_CMD_WRITE] = {.known = true, .writes = true, .payload = true, .range = true},
    [NBD_CMD_DISC] = {.known = true},
    [NBD_CMD_FLUSH] = {.known = true, .needs = NBD_FLAG_SEND_FLUSH},
    [NBD_CMD_TRIM] = {.known = true, .writes = true, .range = true, .needs = NBD_FLAG_SEND_TRIM},
    [NBD_CMD_CACHE] = {.known = true, .range = true, .needs = NBD_FLAG_SEND_CACHE},
    [NBD_CMD_WRITE_ZEROES] = {.known = true,
                              .writes = true,
                              .range = true,
                              .needs = NBD_FLAG_SEND_WRITE_ZEROES,
                              .flags = NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO},
};

enum nbd_error nbd_check_request(const struct nbd_limits *limits, const struct nbd_request *request)
{
    if (request->type >= sizeof rules / sizeof *rules || !rules[request->type].known)
        return NBD_EINVAL;
    if (request->type == NBD_CMD_DISC)
        return NBD_OK;
    const struct rule *rule = &rules[request->type];
    if (rule->writes && limits->flags & NBD_FLAG_READ_ONLY)
        return NBD_EPERM;
    uint16_t allowed = rule->flags;
    if (limits->flags & NBD_FLAG_SEND_FUA)
        allowed |= NBD_CMD_FLAG_FUA;
    if (!(limits->flags & NBD_FLAG_SEND_FAST_ZERO))
        allowed &= (uint16_t)~NBD_CMD_FLAG_FAST_ZERO;
    if ((request->flags & ~allowed) || (limits->flags & rule->needs) != rule->needs)
        return NBD_EINVAL;
    if (!rule->range) /* "length and offset are reserved, and MUST be set to all-zero" */
        return request->offset || request->length ? NBD_EINVAL : NBD_OK;
    if (!request->length)
        return NBD_EINVAL;
    if (request->offset > limits->size || request->length > limits->size - request->offset)
        return request->type == NBD_CMD_WRITE || request->type == NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC
                                                                                       : NBD_EINVAL;
    if ((request->offset | request->length) & (limits->block_size - 1))
        return NBD_EINVAL;
    return rule->payload && request->length > limits->max_payload ? NBD_EINVAL : NBD_OK;
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
    case NBD_ENOTSUP: return "ENOTSUP";
    case NBD_ESHUTDOWN: return "ESHUTDOWN";
    }
    return "?";
}
