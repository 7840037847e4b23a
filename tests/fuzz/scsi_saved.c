/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The records of a SANITIZE that was cut off and of saved mode parameters: what is taken for one is
 * written as one again, with the same meaning. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "targets/scsi/scsi_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void look(const uint8_t *data, size_t len)
{
    uint8_t *again = NULL, *third = NULL, record[SCSI_MODE_RECORD];
    size_t n, m;
    struct scsi_mode mode, back;
    if (scsi_sanitize_record(data, len, &again, &n)) {
        assert(n == len && scsi_sanitize_record(again, n, &third, &m));
        assert(m == n && !memcmp(again, third, n));
    }
    free(again);
    free(third);
    if (scsi_mode_decode(data, len, &mode)) {
        assert(len == SCSI_MODE_RECORD || len == SCSI_MODE_RECORD_1);
        n = scsi_mode_encode(&mode, record); /* of version 2, whatever it was */
        assert(n == sizeof record && scsi_mode_decode(record, n, &back));
        assert(scsi_mode_equal(&mode, &back));
    }
}

/* As it is; and with the right CRC32C at its end, which nobody finds by chance. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    look(data, len);
    if (len < 4)
        return 0;
    uint8_t *copy = malloc(len);
    if (!copy)
        return 0;
    memcpy(copy, data, len);
    struct wr w = wr_make(copy + len - 4, 4);
    wr_be32(&w, crc32c(0, copy, len - 4));
    look(copy, len);
    free(copy);
    return 0;
}
