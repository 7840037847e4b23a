/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BASE_CRC32C_H
#define ORION_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC32C (Castagnoli), RFC 3720 appendix B.4: start with crc 0, go on with the value returned. */
uint32_t crc32c(uint32_t crc, const void *p, size_t len);

#endif
