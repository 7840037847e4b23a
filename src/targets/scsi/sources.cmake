list(APPEND target_sources
    scsi/caw.c
    scsi/cmd.c
    scsi/inquiry.c
    scsi/mode.c
    scsi/nexus.c
    scsi/opcodes.c
    scsi/provisioning.c
    scsi/report.c
    scsi/rw.c
    scsi/scsi_lun.c
    scsi/scsi_target.c
    scsi/sense.c
    scsi/tmf.c
    scsi/verify.c
    scsi/vpd.c)
