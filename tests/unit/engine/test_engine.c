#include "engine/engine.h"

#include <errno.h>

#include "engine/accel.h"
#include "test.h"

TEST(the_table_knows_qemu)
{
	const struct engine *q = engine_find("qemu");

	ASSERT(q && engine_at(0) == q && !engine_at(1));
	ASSERT(!engine_find("firecracker") && !engine_find(""));
	ASSERT_STREQ(q->control_socket, "qmp.sock");
}

TEST(names_of_shapes_and_accelerators_go_both_ways)
{
	enum engine_shape s = SHAPE_MAX;
	enum accel a = ACCEL_MAX;

	ASSERT_OK(engine_shape_parse("full", &s));
	ASSERT_EQ(s, SHAPE_FULL);
	ASSERT_STREQ(engine_shape_name(SHAPE_MICRO), "micro");
	ASSERT_EQ(engine_shape_parse("Full", &s), -EINVAL);
	ASSERT_STREQ(engine_shape_name(SHAPE_MAX), "?");
	ASSERT_OK(accel_parse("kvm", &a));
	ASSERT_EQ(a, ACCEL_KVM);
	ASSERT_STREQ(accel_name(ACCEL_AUTO), "auto");
	ASSERT_EQ(accel_parse("", &a), -EINVAL);
	ASSERT_STREQ(accel_name((enum accel)77), "?");
}
