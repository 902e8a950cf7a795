/* The NoCloud seed: how an image that boots by firmware learns its settings from cloud-init (datasource NoCloud, cloudinit.readthedocs.io).
 *
 * seed.c is light: what a seed is made from, for everybody. seed_write.c renders the documents and writes the ISO, with the libraries that only
 * skerry-image links. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/memory.h"
#include "json/json.h"

/* User data above this is refused; cloud services allow 16 KiB to 64 KiB. */
#define SEED_USER_DATA_MAX (UINT64_C(1) << 20)
/* "skerry-" and 32 hex digits. */
#define SEED_INSTANCE_ID_SIZE 40

struct seed_route {
	char *to;        /* CIDR */
	char *via;       /* NULL or "" = on the link */
	uint32_t metric; /* 0 = the guest's default */
};

struct seed_interface {
	char *mac;                 /* "02:…" */
	struct strv addresses;     /* CIDR; empty = DHCP */
	char *gateway, *gateway6;  /* NULL or "" = none */
	uint32_t mtu;              /* 0 = whatever the network says; with DHCP it is left to DHCP */
	struct strv dns, search;   /* with DHCP: instead of what that says */
	struct seed_route *routes; /* beside those by the two gateways */
	size_t n_routes;
};

/* Everything owned. Holds a private key: seed_done() wipes it. */
struct seed {
	char *hostname;
	char *user;     /* default user: made in the image's own way, with sudo; NULL = the image's own */
	char *password; /* of the default user, as crypt(5) has it; NULL = locked */
	bool home;      /* a second disk, serial "home", belongs on /home */
	struct strv authorized_keys;
	char *host_key, *host_key_public; /* ed25519, OpenSSH's text forms; NULL = the guest makes its own */
	struct seed_interface *interfaces;
	size_t n_interfaces;
	char *timezone;     /* "Europe/Berlin"; NULL = the image's */
	struct strv shares; /* "TAG:TARGET", where the last ':' divides: directories of the host, by 9p */
	char *user_data;    /* as given by the user; NULL = none */
};
extern const struct json_field seed_fields[]; /* its form on skerry-image's standard input */
void seed_done(struct seed *s);
#define _cleanup_seed_ _cleanup_(seed_done)

/* Refuses what cloud-init would ignore or misread: what is empty, too large, no UTF-8 text, or begins like nothing it knows. @what names it in
 * errors ("--user-data 'x.yaml'"). Errors: -EBADMSG (kind DATA) with a hint. */
int seed_check_user_data(const char *text, size_t len, const char *what, struct error *err);

/* The three documents. Pure. */
struct seed_documents {
	struct buf user_data, meta_data, network_config;
	char instance_id[SEED_INSTANCE_ID_SIZE]; /* a hash of everything else in here */
};
int seed_render(const struct seed *s, struct seed_documents *ret, struct error *err);
void seed_documents_done(struct seed_documents *d);
/* Renders, and writes the ISO 9660 image (volume CIDATA) to the empty file @fd. */
int seed_write(const struct seed *s, int fd, struct error *err);
