/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_HOTPLUG_H
#define ORION_CONTROL_HOTPLUG_H

/* Main: the device that stands on the block node MAJOR:MINOR, NULL for none. Valid until the next
 * wait. */
const char *device_on_node(unsigned node_major, unsigned node_minor);

#endif
