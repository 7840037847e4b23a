/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "volumes/lvm_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever parses can be written (unless a string has a control character), reads the same again,
 * and is the same text when it is written once more. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    size_t a_size, b_size;
    struct lvm_vg *vg = lvm_text_parse((const char *)data, size, &e);
    if (!vg)
        return 0;
    char *a = lvm_text_write(vg, "fuzz", &a_size, &e);
    if (a) {
        struct lvm_vg *back = lvm_text_parse(a, a_size, &e);
        assert(back && back->lv_count == vg->lv_count && back->pv_count == vg->pv_count);
        char *b = lvm_text_write(back, "fuzz", &b_size, &e);
        assert(b);
        *strstr(a, "# Generated") = 0;
        *strstr(b, "# Generated") = 0;
        assert(*vg->read_only_why || !strcmp(a, b));
        free(b);
        lvm_vg_free(&back);
    }
    free(a);
    lvm_vg_free(&vg);
    return 0;
}
