/* Interfaces by hardware address, through rtnetlink: no program of the image is needed. */
#pragma once

#include "base/error.h"

struct Skerry__Agent__V1__Interface;

/* Brings up the loopback interface. */
int network_loopback(struct error *err);
/* Name, mtu, up, addresses, routes, neighbours. What exists already is fine. Errors: the first one; -ENODEV no interface has that address. */
int network_apply(const struct Skerry__Agent__V1__Interface *i, struct error *err);
