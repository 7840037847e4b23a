/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char letters[] = "KMGTPE";

bool size_parse(const char *text, uint64_t *bytes_r)
{
    uint64_t v = 0;
    const char *p = text;
    if (!isdigit((unsigned char)*p))
        return false;
    for (; isdigit((unsigned char)*p); p++)
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
            return false;
    if (*p && !strcasecmp(p, "B"))
        p++;
    if (*p) {
        const char *l = strchr(letters, toupper((unsigned char)*p));
        if (!l || !*l || l - letters > 4)
            return false;
        unsigned shift = 10 * (unsigned)(l - letters + 1);
        if (v > UINT64_MAX >> shift)
            return false;
        v <<= shift;
        p++;
        if (*p && strcasecmp(p, "B") && strcasecmp(p, "iB"))
            return false;
    }
    *bytes_r = v;
    return true;
}

const char *size_format(uint64_t bytes, char out[16])
{
    if (bytes < 1024) {
        snprintf(out, 16, "%u B", (unsigned)bytes);
        return out;
    }
    unsigned unit = 0;
    while (unit < 5 && bytes >> (10 * (unit + 2)))
        unit++;
    double v = (double)bytes / (double)(1ull << (10 * (unit + 1)));
    snprintf(out, 16, v < 10 ? "%.2f %ciB" : v < 100 ? "%.1f %ciB" : "%.0f %ciB", v, letters[unit]);
    return out;
}
