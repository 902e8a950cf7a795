/* For images that boot by firmware: their seeds; for installers: their answers. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/image_disk_import.h"
#include "cli/image_verbs.h"
#include "disk/iso.h"
#include "disk/seed.h"

enum { SEED_FD = 3, ANSWERS_FD = 3, SETTINGS_MAX = 8 << 20 };
#define ANSWERS_MAX (UINT64_C(4) << 30)

/* From the settings on standard input (disk/seed.h, as JSON) to the file on descriptor 3. */
static int write_seed(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_buf_ struct buf text = {};
	_cleanup_seed_ struct seed seed = {};
	int r;

	(void)s;
	(void)argv;
	if (argc > 1)
		return verb_usage(err, "write-seed takes no argument");
	r = file_read_fd(STDIN_FILENO, SETTINGS_MAX, &text);
	if (r < 0)
		return error_set_errno(err, r, "seed: cannot read its settings");
	r = json_parse(text.p ? text.p : "", text.len, "seed settings", &tree, err);
	if (text.p)
		explicit_bzero(text.p, text.len);
	if (r >= 0)
		r = json_load(tree, seed_fields, &seed, "seed settings", err);
	return r < 0 ? r : seed_write(&seed, SEED_FD, err);
}

/* The volume that installers look for: CIDATA where the files are cloud-init's (Ubuntu's autoinstall), else OEMDRV (Anaconda's kickstart, and
 * whatever the installer is told to read). */
static int write_answers(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_free_ char *what = NULL;
	_cleanup_close_ int dir = -EBADF;
	_cleanup_iso_ struct iso *iso = NULL;
	bool cloud;
	int r;

	(void)s;
	if (argc != 2)
		return verb_usage(err, "write-answers wants a directory");
	what = xasprintf("--answers '%s'", argv[1]);
	dir = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return error_set_errno(err, errno, "%s: cannot open it", what);
	cloud = faccessat(dir, "user-data", F_OK, 0) == 0 && faccessat(dir, "meta-data", F_OK, 0) == 0;
	r = iso_create(ANSWERS_FD, cloud ? "CIDATA" : "OEMDRV", &iso, err);
	if (r >= 0)
		r = iso_add_tree(iso, dir, what, ANSWERS_MAX, err);
	return r < 0 ? r : iso_finish(iso, err);
}

/* What was installed on DISK becomes an image. */
static int seal_image(const struct store *s, int argc, char **argv, struct error *err)
{
	static const struct option longs[] = {
		{ "name", required_argument, NULL, 'n' },   { "user", required_argument, NULL, 'u' },
		{ "source", required_argument, NULL, 's' }, { "nvram", required_argument, NULL, 'v' },
		{ "home", required_argument, NULL, 'h' },   {},
	};
	_cleanup_free_ char *digest = NULL;
	struct disk_import d = {};
	int c, r;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'n': d.name = optarg; break;
		case 'u': d.user = optarg; break;
		case 's': d.source = optarg; break;
		case 'v': d.nvram = optarg; break;
		case 'h': d.home = optarg; break;
		default: return verb_usage(err, "unknown option, or one without its value");
		}
	}
	if (optind + 1 != argc || !d.name)
		return verb_usage(err, "seal-image wants a disk and --name");
	d.path = argv[optind];
	r = disk_import(s, &d, &digest, err);
	if (r >= 0)
		printf("%s %s\n", d.name, digest);
	return r;
}

const struct verb image_firmware_verbs[] = {
	{ "seal-image", "DISK --name NAME [--user U] [--source TEXT] [--nvram FILE] [--home FILE]", false, seal_image },
	{ "write-answers", "DIR 3>ISO", true, write_answers },
	{ "write-seed", "<SETTINGS 3>ISO", true, write_seed },
	{},
};
