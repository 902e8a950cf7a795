#include "wire/copystream.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "agent.pb-c.h"
#include "wire/cursor.h"
#include "wire/message.h"

enum { COMPONENT_BYTES_MAX = 255, ERRNO_MAX = 4095 };

int copystream_next(const struct buf *in, const uint8_t **ret_msg, size_t *ret_len, size_t *ret_used)
{
	struct cursor c = cursor_of(in->p, in->len);
	uint32_t len;

	if (in->len < COPYSTREAM_HEADER_SIZE)
		return 0;
	len = cursor_u32be(&c);
	if (len > COPYSTREAM_RECORD_MAX)
		return -EMSGSIZE;
	if (cursor_left(&c) < len)
		return 0;
	*ret_msg = c.p;
	*ret_len = len;
	*ret_used = COPYSTREAM_HEADER_SIZE + (size_t)len;
	return 1;
}

static bool path_is_valid(const char *path)
{
	size_t total = strlen(path);

	if (total == 0 || total > COPYSTREAM_PATH_MAX)
		return false;
	for (const char *p = path;;) {
		size_t n = strcspn(p, "/");

		if (n == 0 || n > COMPONENT_BYTES_MAX || (n == 1 && p[0] == '.') ||
		    (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		if (!p[n])
			return true;
		p += n + 1;
	}
}

static int take_entry(const Skerry__Agent__V1__CopyEntry *m, struct copystream_record *ret)
{
	if (!path_is_valid(m->path) || m->size > INT64_MAX || strlen(m->link) > COPYSTREAM_PATH_MAX)
		return -EBADMSG;
	ret->type = COPYSTREAM_ENTRY;
	ret->path = m->path;
	ret->mode = m->mode;
	ret->uid = m->uid;
	ret->gid = m->gid;
	ret->size = m->size;
	ret->mtime_ns = m->mtime_ns;
	ret->link = m->link;
	return 0;
}

static int take_record(const Skerry__Agent__V1__CopyRecord *m, struct copystream_record *ret)
{
	switch ((int)m->record_case) {
	case SKERRY__AGENT__V1__COPY_RECORD__RECORD_ENTRY: return take_entry(m->entry, ret);
	case SKERRY__AGENT__V1__COPY_RECORD__RECORD_DATA:
		if (m->data->data.len > COPYSTREAM_DATA_MAX || m->data->offset > INT64_MAX - m->data->data.len)
			return -EBADMSG;
		ret->type = COPYSTREAM_DATA;
		ret->offset = m->data->offset;
		ret->data = m->data->data.data;
		ret->data_len = m->data->data.len;
		return 0;
	case SKERRY__AGENT__V1__COPY_RECORD__RECORD_ERROR:
		if (m->error->num < 1 || m->error->num > ERRNO_MAX || strlen(m->error->path) > COPYSTREAM_PATH_MAX)
			return -EBADMSG;
		ret->type = COPYSTREAM_ERROR;
		ret->path = m->error->path;
		ret->num = m->error->num;
		return 0;
	case SKERRY__AGENT__V1__COPY_RECORD__RECORD_END: ret->type = COPYSTREAM_END; return 0;
	case SKERRY__AGENT__V1__COPY_RECORD__RECORD__NOT_SET:
	default: return -EBADMSG;
	}
}

int copystream_decode(const uint8_t *msg, size_t len, struct copystream_record *ret)
{
	Skerry__Agent__V1__CopyRecord *m = message_unpack(&skerry__agent__v1__copy_record__descriptor, msg, len);
	struct copystream_record r = { .path = "", .link = "", .unpacked = m };
	int rc;

	if (!m)
		return -EBADMSG;
	rc = take_record(m, &r);
	if (rc < 0) {
		copystream_record_done(&r);
		return rc;
	}
	*ret = r;
	return 0;
}

void copystream_record_done(struct copystream_record *r)
{
	message_free(r->unpacked);
	*r = (struct copystream_record){ .path = "", .link = "" };
}

int copystream_encode(struct buf *out, const struct copystream_record *r)
{
	/* protobuf-c never writes through the pointers of a message that it packs. */
	union {
		const void *c;
		char *text;
		uint8_t *bytes;
	} path = { .c = r->path ? r->path : "" }, link = { .c = r->link ? r->link : "" }, data = { .c = r->data };
	Skerry__Agent__V1__CopyRecord m;
	Skerry__Agent__V1__CopyEntry entry;
	Skerry__Agent__V1__CopyData bytes;
	Skerry__Agent__V1__CopyError error;
	Skerry__Agent__V1__Empty end;
	size_t n;
	uint8_t *p;

	skerry__agent__v1__copy_record__init(&m);
	skerry__agent__v1__copy_entry__init(&entry);
	skerry__agent__v1__copy_data__init(&bytes);
	skerry__agent__v1__copy_error__init(&error);
	skerry__agent__v1__empty__init(&end);
	switch (r->type) {
	case COPYSTREAM_ENTRY:
		entry.path = path.text;
		entry.mode = r->mode;
		entry.uid = r->uid;
		entry.gid = r->gid;
		entry.size = r->size;
		entry.mtime_ns = r->mtime_ns;
		entry.link = link.text;
		m.record_case = SKERRY__AGENT__V1__COPY_RECORD__RECORD_ENTRY;
		m.entry = &entry;
		break;
	case COPYSTREAM_DATA:
		bytes.offset = r->offset;
		bytes.data = (ProtobufCBinaryData){ .len = r->data_len, .data = data.bytes };
		m.record_case = SKERRY__AGENT__V1__COPY_RECORD__RECORD_DATA;
		m.data = &bytes;
		break;
	case COPYSTREAM_ERROR:
		error.path = path.text;
		error.num = r->num;
		m.record_case = SKERRY__AGENT__V1__COPY_RECORD__RECORD_ERROR;
		m.error = &error;
		break;
	case COPYSTREAM_END:
		m.record_case = SKERRY__AGENT__V1__COPY_RECORD__RECORD_END;
		m.end = &end;
		break;
	}
	n = protobuf_c_message_get_packed_size(&m.base);
	if (n > COPYSTREAM_RECORD_MAX)
		return -EMSGSIZE;
	p = buf_reserve(out, COPYSTREAM_HEADER_SIZE + n);
	p[0] = (uint8_t)(n >> 24);
	p[1] = (uint8_t)(n >> 16);
	p[2] = (uint8_t)(n >> 8);
	p[3] = (uint8_t)n;
	buf_commit(out, COPYSTREAM_HEADER_SIZE);
	message_pack(out, &m.base);
	return 0;
}
