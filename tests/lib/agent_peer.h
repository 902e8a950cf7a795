/* The other end of skerry-init's agent, which is started as a child on a socketpair: requests by hand, one answer after the other. SKERRY_INIT names the
 * program. Every call but agent_send_*() fails the test where the agent does not do as it is asked. */
#pragma once

#include <sys/types.h>

#include "agent.pb-c.h"
#include "base/buf.h"
#include "wire/message.h"
#include "wire/sync.h"

/* What a synchronisation has to know. */
extern const uint8_t agent_token[SYNC_TOKEN_SIZE];

struct agent_peer {
	int fd;
	pid_t pid;
	uint32_t next_id;
	struct buf in;
};

struct agent_peer agent_start(void);
/* Hangs up, upon which it ends well. */
void agent_stop(struct agent_peer *p);

struct agent_answer {
	int32_t code;
	char *text;
	struct buf payload;
};

/* Returns the stream's id. @m NULL = an empty message. */
uint32_t agent_send(struct agent_peer *p, const char *method, const ProtobufCMessage *m);
/* The next response, whoever's: its stream id. */
uint32_t agent_next(struct agent_peer *p, struct agent_answer *a);
void agent_answer_done(struct agent_answer *a);
/* The next response is @id's, and good; its message, for message_free(). */
void *agent_take(struct agent_peer *p, uint32_t id, const ProtobufCMessageDescriptor *d);
#define AGENT_TAKE_EMPTY(p, id) message_free(agent_take((p), (id), &skerry__agent__v1__empty__descriptor))
/* The next response is @id's, with that status, and says @text. */
void agent_assert_fails(struct agent_peer *p, uint32_t id, int32_t code, const char *text);
/* A method that wants nothing but an id. */
uint32_t agent_send_id(struct agent_peer *p, const char *method, const char *id);

struct agent_command {
	const char *id;
	const char *script; /* of sh -c */
	bool terminal, input;
	const char *user, *cwd, *env;
};
uint32_t agent_send_exec(struct agent_peer *p, const struct agent_command *c);
void agent_run(struct agent_peer *p, const struct agent_command *c);

uint32_t agent_send_read(struct agent_peer *p, const char *id, unsigned stream, uint32_t max);
/* Reads @stream to its end. */
void agent_read_all(struct agent_peer *p, const char *id, unsigned stream, struct buf *out);
uint32_t agent_send_write(struct agent_peer *p, const char *id, const void *data, size_t n);
void agent_write_all(struct agent_peer *p, const char *id, const char *data, size_t n);
/* @signaled may be NULL. */
int agent_wait_status(struct agent_peer *p, const char *id, bool *signaled);
