#include "wire/message.h"

#include "agent.pb-c.h"
#include "test.h"

TEST(message_survives_the_round_trip)
{
	_cleanup_buf_ struct buf b = { 0 };
	_cleanup_message_ Skerry__Agent__V1__ExecRequest *back = NULL;
	Skerry__Agent__V1__ExecRequest m;
	char id[] = "main", arg[] = "true";
	char *args[] = { arg };

	skerry__agent__v1__exec_request__init(&m);
	m.id = id;
	m.n_args = 1;
	m.args = args;
	m.terminal = 1;
	message_pack(&b, &m.base);
	back = message_unpack(&skerry__agent__v1__exec_request__descriptor, b.p, b.len);
	ASSERT(back);
	ASSERT_STREQ(back->id, "main");
	ASSERT_EQ(back->n_args, 1);
	ASSERT_STREQ(back->args[0], "true");
	ASSERT(back->terminal);
}

TEST(message_of_no_bytes_is_all_defaults)
{
	_cleanup_message_ Skerry__Agent__V1__IdRequest *m = NULL;

	m = message_unpack(&skerry__agent__v1__id_request__descriptor, NULL, 0);
	ASSERT(m);
	ASSERT_STREQ(m->id, "");
}

TEST(message_that_is_garbage_is_refused)
{
	ASSERT(!message_unpack(&skerry__agent__v1__id_request__descriptor, "\xff\xff\xff", 3));
	ASSERT(!message_unpack(&skerry__agent__v1__id_request__descriptor,
			       "\x0a\x05"
			       "ab",
			       4));
}

/* Two bytes each that want a hundred: 4 MiB of them must not become 200 MiB. */
TEST(message_of_tiny_fields_is_bounded)
{
	_cleanup_buf_ struct buf b = { 0 };
	void *m;

	for (int i = 0; i < 100; i++)
		buf_add(&b, "\x22\x00", 2); /* BootConfig.disks, empty */
	m = message_unpack(&skerry__agent__v1__boot_config__descriptor, b.p, b.len);
	ASSERT(m);
	message_free(m);
	for (int i = 0; i < 2 << 20; i++)
		buf_add(&b, "\x22\x00", 2);
	ASSERT(!message_unpack(&skerry__agent__v1__boot_config__descriptor, b.p, b.len));
}
