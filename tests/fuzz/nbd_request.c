/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests: what passes the check is something that the block layer may be asked. */
#include <assert.h>

#include "targets/nbd/nbd_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rd r = rd_make(data, size);
    struct nbd_limits limits = {
        .size = rd_be32(&r) & ~4095u,
        .max_payload = 1u << 20,
        .flags = rd_be16(&r),
    };
    uint8_t how = rd_u8(&r);
    limits.mode = how % 3;
    limits.allocation = how & 4;
    struct nbd_request q;
    while (rd_left(&r) && nbd_parse_request(&r, (enum nbd_mode)limits.mode, &q)) {
        enum nbd_error error = nbd_check_request(&limits, &q);
        assert(nbd_error_name(error)[0] != '?');
        if (error || q.type == NBD_CMD_DISC)
            continue;
        if (q.type == NBD_CMD_BLOCK_STATUS && q.payload) {
            struct rd payload = r;
            if (nbd_parse_status_payload(&payload, &q) || nbd_check_range(&limits, &q))
                continue;
        }
        assert(q.type == NBD_CMD_FLUSH ? !q.length && !q.offset
                                       : q.length && q.offset + q.length <= limits.size);
        bool data_follows = q.type == NBD_CMD_READ || q.type == NBD_CMD_WRITE;
        assert(!data_follows || q.length <= limits.max_payload);
        bool changes =
            q.type == NBD_CMD_WRITE || q.type == NBD_CMD_TRIM || q.type == NBD_CMD_WRITE_ZEROES;
        assert(!changes || !(limits.flags & NBD_FLAG_READ_ONLY));
    }
    return 0;
}
