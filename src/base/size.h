/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BASE_SIZE_H
#define ORION_BASE_SIZE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Sizes as people write them: digits, then K, M, G, T or P, any case, with an optional "iB" or "B"
 * after the letter ("10G" = "10GiB" = 10 * 2^30); bare digits are bytes. False on anything else and
 * on overflow of 64 bits.
 */
bool size_parse(const char *text, uint64_t *bytes_r);

/* "1.50 TiB"-like text for tables, at most 15 characters. Returns out. */
const char *size_format(uint64_t bytes, char out[16]);

#endif
