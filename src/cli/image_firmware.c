/* For images that boot by firmware: their seeds. */
#include <unistd.h>

#include "base/file.h"
#include "cli/image_verbs.h"
#include "disk/seed.h"

enum { SEED_FD = 3, SETTINGS_MAX = 8 << 20 };

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

const struct verb image_firmware_verbs[] = {
	{ "write-seed", "<SETTINGS 3>ISO", true, write_seed },
	{},
};
