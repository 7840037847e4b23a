/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools.h"

bool paint_on(void)
{
    static int on = -1;
    if (on < 0) {
        const char *none = getenv("NO_COLOR"), *term = getenv("TERM");
        on = isatty(STDOUT_FILENO) && !(none && *none) && term && strcmp(term, "dumb");
    }
    return on;
}

const char *paint(enum paint p)
{
    static const char *const codes[] = {"\33[0m", "\33[32m", "\33[33m", "\33[31m", "\33[1m"};
    return paint_on() ? codes[p] : "";
}

enum paint paint_of_state(const char *state)
{
    static const struct {
        const char *state;
        enum paint paint;
    } known[] = {
        {"failed", PAINT_BAD},     {"faulty", PAINT_BAD},     {"missing", PAINT_BAD},
        {"absent", PAINT_BAD},     {"partial", PAINT_BAD},    {"inactive", PAINT_BAD},
        {"not-ready", PAINT_BAD},  {"degraded", PAINT_WARN},  {"rebuilding", PAINT_WARN},
        {"cancelled", PAINT_WARN}, {"read-only", PAINT_WARN}, {"starting", PAINT_WARN},
        {"stopping", PAINT_WARN},  {"ready", PAINT_GOOD},     {"active", PAINT_GOOD},
        {"clean", PAINT_GOOD},     {"online", PAINT_GOOD},    {"in-sync", PAINT_GOOD},
        {"done", PAINT_GOOD},
    };
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(state, known[i].state))
            return known[i].paint;
    return PAINT_PLAIN;
}
