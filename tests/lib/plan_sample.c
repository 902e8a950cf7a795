#include "plan_sample.h"

#include "base/memory.h"

void sample_spec(struct machine_spec *s)
{
	machine_spec_init(s);
	s->name = xstrdup("web");
	s->id = xstrdup("00112233445566778899aabbccddeeff");
	s->image_digest = xstrdup("sha256:1234");
}

void sample_facts(struct plan_facts *f)
{
	*f = (struct plan_facts){
		.engine = engine_find("qemu"),
		.program = xstrdup("/usr/bin/qemu-system-x86_64"),
		.accel = ACCEL_TCG,
		.accel_why = xstrdup("asked for"),
		.kernel_path = xstrdup("/k/vmlinux"),
		.initrd_path = xstrdup("/k/initrd"),
		.image_disk = xstrdup("/i/disk.raw"),
		.machine_dir = xstrdup("/m/web"),
		.run_dir = xstrdup("/r/web"),
	};
	f->image.fstype = xstrdup("ext4");
	f->image.format = xstrdup("raw");
	f->kernel.name = xstrdup("built");
}
