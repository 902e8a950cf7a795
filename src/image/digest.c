#include "image/digest.h"

#include <endian.h>
#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/memory.h"

enum { BLOCK = 64 << 10 };

static void free_context(EVP_MD_CTX **c)
{
	EVP_MD_CTX_free(*c);
}

static EVP_MD_CTX *new_context(void)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();

	/* SHA-256 exists in every libcrypto; failing here means that memory is out. */
	if (!c || EVP_DigestInit_ex(c, EVP_sha256(), NULL) != 1)
		abort();
	return c;
}

static char *finish(EVP_MD_CTX *c)
{
	_cleanup_buf_ struct buf out = {};
	uint8_t md[32];

	if (EVP_DigestFinal_ex(c, md, NULL) != 1)
		abort();
	buf_adds(&out, "sha256:");
	for (size_t i = 0; i < sizeof(md); i++)
		buf_addf(&out, "%02x", md[i]);
	return buf_take(&out);
}

char *digest_bytes(const void *p, size_t n)
{
	_cleanup_(free_context) EVP_MD_CTX *c = new_context();

	(void)EVP_DigestUpdate(c, p, n);
	return finish(c);
}

struct digest {
	EVP_MD_CTX *c; /* owned */
};

struct digest *digest_new(void)
{
	struct digest *d = xnew(struct digest);

	d->c = new_context();
	return d;
}

void digest_add(struct digest *d, const void *p, size_t n)
{
	(void)EVP_DigestUpdate(d->c, p, n);
}

char *digest_text(struct digest *d)
{
	return finish(d->c);
}

struct digest *digest_free(struct digest *d)
{
	if (d)
		EVP_MD_CTX_free(d->c);
	free(d);
	return NULL;
}

void digest_raw(const void *p, size_t n, uint8_t ret[32])
{
	_cleanup_(free_context) EVP_MD_CTX *c = new_context();

	(void)EVP_DigestUpdate(c, p, n);
	(void)EVP_DigestFinal_ex(c, ret, NULL);
}

static void add_number(EVP_MD_CTX *c, uint64_t v)
{
	v = htole64(v);
	(void)EVP_DigestUpdate(c, &v, sizeof(v));
}

int digest_disk(int fd, const char *what, char **ret, struct error *err)
{
	static const uint8_t zeros[BLOCK];
	_cleanup_(free_context) EVP_MD_CTX *c = new_context();
	_cleanup_free_ uint8_t *block = xcalloc(1, BLOCK);
	struct stat st;
	off_t at = 0;

	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "%s", what);
	(void)EVP_DigestUpdate(c, "skerry disk 1\n", 14);
	add_number(c, (uint64_t)st.st_size);
	while (at < st.st_size) {
		off_t data = lseek(fd, at, SEEK_DATA);
		size_t n;
		int r;

		if (data < 0 && errno == ENXIO)
			break;
		if (data < 0)
			data = at; /* a file system without holes */
		at = data / BLOCK * BLOCK;
		n = st.st_size - at < BLOCK ? (size_t)(st.st_size - at) : BLOCK;
		r = pread_full(fd, block, n, (uint64_t)at);
		if (r < 0)
			return error_set_errno(err, -r, "%s: cannot read it", what);
		if (memcmp(block, zeros, n) != 0) {
			add_number(c, (uint64_t)at / BLOCK);
			(void)EVP_DigestUpdate(c, block, n);
		}
		at += BLOCK;
	}
	*ret = finish(c);
	return 0;
}
