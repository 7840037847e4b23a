/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel's news of devices: whatever comes, nothing outside the message is read. */
#include <stdint.h>

#include "daemon/uevent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct uevent ev;
    uevent_parse((const char *)data, size, &ev);
    return 0;
}
