/* Who is behind an address of the own namespace's networks. */
#pragma once

#include <stdint.h>

/* The hardware address of @address (IPv4 or IPv6) on interface @index, as far as the kernel knows it. Errors: -ENOENT. */
int net_neighbour_find(unsigned index, const char *address, uint8_t ret_mac[6]);
/* Makes the kernel find it out, or make sure of it; without waiting for that. Needs CAP_NET_ADMIN. */
int net_neighbour_ask(unsigned index, const char *address);
