list(APPEND target_sources
    iscsi/command.c
    iscsi/conn.c
    iscsi/conn_rx.c
    iscsi/conn_tx.c
    iscsi/front.c
    iscsi/iscsi.c
    iscsi/login.c
    iscsi/nego.c
    iscsi/pdu.c
    iscsi/pool.c
    iscsi/portal.c
    iscsi/reply.c
    iscsi/session.c
    iscsi/text.c
    iscsi/text_full.c
    iscsi/tmf.c)
