/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/log.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"

static const char *const names[] = {"error", "warn", "info", "debug"};
static const int syslog_priority[] = {3, 4, 6, 7};

static enum log_level threshold = LOG_LEVEL_INFO;
static bool journal;

void log_set_level(enum log_level level)
{
    __atomic_store_n(&threshold, level, __ATOMIC_RELAXED);
}

enum log_level log_get_level(void)
{
    return __atomic_load_n(&threshold, __ATOMIC_RELAXED);
}

bool log_level_parse(const char *name, enum log_level *level_r)
{
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        if (!strcmp(names[i], name)) {
            *level_r = i;
            return true;
        }
    }
    return false;
}

const char *log_level_name(enum log_level level)
{
    return names[level];
}

void log_set_journal(bool on)
{
    journal = on;
}

static int head(char *line, size_t size, enum log_level level, const char *area)
{
    if (journal)
        return snprintf(line, size, "<%d>%s: ", syslog_priority[level], area);
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    return snprintf(line, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s %s: ", tm.tm_year + 1900,
                    tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                    now.tv_nsec / 1000000, names[level], area);
}

void log_write(enum log_level level, const char *area, const char *fmt, ...)
{
    if (level > log_get_level())
        return;
    char line[1024];
    int n = head(line, sizeof line - 1, level, area);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - 1 - (size_t)n, fmt, ap);
    va_end(ap);
    n += m;
    if (n > (int)sizeof line - 2)
        n = sizeof line - 2;
    /* A message is one line of text, whatever a client managed to put into it. */
    char shown[sizeof line];
    n = (int)strlen(text_show(line, (size_t)n, shown, sizeof shown - 1));
    shown[n++] = '\n';
    /* One write a line keeps lines of several threads whole. A lost log line is no reason to stop.
     */
    ssize_t ignored = write(STDERR_FILENO, shown, (size_t)n);
    (void)ignored;
}

/* ---- the journal's own protocol: a datagram of NAME=VALUE lines, or of NAME, length and value */

static const char *journal_path(void)
{
    const char *own = getenv("ORION_TEST_JOURNAL");
    return own ? own : "/run/systemd/journal/socket";
}

static bool journal_send(const char *text, size_t n)
{
    static int fd = -1;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int have = __atomic_load_n(&fd, __ATOMIC_ACQUIRE);
    snprintf(to.sun_path, sizeof to.sun_path, "%s", journal_path());
    if (have < 0) {
        int made = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int none = -1;
        if (made >= 0 && !__atomic_compare_exchange_n(&fd, &none, made, false, __ATOMIC_ACQ_REL,
                                                      __ATOMIC_ACQUIRE))
            close(made); /* another thread was faster */
        have = __atomic_load_n(&fd, __ATOMIC_ACQUIRE);
    }
    return have >= 0 &&
           sendto(have, text, n, MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof to) == (ssize_t)n;
}

/* A value is one line here, so that the simple form does. */
static void add_field(char *text, size_t size, size_t *n, const char *name, const char *value)
{
    int m = snprintf(text + *n, size - *n, "%s=%s", name, value);
    if (m < 0 || *n + (size_t)m + 2 > size)
        return;
    for (size_t i = *n; i < *n + (size_t)m; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
    *n += (size_t)m;
    text[(*n)++] = '\n';
}

static bool to_journal(enum log_level level, const char *area, const struct log_field *fields,
                       const char *message)
{
    char text[2048], line[600], priority[2] = {(char)('0' + syslog_priority[level]), 0};
    size_t n = 0;
    snprintf(line, sizeof line, "%s: %s", area, message);
    add_field(text, sizeof text, &n, "MESSAGE", line);
    add_field(text, sizeof text, &n, "PRIORITY", priority);
    add_field(text, sizeof text, &n, "SYSLOG_IDENTIFIER", "oriond");
    for (; fields->name; fields++)
        add_field(text, sizeof text, &n, fields->name, fields->value);
    return journal_send(text, n);
}

void log_fields(enum log_level level, const char *area, const struct log_field *fields,
                const char *message)
{
    char line[900];
    if (level > log_get_level() || (journal && to_journal(level, area, fields, message)))
        return;
    size_t n = (size_t)snprintf(line, sizeof line, "%.500s", message);
    for (; fields->name && n < sizeof line; fields++) {
        char name[40];
        size_t i = 0;
        for (const char *p = fields->name + strlen("ORION_"); *p && i < sizeof name - 1; p++)
            name[i++] = (char)tolower((unsigned char)*p);
        name[i] = 0;
        n += (size_t)snprintf(line + n, sizeof line - n,
                              strchr(fields->value, ' ') ? " %s=\"%s\"" : " %s=%s", name,
                              fields->value);
    }
    log_write(level, area, "%s", line);
}

bool log_ratelimit(struct log_rate *rate, unsigned seconds, unsigned long *skipped_r)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    long next = __atomic_load_n(&rate->next, __ATOMIC_RELAXED);
    if (now.tv_sec < next ||
        !__atomic_compare_exchange_n(&rate->next, &next, now.tv_sec + (long)seconds, false,
                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        __atomic_fetch_add(&rate->skipped, 1, __ATOMIC_RELAXED);
        return false;
    }
    *skipped_r = __atomic_exchange_n(&rate->skipped, 0, __ATOMIC_RELAXED);
    return true;
}
