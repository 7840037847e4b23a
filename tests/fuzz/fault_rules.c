/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <string.h>

#include "drivers/fault/fault_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rules rules;
    struct verdict verdict;
    struct bio bio = {.op = BIO_WRITE, .length = 4096};
    char *text = strndup((const char *)data, size);
    if (!rules_parse(&rules, text, "rules", NULL)) {
        rules_judge(&rules, &bio, &verdict);
        rules_free(&rules);
    }
    free(text);
    return 0;
}
