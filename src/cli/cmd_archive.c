/* image import, image save: images from files and into files. */
#include <inttypes.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/provide.h"

struct import_options {
	const char *name, *select, *platform, *user;
	int format;
	uint64_t disk_bytes;
	bool quiet;
};

static const struct option import_table[] = {
	TEXT(0, "name", "NAME[:TAG]", import_options, name,
	     "What to call it (its own name, or the file's, unless given)"),
	TEXT(0, "select", "NAME", import_options, select, "Which one of an archive that holds several"),
	TEXT(0, "platform", "OS/ARCH", import_options, platform, "Which one of an image for several platforms"),
	BYTES(0, "disk", "SIZE", import_options, disk_bytes, "Size of its disk"),
	CHOICE(0, "format", "FORMAT", import_options, format,
	       "File system of its disk: ext4, or a read-only erofs (as before, else ext4, unless given)",
	       .words = "auto|ext4|erofs"),
	TEXT(0, "user", "USER", import_options, user, "A disk image's user, whom cloud-init makes (dev unless given)"),
	FLAG('q', "quiet", import_options, quiet, "No progress"),
};

static int run_import(const struct invocation *inv, struct error *err)
{
	static const char *const formats[] = { NULL, "ext4", "erofs" };
	const struct import_options *o = inv->options;
	_cleanup_free_ char *bytes = xasprintf("%" PRIu64, o->disk_bytes);
	_cleanup_strv_ struct strv args = {};

	strv_add(&args, "import-image");
	if (o->name) {
		strv_add(&args, "--name");
		strv_add(&args, o->name);
	}
	if (o->select) {
		strv_add(&args, "--select");
		strv_add(&args, o->select);
	}
	if (o->platform) {
		strv_add(&args, "--platform");
		strv_add(&args, o->platform);
	}
	if (o->user) {
		strv_add(&args, "--user");
		strv_add(&args, o->user);
	}
	if (o->disk_bytes) {
		strv_add(&args, "--disk");
		strv_add(&args, bytes);
	}
	if (formats[o->format]) {
		strv_add(&args, "--format");
		strv_add(&args, formats[o->format]);
	}
	if (o->quiet)
		strv_add(&args, "--quiet");
	strv_add(&args, "--");
	strv_add(&args, inv->operands[0]);
	return provide_run_from((const char *const *)args.items, STDIN_FILENO, STDOUT_FILENO, err);
}

const struct command image_import_command = {
	.name = "import",
	.operands = "SOURCE",
	.min_operands = 1,
	.max_operands = 1,
	.complete = "file",
	.summary = "Make an image of a file: an archive, an OCI layout, a root file system, a disk",
	.description =
		"SOURCE is a path, whose content tells what it is, or one of docker-archive:FILE (what docker save "
		"writes), oci-archive:FILE, oci:DIR[:NAME], tar:FILE (a root file system, packed with gzip, zstd, xz "
		"or "
		"bzip2, or not), docker-daemon:NAME (an image of Docker's) or docker-container:NAME (a container of "
		"Docker's, running or not). - is standard input. Nothing is mounted and no root is needed; what is in "
		"an archive "
		"never gets onto this host's file system but into the image's disk. A whole disk (qcow2, raw, VMDK, "
		"VHDX or "
		"VDI, compressed or not; disk:FILE) becomes an image that boots by itself, with UEFI firmware, and is "
		"told name, "
		"user, keys and --user-data by cloud-init. One that refers to another file (a backing file, external "
		"data) is "
		"refused.",
	.examples = { { "skerry image import app.tar", "What docker save wrote" },
		      { "skerry image import oci:layout:1.2 --name app:1.2", "One of a layout's images" },
		      { "skerry image import noble-server-cloudimg-amd64.img --name ubuntu",
			"A distribution's cloud image" },
		      { "skerry image import docker-daemon:app:1", "An image that Docker has" } },
	.options = import_table,
	.n_options = ARRAY_SIZE(import_table),
	.options_size = sizeof(struct import_options),
	.run = run_import,
};

struct save_options {
	const char *output;
};

static const struct option save_table[] = {
	TEXT('o', "output", "DEST", save_options, output, "Where to write it (standard output unless given)",
	     .complete = "file"),
};

static int run_save(const struct invocation *inv, struct error *err)
{
	const struct save_options *o = inv->options;
	const char *to = o->output ? o->output : inv->n_operands > 1 ? inv->operands[1] : "-";

	return provide_run((const char *const[]){ "save-image", "--", inv->operands[0], to, NULL }, STDOUT_FILENO, err);
}

const struct command image_save_command = {
	.name = "save",
	.operands = "IMAGE [DEST]",
	.min_operands = 1,
	.max_operands = 2,
	.complete = "image",
	.summary = "Write an image into an archive or a layout",
	.description = "DEST is docker-archive:FILE (a plain FILE is one, too), oci-archive:FILE, oci:DIR[:NAME] or "
		       "docker-daemon:[NAME], which puts it into Docker itself ($DOCKER_HOST, or "
		       "/var/run/docker.sock). docker "
		       "load, podman load and skopeo read them.",
	.examples = { { "skerry image save app:1 -o app.tar", "For docker load" },
		      { "skerry image save app:1 oci:layout", "Into an OCI layout" } },
	.options = save_table,
	.n_options = ARRAY_SIZE(save_table),
	.options_size = sizeof(struct save_options),
	.run = run_save,
};
