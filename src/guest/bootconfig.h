/* The boot configuration: what the host wants this guest to be (proto/agent.proto, BootConfig). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define BOOTCONFIG_BYTES_MAX (1U << 20)
#define BOOTCONFIG_ITEM      "opt/skerry/boot"

struct Skerry__Agent__V1__BootConfig;

/* Unpacks and checks every field: whoever uses the result need not look again whether a name is one, a path is inside the root, an address can
 * be parsed. Errors: -EBADMSG with the field's name. Released with message_free(). */
int bootconfig_parse(const void *p, size_t n, struct Skerry__Agent__V1__BootConfig **ret, struct error *err);

/* "192.0.2.1/24" or "2001:db8::1/64": family AF_INET or AF_INET6, the address (4 or 16 bytes) and the prefix length. @s without a length has the
 * whole address. Errors: -EINVAL. */
int bootconfig_address(const char *s, int *ret_family, uint8_t ret_address[16], uint8_t *ret_prefix);
/* "52:54:00:12:34:56". Errors: -EINVAL. */
int bootconfig_mac(const char *s, uint8_t ret[6]);
