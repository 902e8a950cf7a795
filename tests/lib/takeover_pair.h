/* Two network namespaces with a pair of interfaces between them, the inner end of which is taken over; and frames at either end. Root only. */
#pragma once

#include "net/takeover.h"

enum {
	VNET_HEADER = 10,
	FRAME_MAX = 10000,
	PATIENCE_MS = 60000 /* with what is sure to come */
};

struct takeover_pair {
	int inside, outside;
};

/* eth0 inside, out0 outside; addresses as a bridge's container has them. */
struct takeover_pair takeover_pair(void);
/* netns_picture() of what stays as it is: every interface but lo has got its link-local address, for good. */
char *takeover_settled(int ns, const char *interface);

/* Of net/takeover.h, each without fail. */
struct net_takeover takeover_inspected(int ns);
/* The TAP's descriptor. */
int takeover_attached(int ns, const struct net_takeover_nic *nic);
/* With a control network, name servers' answers and port 8080 kept. */
struct net_takeover_keep takeover_keeping(void);
int takeover_attached_keeping(int ns, const struct net_takeover_nic *nic);
void takeover_released(int ns);

/* Of raw frames, bound to @interface; it does not block. */
int frame_socket(int ns, const char *interface);
/* A frame of @size bytes of an experimental protocol, so that no stack answers it; its text tells it from others. Returns @size. */
size_t frame_make(uint8_t *p, const char *text, size_t size);
/* Reads frames until one has @text behind @skip bytes, or the time is up. Returns its size, 0 = none. */
size_t frame_with(int fd, size_t skip, const char *text, unsigned timeout_ms);
/* Frames of @size bytes go from @tap to @peer and back. */
void frame_assert_joined(int tap, int peer, size_t size);
