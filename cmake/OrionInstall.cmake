# What `cmake --install` puts where, beside the two programs.
set(ORION_UNIT_DIR "lib/systemd/system" CACHE STRING "Where systemd units go, below the prefix")
set(ORION_SYSUSERS_DIR "lib/sysusers.d" CACHE STRING "Where sysusers.d is, below the prefix")
install(FILES systemd/oriond.service systemd/oriond.socket DESTINATION "${ORION_UNIT_DIR}")
install(FILES systemd/orion.sysusers DESTINATION "${ORION_SYSUSERS_DIR}" RENAME orion.conf)
install(FILES etc/oriond.json DESTINATION "${CMAKE_INSTALL_FULL_SYSCONFDIR}/orion")
install(DIRECTORY etc/prometheus etc/grafana DESTINATION "${CMAKE_INSTALL_DATADIR}/orion")
install(FILES etc/mdadm-orion.conf etc/lvm-orion.conf README.md CHANGELOG.md docs/reference.md
        DESTINATION "${CMAKE_INSTALL_DOCDIR}")
install(FILES docs/man/oriond.8 docs/man/orionctl.8 DESTINATION "${CMAKE_INSTALL_MANDIR}/man8")
