/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_API_STREAM_H
#define ORION_API_STREAM_H

struct MHD_Connection;
struct control_call;
struct MHD_Response;

/*
 * /v1/events as server-sent events (WHATWG HTML, "Server-sent events"): each event of control as
 * `id: BOOT-N`, `event: KIND`, `data: JSON`. Main's.
 */
enum { STREAM_BEAT_S = 10 };

/* `kick` is called when connections were resumed and libmicrohttpd must run. */
void streams_open(void (*kick)(void));
/* The body of an answer to the call, which is taken over. last_id: of the header Last-Event-ID, or
 * NULL. NULL: too many are open. */
struct MHD_Response *stream_new(struct MHD_Connection *c, struct control_call *call,
                                const char *last_id);
/* Ends all of them with the next run of libmicrohttpd. */
void streams_close(void);
unsigned streams_count(void);

#endif
