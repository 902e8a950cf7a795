/* What the files of the name forwarder share; nobody else includes this. */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/memory.h"
#include "docker/dns.h"

enum {
	DNS_SERVERS_MAX = 3,
	DNS_HEADER = 12,         /* RFC 1035, 4.1.1 */
	DNS_QUESTION_MAX = 4096, /* what is asked is short */
	DNS_DATAGRAM_MAX = 65535,
};

struct dns_server {
	struct sockaddr_storage address;
	socklen_t size;
};

struct dns_question;
struct dns_connection;

struct dns {
	struct loop *loop; /* borrowed */
	struct dns_options options;
	struct dns_server servers[DNS_SERVERS_MAX];
	size_t n_servers;
	struct stat read; /* resolv.conf, as it was read; zero = it was not there */

	int udp, tcp; /* owned */
	struct loop_source *udp_source, *tcp_source;
	struct dns_question *questions, **last; /* owned; oldest first */
	unsigned n_questions;
	struct loop_source *timer;          /* the oldest question's */
	struct dns_connection *connections; /* owned */
	unsigned n_connections;
	unsigned char *scratch; /* owned: DNS_DATAGRAM_MAX */
};

/* dns.c: the servers as they are now. */
void dns_read_servers(struct dns *d);
bool dns_is_guest(const struct dns *d, const struct sockaddr_in *from);

/* dns_tcp.c */
int dns_tcp_new(struct dns *d);
void dns_tcp_free(struct dns *d);
