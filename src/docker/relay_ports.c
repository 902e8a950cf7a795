#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/parse.h"
#include "docker/relay.h"

#define SEPARATORS ", \t\r\n"
/* "[IPv6]:" and two ranges fit; whatever is longer is none. */
enum { SPEC_MAX = 96, RANGES_MAX = 4096 };

#define FORM "write [IP:][PORT:]GUEST[/tcp or /udp], as in 8080:80, 53:53/udp or 8000-8010"

static const char *wrong_form(const char *what, const char **ret_fix)
{
	*ret_fix = FORM;
	return what;
}

static bool range_parse(char *s, uint16_t *ret_first, uint16_t *ret_last)
{
	char *dash = strchr(s, '-');
	uint64_t first, last;

	if (dash)
		*dash = '\0';
	if (parse_u64(s, 1, UINT16_MAX, &first) < 0)
		return false;
	last = first;
	if (dash && parse_u64(dash + 1, first, UINT16_MAX, &last) < 0)
		return false;
	*ret_first = (uint16_t)first;
	*ret_last = (uint16_t)last;
	return true;
}

static bool ip_is_any(const char *ip)
{
	return streq(ip, "0.0.0.0") || streq(ip, "::");
}

/* Cuts "[IPv6]:" or "IPv4:" off the front of *@s. */
static const char *cut_ip(char **s, struct relay_range *r, const char **fix)
{
	char *ip = *s, *end = NULL;
	unsigned char address[16];
	int family = AF_INET;

	if (*ip == '[') {
		ip++;
		end = strchr(ip, ']');
		if (!end || end[1] != ':')
			return wrong_form("after '[' an IPv6 address and ']:' are expected", fix);
		family = AF_INET6;
		*s = end + 2;
	} else {
		end = strchr(ip, ':');
		/* The last two parts are ports. */
		if (!end || !strchr(end + 1, ':'))
			return NULL;
		*s = end + 1;
	}
	*end = '\0';
	if (inet_pton(family, ip, address) != 1)
		return wrong_form(family == AF_INET ? "its first part is no IPv4 address"
						    : "there is no IPv6 address in the brackets",
				  fix);
	if (!ip_is_any(ip))
		memcpy(r->ip, ip, strlen(ip) + 1);
	return NULL;
}

/* NULL, or what is wrong with it and *@fix. */
static const char *spec_parse(char *s, struct relay_range *r, const char **fix)
{
	char *slash = strchr(s, '/'), *colon;
	uint16_t guest_last;
	const char *wrong;

	if (slash) {
		*slash++ = '\0';
		if (strcasecmp(slash, "tcp") != 0 && strcasecmp(slash, "udp") != 0) {
			*fix = "write /tcp or /udp, or nothing for tcp";
			return "only tcp and udp reach the guest";
		}
		r->udp = strcasecmp(slash, "udp") == 0;
	}
	wrong = cut_ip(&s, r, fix);
	if (wrong)
		return wrong;
	colon = strchr(s, ':');
	if (colon && strchr(colon + 1, ':'))
		return wrong_form("there are more parts than an address and two ports", fix);
	if (colon)
		*colon++ = '\0';
	if (!range_parse(colon ? colon : s, &r->guest_first, &guest_last))
		return wrong_form("the guest's port is not a number from 1 to 65535, or a range of them", fix);
	r->first = r->guest_first;
	r->last = guest_last;
	/* "IP::80" has docker choose a port; nobody could tell which, so it is the guest's. */
	if (colon && *s && !range_parse(s, &r->first, &r->last))
		return wrong_form("the container's port is not a number from 1 to 65535, or a range of them", fix);
	if (r->last - r->first != guest_last - r->guest_first) {
		*fix = "write as many ports before the colon as after it";
		return "its two ranges are not of one length";
	}
	return NULL;
}

static bool same_address(const char *a, const char *b)
{
	return !*a || !*b || streq(a, b);
}

static const struct relay_range *find_overlap(const struct relay_ports *p, const struct relay_range *r)
{
	for (size_t i = 0; p && i < p->n; i++) {
		const struct relay_range *o = &p->items[i];

		if (o->udp == r->udp && o->first <= r->last && r->first <= o->last && same_address(o->ip, r->ip))
			return o;
	}
	return NULL;
}

static void append(struct relay_ports *p, const struct relay_range *r)
{
	p->items = xrealloc_array(p->items, p->n + 1, sizeof(*p->items));
	p->items[p->n++] = *r;
}

/* Whether @r is in the list already, word for word. */
static bool is_repeated(const struct relay_range *r, const struct relay_range *o)
{
	return o->first == r->first && o->last == r->last && o->guest_first == r->guest_first && streq(o->ip, r->ip);
}

int relay_ports_parse(const char *text, const struct relay_ports *except, struct relay_ports *ret,
		      struct strv *ret_wrong)
{
	int n_wrong = 0;

	for (size_t len; *text; text += len) {
		const char *wrong = NULL, *fix = FORM;
		const struct relay_range *other;
		struct relay_range r = {};
		char spec[SPEC_MAX + 1];
		unsigned taken = 0;

		text += strspn(text, SEPARATORS);
		len = strcspn(text, SEPARATORS);
		if (len == 0)
			continue;
		if (len > SPEC_MAX) {
			wrong = "it is too long for a port";
		} else {
			memcpy(spec, text, len);
			spec[len] = '\0';
			wrong = spec_parse(spec, &r, &fix);
		}
		other = wrong ? NULL : find_overlap(except, &r);
		if (other) {
			taken = other->first > r.first ? other->first : r.first;
			wrong = "the container itself uses port";
			fix = "choose another port of the container, as in 10080:80";
		}
		other = wrong ? NULL : find_overlap(ret, &r);
		if (other && is_repeated(&r, other))
			continue;
		if (other) {
			taken = other->first > r.first ? other->first : r.first;
			wrong = "another entry of the list leads elsewhere from port";
			fix = "choose another port of the container, as in 10080:80";
		}
		if (!wrong && ret->n >= RANGES_MAX) {
			wrong = "there are too many entries";
			fix = "write neighbours as a range, as in 8000-8010";
		}
		if (!wrong) {
			append(ret, &r);
			continue;
		}
		n_wrong++;
		if (taken)
			strv_addf(ret_wrong, "'%.*s': %s %u/%s; %s", (int)len, text, wrong, taken,
				  r.udp ? "udp" : "tcp", fix);
		else
			strv_addf(ret_wrong, "'%.*s': %s; %s", (int)(len > SPEC_MAX ? SPEC_MAX : len), text, wrong,
				  fix);
	}
	return n_wrong;
}

void relay_ports_add(struct relay_ports *p, bool udp, uint16_t port)
{
	append(p, &(struct relay_range){ .udp = udp, .first = port, .last = port, .guest_first = port });
}

bool relay_ports_has(const struct relay_ports *p, bool udp, uint16_t port)
{
	return find_overlap(p, &(struct relay_range){ .udp = udp, .first = port, .last = port }) != NULL;
}

void relay_ports_done(struct relay_ports *p)
{
	free(p->items);
	*p = (struct relay_ports){};
}
