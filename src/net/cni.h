/* Networks of CNI plugins (the Container Network Interface specification 0.3.0 to 1.1.0): the list that the administrator configured is called
 * plugin by plugin on a network namespace, and what came of it is taken over from there (net/takeover.h).
 *
 * Plugins are programs, executed as they are, without a shell: configuration on standard input, a result on standard output. The caller records
 * the configuration before cni_add() and the result after it, because a DEL needs both, whatever became of the files since. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "json/json.h"

#define CNI_CONFIG_DIRECTORY "/etc/cni/net.d"

struct cni {
	const char *config_directory; /* NULL = CNI_CONFIG_DIRECTORY */
	const char *const
		*plugin_directories; /* NULL-terminated; NULL = /opt/cni/bin, /usr/lib/cni, /usr/libexec/cni */
	uint64_t timeout_ns;         /* for each plugin; 0 = 60 s */
	uint64_t deadline_ns;        /* for all of them, CLOCK_MONOTONIC; 0 = none */
};

/* One interface of one namespace. All borrowed. */
struct cni_attachment {
	const struct json *network; /* from cni_network() */
	const char *id;             /* [A-Za-z0-9][A-Za-z0-9_.-]* : plugins lease addresses by it */
	const char *netns;          /* path of the namespace; NULL for DEL when it has gone */
	const char *interface;      /* its name inside: "eth0" */
	const struct json *
		capabilities; /* object, may be NULL: arguments by capability ("portMappings"); each plugin gets what it declares */
};

/* The network to use: the first file (by name) of the configuration directory that ends in .conflist, .conf or .json, or the first whose "name" is
 * @name (NULL = any). A single plugin's configuration becomes a list of one. *ret is owned by the caller.
 * Errors: NOT_FOUND none; DATA what is in it is no network, naming the file. */
int cni_network(const struct cni *c, const char *name, struct json **ret, struct error *err);
/* The same from a document; @what names it in errors. */
int cni_network_parse(const char *text, size_t len, const char *what, struct json **ret, struct error *err);

/* Calls every plugin with ADD, in order. *ret_result: what the last one answered, owned by the caller. On failure DEL has been called for the whole
 * list. Errors: what the plugin says, with its name; UNAVAILABLE it is not installed; TIMEOUT. */
int cni_add(const struct cni *c, const struct cni_attachment *a, struct json **ret_result, struct error *err);
/* Calls every plugin with DEL, in reverse. @result: of the ADD, NULL = not known. Idempotent, as plugins have to be. Goes on after a failure and
 * returns the first. */
int cni_del(const struct cni *c, const struct cni_attachment *a, const struct json *result, struct error *err);

/* Name servers and search domains of a result, appended; what is none is left out. */
void cni_dns(const struct json *result, struct strv *servers, struct strv *search);
