/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BASE_MEM_H
#define ORION_BASE_MEM_H

#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

/* Control-path memory: these never return NULL, they end the process (the state on disk is sound).
 */
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s); /* NULL gives NULL */
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Zeroes on cache lines that nothing else is on, for what one thread writes and another must not
 * be slowed by. NULL when memory is out; free() as usual. */
enum { CACHE_LINE = 64 };
void *calloc_lines(size_t size);
void *xcalloc_lines(size_t size);

/* `autofree char *s = ...;` frees at the end of the scope. */
static inline void autofree_cleanup(void *p)
{
    free(*(void **)p);
}
#define autofree __attribute__((cleanup(autofree_cleanup)))

/* `autoclose int fd = ...;` closes at the end of the scope when >= 0. */
void autoclose_cleanup(int *fd);
#define autoclose __attribute__((cleanup(autoclose_cleanup)))

#endif
