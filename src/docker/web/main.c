/* skerry-web: see web.h. "skerry-web DIRECTORY [display]", with descriptors 3 (listens) and 4 (the broker). */
#include <stdio.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/memory.h"
#include "docker/page.h"
#include "docker/web/confine.h"
#include "docker/web/web.h"

/* HEADER_S: for a whole request to come, however slowly it is sent. */
enum { HEADER_BYTES = 4096, HEADER_S = 10, IDLE_S = 10, PING_S = 20, HANGUP_S = 50, RX_BYTES = 4096 };

static int read_token(struct access *a, struct error *err)
{
	char token[PAGE_TOKEN_MAX + 1];
	ssize_t n = recv(FD_BROKER, token, sizeof(token) - 1, 0);

	if (n <= 0)
		return error_set_errno(err, n < 0 ? errno : ENODATA, "no token was given");
	token[n] = '\0';
	access_init(a, token);
	explicit_bzero(token, sizeof(token));
	return 0;
}

static bool adopt(struct web *web, int fd, const char *protocol)
{
	lws_adopt_desc_t d = {
		.vh = web->vhost, .type = LWS_ADOPT_RAW_FILE_DESC, .fd = { .filefd = fd }, .vh_prot_name = protocol
	};

	return lws_adopt_descriptor_vhost_via_info(&d) != NULL;
}

static int serve(struct web *web, struct error *err)
{
	const struct lws_protocols protocols[] = {
		{ "http", server_on_http, server_session_size(), 0, PROTOCOL_HTTP, NULL, 0 },
		{ "console", bridge_on_websocket, bridge_session_size(), RX_BYTES, PROTOCOL_CONSOLE, NULL, 0 },
		{ "display", bridge_on_websocket, bridge_session_size(), RX_BYTES, PROTOCOL_DISPLAY, NULL, 0 },
		{ "listener", server_on_listener, 0, 0, PROTOCOL_LISTENER, NULL, 0 },
		{ "broker", bridge_on_broker, 0, 0, PROTOCOL_BROKER, NULL, 0 },
		{ "machine", bridge_on_machine, 0, 0, PROTOCOL_MACHINE, NULL, 0 },
		{},
	};
	const lws_retry_bo_t idle = { .secs_since_valid_ping = PING_S, .secs_since_valid_hangup = HANGUP_S };
	const struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN_SERVER,
		.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS,
		.protocols = protocols,
		.user = web,
		.vhost_name = "page",
		.server_string = "skerry",
		.gid = -1,
		.uid = -1,
		.timeout_secs = HEADER_S,
		.timeout_secs_ah_idle = HEADER_S,
		.keepalive_timeout = IDLE_S,
		.max_http_header_data = HEADER_BYTES,
		.max_http_header_pool = VISITORS_MAX,
		.fd_limit_per_thread = FDS_MAX,
		.retry_and_idle_policy = &idle,
	};
	int r = 0;

	/* Strangers must not fill the container's log. */
	lws_set_log_level(0, NULL);
	web->context = lws_create_context(&info);
	if (web->context)
		web->vhost = lws_create_vhost(web->context, &info);
	if (!web->vhost || !adopt(web, FD_LISTEN, "listener") || !adopt(web, FD_BROKER, "broker"))
		r = error_set(err, ENOMEM, "cannot serve");
	if (r >= 0)
		r = confine_to_sockets(err);
	while (r >= 0 && !web->ended)
		if (lws_service(web->context, 0) < 0)
			break;
	return r;
}

int main(int argc, char **argv)
{
	_cleanup_error_ struct error e = {};
	struct web *web = xnew(struct web);
	int r;

	log_setup(STDERR_FILENO, LOG_LEVEL_INFO, false);
	if (argc < 2) {
		fprintf(stderr, "skerry-web: is started by skerry-vm\n");
		return 64;
	}
	web->display = argc > 2 && streq(argv[2], "display");
	r = confine_descriptors(FD_BROKER - 2, FDS_MAX, &e);
	if (r >= 0)
		r = read_token(&web->access, &e);
	if (r >= 0)
		r = assets_load(argv[1], &web->assets, &e);
	if (r >= 0)
		r = confine_user(PAGE_UID, &e);
	if (r >= 0)
		r = serve(web, &e);
	if (r < 0)
		log_error("the console's page: %s", e.msg);
	/* The context holds sockets whose other ends are told by our end. */
	return r < 0 ? 1 : 0;
}
