/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The reader of a stream of events: whole, and cut at every place, it tells the same. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "client/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool count(const struct client_event *ev, void *arg)
{
    (void)ev;
    return ++*(unsigned *)arg < 100;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct client_sse *whole = calloc(1, sizeof *whole), *cut = calloc(1, sizeof *cut);
    unsigned a = 0, b = 0;
    struct client_follower f = {NULL, count, &a}, g = {NULL, count, &b};
    client_sse_feed(whole, (const char *)data, size, &f);
    for (size_t i = 0; i < size && client_sse_feed(cut, (const char *)data + i, 1, &g); i++)
        continue;
    assert(a == b && whole->bad == cut->bad);
    free(whole);
    free(cut);
    return 0;
}
