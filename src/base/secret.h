/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BASE_SECRET_H
#define ORION_BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/*
 * References to secrets: "file:/PATH", or "credential:NAME" for one that systemd hands to the unit
 * (LoadCredential=, systemd.exec(5)). What is saved, shown and logged is the reference.
 */
enum { SECRET_PATH_MAX = 4200, SECRET_REF_MAX = 4096 };

/* Is it a reference at all? ERR_INVALID names the field. */
int secret_check(const char *ref, const char *field, struct err *e);
/* The file that a reference, or a plain absolute path, stands for. ERR_NOT_FOUND names field and
 * reference when there are no credentials. */
int secret_path(const char *ref, const char *field, char path_r[SECRET_PATH_MAX], struct err *e);
/* The text of it without one newline at its end, 1 to size-1 bytes, no NUL. Blocks. The error names
 * field and reference, never the content. */
int secret_read(const char *ref, const char *field, char *text_r, size_t size, struct err *e);

/* Are they the same? Takes a time that the lengths alone decide: this is the way to compare
 * secrets. */
bool secret_equal(const char *a, const char *b);

#endif
