/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record of saved reservations: what is taken for one is written as one again. */
#include <assert.h>
#include <stdlib.h>

#include "block/gate.h"
#include "targets/scsi/scsi_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct gate_state s, again;
    uint8_t *record;
    if (scsi_pr_decode(data, len, &s))
        return 0;
    size_t n = scsi_pr_encode(&s, &record);
    assert(!scsi_pr_decode(record, n, &again) && again.count == s.count && again.type == s.type);
    gate_state_put(&again);
    gate_state_put(&s);
    free(record);
    return 0;
}
