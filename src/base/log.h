/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BASE_LOG_H
#define ORION_BASE_LOG_H

#include <stdbool.h>

/*
 * One line a failure: `TIME LEVEL area: message key=value`. To stderr; under systemd
 * (JOURNAL_STREAM) with `<N>` priorities instead of the time. Any thread may log. Never log
 * secrets, never per I/O without log_every.
 */
enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
bool log_level_parse(const char *name, enum log_level *level_r); /* error|warn|info|debug */
const char *log_level_name(enum log_level level);
void log_set_journal(bool on); /* `<N>` priorities */

/* A line with fields of its own: to systemd's journal as such, elsewhere ` NAME=value` behind the
 * message without the prefix ORION_, in lower case. Ends with a NULL name. */
struct log_field {
    const char *name; /* "ORION_OBJECT" */
    const char *value;
};
void log_fields(enum log_level level, const char *area, const struct log_field *fields,
                const char *message);

void log_write(enum log_level level, const char *area, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(area, ...) log_write(LOG_LEVEL_ERROR, area, __VA_ARGS__)
#define log_warn(area, ...) log_write(LOG_LEVEL_WARN, area, __VA_ARGS__)
#define log_info(area, ...) log_write(LOG_LEVEL_INFO, area, __VA_ARGS__)
#define log_debug(area, ...)                               \
    do {                                                   \
        if (log_get_level() >= LOG_LEVEL_DEBUG)            \
            log_write(LOG_LEVEL_DEBUG, area, __VA_ARGS__); \
    } while (0)

/* True at most once every `seconds` a call site; *skipped_r counts the silent ones since. */
struct log_rate {
    long next; /* monotonic second from which a line may be written again; atomic */
    unsigned long skipped;
};
bool log_ratelimit(struct log_rate *rate, unsigned seconds, unsigned long *skipped_r);
#define log_every(seconds, level, area, ...)                                               \
    do {                                                                                   \
        static struct log_rate rate_;                                                      \
        unsigned long skipped_;                                                            \
        if (log_ratelimit(&rate_, seconds, &skipped_)) {                                   \
            log_write(level, area, __VA_ARGS__);                                           \
            if (skipped_)                                                                  \
                log_write(level, area, "the line above was left out %lu times", skipped_); \
        }                                                                                  \
    } while (0)

#endif
