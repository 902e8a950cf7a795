/* Interfaces taken over, in network namespaces that the tests make: everything is as before afterwards, wherever it was broken off. The modules
 * are compiled in with their fault points. */
#include "net/takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netns.h"
#include "takeover_pair.h"
#include "test.h"

/* ---- Before and after ---- */

TEST(afterwards_everything_is_as_before)
{
	struct takeover_pair p = takeover_pair();
	_cleanup_free_ char *before = NULL, *during = NULL, *after = NULL, *addresses = NULL;
	struct net_takeover t;
	int one, two;

	netns_pair(p.inside, "net1", p.outside, "out1");
	netns_run(p.inside, "ip address add 10.2.0.2/24 dev net1");
	before = takeover_settled(p.inside, "eth0");
	t = takeover_inspected(p.inside);
	ASSERT_EQ(t.n, 2);
	one = takeover_attached_keeping(p.inside, &t.nics[0]);
	two = takeover_attached(p.inside, &t.nics[1]);
	during = netns_picture(p.inside, "eth0");
	ASSERT_CONTAINS(during, t.nics[0].tap);
	ASSERT_CONTAINS(during, t.nics[1].tap);
	ASSERT_CONTAINS(during, "172.17.0.2/16");
	addresses = netns_output(p.inside, "ip address show dev eth0");
	ASSERT_CONTAINS(addresses, "fd00::2/64");
	/* Nothing of ours is taken for an interface of theirs. */
	net_takeover_done(&t);
	t = takeover_inspected(p.inside);
	ASSERT_EQ(t.n, 2);
	close(one);
	takeover_released(p.inside);
	after = netns_picture(p.inside, "eth0");
	ASSERT_STREQ(after, before);
	takeover_released(p.inside);
	close(two);
	takeover_released(p.inside);
	free(after);
	after = netns_picture(p.inside, "eth0");
	ASSERT_STREQ(after, before);
	net_takeover_done(&t);
}

TEST(twice_is_refused_while_it_is_held_and_starts_afresh_afterwards)
{
	struct takeover_pair p = takeover_pair();
	_cleanup_free_ char *before = takeover_settled(p.inside, "eth0"), *after = NULL;
	struct net_takeover t = takeover_inspected(p.inside);
	struct error e = {};
	int tap = takeover_attached(p.inside, &t.nics[0]), other = -1, peer;

	ASSERT_EQ(net_takeover_attach(p.inside, &t.nics[0], NULL, &other, &e), -EBUSY);
	ASSERT_EQ(e.kind, ERROR_BUSY);
	ASSERT_CONTAINS(e.msg, "has been taken over");
	error_done(&e);
	peer = frame_socket(p.outside, "out0");
	frame_assert_joined(tap, peer, 100);
	close(tap);
	tap = takeover_attached(p.inside, &t.nics[0]);
	frame_assert_joined(tap, peer, 100);
	takeover_released(p.inside);
	after = netns_picture(p.inside, "eth0");
	ASSERT_STREQ(after, before);
	close(tap);
	net_takeover_done(&t);
}

TEST(somebody_elses_filters_are_not_touched)
{
	struct takeover_pair p = takeover_pair();
	_cleanup_free_ char *before = NULL, *after = NULL;
	struct net_takeover t = takeover_inspected(p.inside);
	struct error e = {};
	int tap = -1;

	netns_run(p.inside, "tc qdisc add dev eth0 clsact");
	free(takeover_settled(p.inside, "eth0"));
	before = netns_picture(p.inside, "eth0");
	tap = takeover_attached(p.inside, &t.nics[0]);
	close(tap);
	takeover_released(p.inside);
	after = netns_picture(p.inside, "eth0");
	ASSERT_STREQ(after, before);
	netns_run(p.inside, "tc filter add dev eth0 ingress pref 7 u32 match u32 0 0 flowid 1:1");
	free(before);
	before = netns_picture(p.inside, "eth0");
	ASSERT_EQ(net_takeover_attach(p.inside, &t.nics[0], NULL, &tap, &e), -EBUSY);
	ASSERT_CONTAINS(e.msg, "interface 'eth0' has traffic filters already");
	error_done(&e);
	takeover_released(p.inside);
	free(after);
	after = netns_picture(p.inside, "eth0");
	ASSERT_STREQ(after, before);
	net_takeover_done(&t);
}

TEST(a_discipline_that_others_have_come_to_use_stays)
{
	struct takeover_pair p = takeover_pair();
	_cleanup_free_ char *after = NULL;
	struct net_takeover t = takeover_inspected(p.inside);
	int tap = takeover_attached(p.inside, &t.nics[0]);

	netns_run(p.inside, "tc filter add dev eth0 egress pref 7 u32 match u32 0 0 flowid 1:1");
	takeover_released(p.inside);
	after = netns_output(p.inside, "tc filter show dev eth0 egress");
	ASSERT_CONTAINS(after, "pref 7");
	close(tap);
	net_takeover_done(&t);
}

TEST(an_interface_that_has_gone_is_no_obstacle)
{
	struct takeover_pair p = takeover_pair();
	struct net_takeover t = takeover_inspected(p.inside);
	_cleanup_free_ char *after = NULL;
	struct error e = {};
	int tap = takeover_attached(p.inside, &t.nics[0]), other = -1;

	netns_run(p.outside, "ip link del out0");
	takeover_released(p.inside);
	after = netns_output(p.inside, "ip -o link");
	ASSERT(!strstr(after, "sktap"));
	ASSERT_EQ(net_takeover_attach(p.inside, &t.nics[0], NULL, &other, &e), -ENOENT);
	ASSERT_CONTAINS(e.msg, "interface 'eth0' has gone");
	error_done(&e);
	close(tap);
	net_takeover_done(&t);
}

TEST(a_namespace_whose_name_was_removed_is_released_by_its_descriptor)
{
	struct takeover_pair p = takeover_pair();
	_cleanup_free_ char *name = xasprintf("skt%d", getpid()), *path = xasprintf("/run/netns/%s", name);
	struct net_takeover t;
	int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), ns, tap;

	netns_run(own, "ip netns add %s", name);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_OK(ns);
	netns_pair(ns, "eth0", p.outside, "out1");
	netns_run(ns, "ip address add 10.5.0.2/24 dev eth0");
	t = takeover_inspected(ns);
	tap = takeover_attached(ns, &t.nics[0]);
	netns_run(own, "ip netns del %s", name);
	takeover_released(ns);
	close(tap);
	close(ns);
	net_takeover_done(&t);
}

TEST(the_own_namespace_needs_no_descriptor)
{
	struct takeover_pair p = takeover_pair();
	struct net_takeover t;
	int before = netns_enter(p.inside), tap;

	t = takeover_inspected(-1);
	ASSERT_EQ(t.n, 1);
	tap = takeover_attached(-1, &t.nics[0]);
	takeover_released(-1);
	close(tap);
	netns_leave(before);
	net_takeover_done(&t);
}

TEST(what_is_no_namespace_is_refused)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct net_takeover t = {};
	struct error e = {};

	ASSERT(net_takeover_inspect(fd, NULL, &t, &e) < 0);
	ASSERT_CONTAINS(e.msg, "cannot enter the network namespace");
	error_done(&e);
	ASSERT(net_takeover_release(fd, NULL) < 0);
}

/* ---- Broken off ---- */

/* Attach (or release, when @held) in a process of its own that meets its fault at @label. Returns its wait status. */
static int broken_off(int ns, const struct net_takeover_nic *nic, const char *label, const char *action, bool release)
{
	const struct net_takeover_keep keep = takeover_keeping();
	_cleanup_free_ char *fault = xasprintf("%s=%s", label, action);
	int status = -1, fd = -1;
	pid_t pid = fork();

	ASSERT_OK(pid);
	if (pid == 0) {
		setenv("SKERRY_FAULT", fault, 1);
		if (release)
			_exit(net_takeover_release(ns, NULL) < 0);
		_exit(net_takeover_attach(ns, nic, &keep, &fd, NULL) < 0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	return status;
}

static const char *const attach_labels[] = { "takeover.tap",     "takeover.tap-made", "takeover.tap-up",
					     "takeover.outward", "takeover.qdisc",    "takeover.joined" };
static const char *const release_labels[] = { "takeover.release", "takeover.parted", "takeover.released" };

TEST(an_attach_that_fails_leaves_nothing)
{
	struct takeover_pair p = takeover_pair();
	_cleanup_free_ char *before = takeover_settled(p.inside, "eth0");
	struct net_takeover t = takeover_inspected(p.inside);

	for (size_t i = 0; i < ARRAY_SIZE(attach_labels); i++) {
		_cleanup_free_ char *after = NULL;
		int status = broken_off(p.inside, &t.nics[0], attach_labels[i], "ENOMEM", false);

		ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 1);
		after = netns_picture(p.inside, "eth0");
		ASSERT_STREQ(after, before);
	}
	net_takeover_done(&t);
}

TEST(killed_anywhere_it_is_released_or_made_again)
{
	struct takeover_pair p = takeover_pair();
	_cleanup_free_ char *before = takeover_settled(p.inside, "eth0");
	struct net_takeover t = takeover_inspected(p.inside);
	int peer = frame_socket(p.outside, "out0");

	for (size_t i = 0; i < ARRAY_SIZE(attach_labels); i++) {
		_cleanup_free_ char *after = NULL, *again = NULL;
		int tap;

		ASSERT(WIFSIGNALED(broken_off(p.inside, &t.nics[0], attach_labels[i], "kill", false)));
		takeover_released(p.inside);
		after = netns_picture(p.inside, "eth0");
		ASSERT_STREQ(after, before);
		ASSERT(WIFSIGNALED(broken_off(p.inside, &t.nics[0], attach_labels[i], "kill", false)));
		tap = takeover_attached(p.inside, &t.nics[0]);
		frame_assert_joined(tap, peer, 200);
		close(tap);
		takeover_released(p.inside);
		again = netns_picture(p.inside, "eth0");
		ASSERT_STREQ(again, before);
	}
	for (size_t i = 0; i < ARRAY_SIZE(release_labels); i++) {
		_cleanup_free_ char *after = NULL;
		int tap = takeover_attached(p.inside, &t.nics[0]);

		ASSERT(WIFSIGNALED(broken_off(p.inside, NULL, release_labels[i], "kill", true)));
		takeover_released(p.inside);
		close(tap);
		after = netns_picture(p.inside, "eth0");
		ASSERT_STREQ(after, before);
	}
	close(peer);
	net_takeover_done(&t);
}
