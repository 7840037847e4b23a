/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_NET_TLS_PRIVATE_H
#define ORION_NET_TLS_PRIVATE_H

#include <openssl/ssl.h>

#include "base/err.h"

enum { TLS_CERT, TLS_KEY, TLS_CA, TLS_PSK, TLS_FILES };

/* The REST names of the fields, by the enum above. */
extern const char *const tls_fields[TLS_FILES];

struct psk {
    char identity[128];
    unsigned char key[64];
    size_t key_len;
};

/* What the file said at one time. Shared by connections of several reactors and never changed:
 * freed with the last SSL_CTX reference, as its ex_data `tls_psk_index`. */
struct psk_list {
    size_t count;
    struct psk psk[];
};
extern int tls_psk_index;

/* Once, before any other. */
void tls_files_init(void);
/* Takes what the files (paths; NULL: there is none) say into ctx. Only regular files up to 1 MiB
 * are read, into memory first, so that nothing but a file system can keep us waiting. */
int tls_files_load(SSL_CTX *ctx, char *const file[TLS_FILES], struct err *e);
/* The reason of OpenSSL's oldest error; forgets them all. Returns out. */
const char *tls_last_error(char out[200]);

#endif
