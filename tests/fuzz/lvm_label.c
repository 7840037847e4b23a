/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <string.h>

#include "base/buf.h"
#include "volumes/lvm_label.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first four sectors of a PV, then the header of its metadata area. The checksums are made
 * right, or nothing behind them would ever be read. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t in[LVM_LABEL_SCAN + LVM_MDA_HEADER] = {0};
    memcpy(in, data, size < sizeof in ? size : sizeof in);
    for (unsigned s = 0; s < 4; s++) {
        struct wr w = wr_make(in + s * LVM_SECTOR + 16, 4);
        wr_le32(&w, lvm_crc(in + s * LVM_SECTOR + 20, LVM_SECTOR - 20));
    }
    struct lvm_label label, again;
    uint8_t head[LVM_LABEL_SCAN] = {0};
    if (!lvm_label_parse(in, size < LVM_LABEL_SCAN ? size : LVM_LABEL_SCAN, &label, NULL)) {
        lvm_label_build(&label, head + label.sector * LVM_SECTOR);
        assert(!lvm_label_parse(head, sizeof head, &again, NULL));
        assert(!memcmp(again.mda, label.mda, sizeof label.mda));
    }
    uint8_t *header = in + LVM_LABEL_SCAN;
    struct wr w = wr_make(header, 4);
    wr_le32(&w, lvm_crc(header + 4, LVM_MDA_HEADER - 4));
    struct lvm_mda m;
    struct lvm_area r[2], q[2];
    uint64_t at;
    if (lvm_mda_parse(header, 4096, 0, &m, NULL) || lvm_mda_place(&m, 1 + size * 7, &at, NULL))
        return 0;
    unsigned n = lvm_mda_ranges(&m, at, 1 + size * 7, r);
    for (unsigned i = 0; i < n; i++) {
        assert(r[i].offset >= m.start + LVM_MDA_HEADER);
        assert(r[i].offset + r[i].size <= m.start + m.size);
        unsigned k = m.slot[0].size && !lvm_mda_ignored(&m)
                         ? lvm_mda_ranges(&m, m.slot[0].offset, m.slot[0].size, q)
                         : 0;
        while (k--)
            assert(r[i].offset + r[i].size <= q[k].offset ||
                   q[k].offset + q[k].size <= r[i].offset);
    }
    return 0;
}
