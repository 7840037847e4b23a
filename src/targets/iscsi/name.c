/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "targets/iscsi/nego.h"

static const char letters[] = "abcdefghijklmnopqrstuvwxyz", digits[] = "0123456789";

static bool plain(unsigned char c)
{
    return c >= 0x80 || strchr(letters, c | 0x20) || strchr(digits, c) || strchr("-.:", c);
}

bool iscsi_name_ok(const char *name)
{
    size_t len = strlen(name);
    if (len < 5 || len > ISCSI_NAME_MAX || text_flaw(name, len) < len)
        return false;
    if (strncasecmp(name, "iqn.", 4) && strncasecmp(name, "eui.", 4) &&
        strncasecmp(name, "naa.", 4))
        return false;
    for (const char *c = name; *c; c++) {
        if (!plain((unsigned char)*c))
            return false;
    }
    return true;
}

/* "2026-11." */
static bool date_ok(const char *p)
{
    if (strspn(p, digits) != 4 || p[4] != '-' || strspn(p + 5, digits) != 2 || p[7] != '.')
        return false;
    int month = (p[5] - '0') * 10 + p[6] - '0';
    return month >= 1 && month <= 12;
}

/* A domain backwards: labels of letters, digits and '-' within, with '.' between. */
static bool domain_ok(const char *p, const char *end)
{
    for (;;) {
        const char *label = p;
        while (p < end && (strchr(letters, *p) || strchr(digits, *p) || *p == '-'))
            p++;
        if (p == label || *label == '-' || p[-1] == '-')
            return false;
        if (p == end)
            return true;
        if (*p++ != '.')
            return false;
    }
}

static bool iqn_ok(const char *p)
{
    if (!date_ok(p))
        return false;
    const char *end = p + strcspn(p, ":");
    return domain_ok(p + 8, end) && (!*end || end[1]);
}

static bool hex_ok(const char *p, size_t one, size_t other)
{
    size_t len = strlen(p);
    return strspn(p, "0123456789abcdef") == len && (len == one || len == other);
}

static bool format_ok(const char *name)
{
    for (const char *c = name; *c; c++) {
        if (*c >= 'A' && *c <= 'Z')
            return false;
    }
    if (!iscsi_name_ok(name))
        return false;
    if (!strncmp(name, "iqn.", 4))
        return iqn_ok(name + 4);
    return !strncmp(name, "eui.", 4) ? hex_ok(name + 4, 16, 16) : hex_ok(name + 4, 16, 32);
}

int iscsi_name_check(const char *name, const char *field, struct err *e)
{
    if (format_ok(name))
        return 0;
    return err_set(
        e, ERR_INVALID, field,
        "%.*s is not an iSCSI name: expected iqn.YYYY-MM.DOMAIN[:STRING], eui. and 16 or "
        "naa. and 16 or 32 hexadecimal digits, in lower case, at most %d bytes",
        ISCSI_NAME_MAX, name, ISCSI_NAME_MAX);
}
