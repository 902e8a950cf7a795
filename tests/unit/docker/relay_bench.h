/* The relay with real sockets, in a network namespace of its own: the test's process turns the loop, children are the clients and, on loopback
 * ports, the guest. */
#pragma once

#include "docker/relay.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct bench {
	struct loop *loop;
	struct relay *relay;
	uint16_t leads_to[3]; /* loopback ports of guest's ports 1000, 1001, …; 0 = nothing */
	bool silent;          /* resolve is not answered */
	uint64_t ticket;      /* the last that was asked for */
	unsigned asked, released;
	bool listening;
	uint16_t later; /* what the second question is answered with, 0 = as the first */
};

/* For relay_options.resolve; @data is the bench. */
void on_resolve(struct relay *r, uint64_t ticket, bool udp, uint16_t guest_port, void *data);
/* A namespace with nothing but lo in it; skips the test where there can be none. */
void own_network(void);
/* Fills in what @o lacks and starts the relay; @list as PORTS has it. */
void set_up(struct bench *b, struct relay_options *o, const char *list);
void tear_down(struct bench *b);
/* A process that runs @fn(@arg), and dies with this one. */
pid_t child(void (*fn)(int), int arg);
/* Turns the loop until a child that runs @fn(@arg) has ended well. */
void run_beside(struct bench *b, void (*fn)(int), int arg);
/* Turns the loop for so long. */
void turn(struct bench *b, uint64_t ns);
/* On a free port of 127.0.0.1; server(): listening. */
int local_socket(int type, uint16_t *ret_port);
int server(uint16_t *ret_port);
int dial_type(int type, const char *ip, uint16_t port);
int dial(uint16_t port);
void say(int fd, const char *text);
void hears(int fd, const char *text);
void hears_end(int fd);
void is_reset(int fd);
/* Dials where nobody is let in. */
void dial_reset(uint16_t port);
