/* The console on a web page: CONSOLE=web.
 *
 * The page is served by a program of its own, skerry-web, which reads what strangers send and therefore may do nothing else: it is given the socket that
 * it accepts from and the token, and asks here for each connection to the machine. It is started anew when it ends. */
#pragma once

#include <stdbool.h>

#include "base/loop.h"
#include "docker/settings.h"
#include "store/name.h"
#include "store/store.h"

enum { PAGE_TOKEN_MAX = 128 };
/* Where this is root, skerry-web becomes a user whose number nothing else on the system has, as the engine does. */
#define PAGE_UID 0x7dfffffeu
/* What skerry-web asks: one byte, answered by one byte, with a connected socket when there is one. The token is sent to it first. */
#define PAGE_ASK_CONSOLE 'c'
#define PAGE_ASK_DISPLAY 'd'
#define PAGE_ANSWER_HERE 'y'
#define PAGE_ANSWER_NONE 'n'

struct page;

/* Listens on the settings' port, and serves until page_free(). The token is the settings' or the volume's, which is made at the first start; the log is
 * told the address. @display: the machine has one. Everything is borrowed and outlives the page. Errors: kind CONFIG when the port cannot be had; UNAVAILABLE without skerry-web. */
int page_new(struct loop *loop, const struct store *s, const struct settings *settings, const struct name *machine,
	     bool display, struct page **ret, struct error *err);
/* Accepts NULL; returns NULL. */
struct page *page_free(struct page *p);

/* The volume's token: made when there is none yet. Wiped and released by the caller. */
int page_token(const struct store *s, char **ret, struct error *err);
