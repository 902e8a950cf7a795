#include "machine/guest_interfaces.h"

#include "agent.pb-c.h"
#include "base/memory.h"

static void fill_routes(struct net_takeover_nic *n, Skerry__Agent__V1__Interface *i)
{
	i->routes = xnew_n(Skerry__Agent__V1__Route *, n->n_routes + 1);
	i->n_routes = n->n_routes;
	for (size_t k = 0; k < n->n_routes; k++) {
		Skerry__Agent__V1__Route *r = xnew(Skerry__Agent__V1__Route);

		skerry__agent__v1__route__init(r);
		r->destination = n->routes[k].destination;
		r->gateway = n->routes[k].gateway;
		r->source = n->routes[k].source;
		r->metric = n->routes[k].metric;
		r->mtu = n->routes[k].mtu;
		i->routes[k] = r;
	}
}

static void fill_neighbours(struct net_takeover_nic *n, Skerry__Agent__V1__Interface *i)
{
	i->neighbours = xnew_n(Skerry__Agent__V1__Neighbour *, n->n_neighbours + 1);
	i->n_neighbours = n->n_neighbours;
	for (size_t k = 0; k < n->n_neighbours; k++) {
		Skerry__Agent__V1__Neighbour *b = xnew(Skerry__Agent__V1__Neighbour);

		skerry__agent__v1__neighbour__init(b);
		b->address = n->neighbours[k].address;
		b->mac = n->neighbours[k].mac;
		i->neighbours[k] = b;
	}
}

void guest_interfaces_make(struct net_takeover *t, struct guest_interfaces *ret)
{
	*ret = (struct guest_interfaces){
		.interfaces = xnew_n(Skerry__Agent__V1__Interface *, t->n + 1),
		.nics = xnew_n(struct engine_nic, t->n + 1),
		.n = t->n,
	};
	for (size_t k = 0; k < t->n; k++) {
		Skerry__Agent__V1__Interface *i = xnew(Skerry__Agent__V1__Interface);
		struct net_takeover_nic *n = &t->nics[k];

		skerry__agent__v1__interface__init(i);
		i->name = n->name;
		i->mac = n->mac;
		i->mtu = n->mtu;
		i->addresses = n->addresses.items;
		i->n_addresses = n->addresses.n;
		/* The default routes are among them, with their metrics. */
		fill_routes(n, i);
		fill_neighbours(n, i);
		ret->interfaces[k] = i;
		ret->nics[k] = (struct engine_nic){ .mac = n->mac, .kind = NIC_TAP, .mtu = n->mtu };
	}
}

void guest_interfaces_done(struct guest_interfaces *g)
{
	for (size_t k = 0; k < g->n; k++) {
		Skerry__Agent__V1__Interface *i = g->interfaces[k];

		for (size_t r = 0; r < i->n_routes; r++)
			free(i->routes[r]);
		for (size_t b = 0; b < i->n_neighbours; b++)
			free(i->neighbours[b]);
		free(i->routes);
		free(i->neighbours);
		free(i);
	}
	free(g->interfaces);
	free(g->nics);
	*g = (struct guest_interfaces){};
}
