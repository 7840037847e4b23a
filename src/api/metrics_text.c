/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/metrics_text.h"

#include <inttypes.h>
#include <stdarg.h>

void metrics_family(FILE *f, const char *name, const char *type, const char *help)
{
    fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void label(FILE *f, char before, const char *name, const char *value)
{
    fprintf(f, "%c%s=\"", before, name);
    for (; *value; value++) {
        if (*value == '\n')
            fputs("\\n", f);
        else if (*value == '"' || *value == '\\')
            fprintf(f, "\\%c", *value);
        else
            putc_unlocked(*value, f);
    }
    putc_unlocked('"', f);
}

static void head(FILE *f, const char *name, const char *le, va_list ap)
{
    char before = '{';
    fputs(name, f);
    for (const char *n; (n = va_arg(ap, const char *)); before = ',')
        label(f, before, n, va_arg(ap, const char *));
    if (le)
        label(f, before, "le", le);
    if (le || before == ',')
        putc_unlocked('}', f);
    putc_unlocked(' ', f);
}

void metrics_u64(FILE *f, const char *name, uint64_t value, ...)
{
    va_list ap;
    va_start(ap, value);
    head(f, name, NULL, ap);
    va_end(ap);
    fprintf(f, "%" PRIu64 "\n", value);
}

void metrics_double(FILE *f, const char *name, double value, ...)
{
    va_list ap;
    va_start(ap, value);
    head(f, name, NULL, ap);
    va_end(ap);
    fprintf(f, "%.9g\n", value);
}

void metrics_bucket(FILE *f, const char *name, const char *le, uint64_t value, ...)
{
    va_list ap;
    va_start(ap, value);
    head(f, name, le, ap);
    va_end(ap);
    fprintf(f, "%" PRIu64 "\n", value);
}
