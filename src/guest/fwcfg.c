#include "guest/fwcfg.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/io.h>

#include "base/file.h"
#include "wire/cursor.h"

enum {
	SELECTOR_PORT = 0x510,
	DATA_PORT = 0x511,
	ITEM_SIGNATURE = 0x0000,
	ITEM_DIRECTORY = 0x0019,
	ENTRY_SIZE = 64,
	NAME_SIZE = 56,
	ENTRIES_MAX = 4096,
};

static void item_select(uint16_t item)
{
	outw(item, SELECTOR_PORT);
}

/* An item is read from its begin on, front to back. */
static void item_read(void *to, size_t n)
{
	insb(DATA_PORT, to, n);
	/* Not every C library's header tells the compiler that this writes to memory. */
	__asm__ volatile("" : : "r"(to) : "memory");
}

/* Looks for @name in the directory: big-endian count, then size, item, two bytes of nothing, and the name of each file. */
static int find_file(const char *name, uint16_t *ret_item, uint32_t *ret_size)
{
	uint8_t head[4], entry[ENTRY_SIZE];
	struct cursor c;
	uint32_t n;

	item_select(ITEM_DIRECTORY);
	item_read(head, sizeof(head));
	c = cursor_of(head, sizeof(head));
	n = cursor_u32be(&c);
	for (uint32_t i = 0; i < n && i < ENTRIES_MAX; i++) {
		const uint8_t *item, *text;

		item_read(entry, sizeof(entry));
		c = cursor_of(entry, sizeof(entry));
		*ret_size = cursor_u32be(&c);
		item = cursor_bytes(&c, 4);
		text = cursor_bytes(&c, NAME_SIZE);
		if (!item || !text || strnlen((const char *)text, NAME_SIZE) != strlen(name) ||
		    memcmp(text, name, strlen(name)) != 0)
			continue;
		*ret_item = (uint16_t)(item[0] << 8 | item[1]);
		return 0;
	}
	return -ENOENT;
}

static int read_by_ports(const char *name, size_t limit, struct buf *out)
{
	char signature[4];
	uint32_t size;
	uint16_t item;
	int r;

	if (ioperm(SELECTOR_PORT, 2, 1) < 0)
		return -errno;
	item_select(ITEM_SIGNATURE);
	item_read(signature, sizeof(signature));
	if (memcmp(signature, "QEMU", sizeof(signature)) != 0) {
		r = -ENODEV;
	} else {
		r = find_file(name, &item, &size);
		if (r == 0 && size > limit)
			r = -EFBIG;
		if (r == 0) {
			item_select(item);
			item_read(buf_reserve(out, size), size);
			buf_commit(out, size);
		}
	}
	(void)ioperm(SELECTOR_PORT, 2, 0);
	return r;
}

int fwcfg_read(const char *name, size_t limit, struct buf *out)
{
	_cleanup_buf_ struct buf path = { 0 };
	int r = read_by_ports(name, limit, out);

	if (r == 0 || r == -ENOENT || r == -EFBIG)
		return r;
	buf_addf(&path, "/sys/firmware/qemu_fw_cfg/by_name/%s/raw", name);
	return file_read_at(AT_FDCWD, path.p, limit, out) == 0 ? 0 : r;
}
