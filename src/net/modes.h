/* The network modes, for net.c's table. */
#pragma once

#include "net/net.h"

extern const struct net_mode net_mode_user;
extern const struct net_mode net_mode_none;
extern const struct net_mode net_mode_container;
