/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "targets/iscsi/pdu.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A header, then additional header segments. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < ISCSI_BHS)
        return 0;
    struct iscsi_pdu p;
    uint8_t again[ISCSI_BHS];
    iscsi_pdu_parse(&p, data);
    assert(p.ahs_len <= ISCSI_AHS_MAX && p.data_len < 1u << 24);
    p.ahs_len = 0;
    iscsi_pdu_build(&p, again);
    assert(!memcmp(data + 5, again + 5, ISCSI_BHS - 5));
    size_t len = size - ISCSI_BHS, cdb_len;
    uint8_t *ahs = malloc(len ? len : 1); /* its own block, so that a read past it is seen */
    memcpy(ahs, data + ISCSI_BHS, len);
    const uint8_t *cdb;
    if (iscsi_ahs_cdb(ahs, len, &cdb, &cdb_len) && cdb)
        assert(cdb >= ahs && cdb + cdb_len <= ahs + len);
    free(ahs);
    return 0;
}
