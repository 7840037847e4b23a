list(APPEND target_sources
    nbd/nbd_access.c
    nbd/nbd_conn.c
    nbd/nbd_export.c
    nbd/nbd_handshake.c
    nbd/nbd_hello.c
    nbd/nbd_lane.c
    nbd/nbd_map.c
    nbd/nbd_reply.c
    nbd/nbd_server.c
    nbd/nbd_wire.c)
