#include "agent.pb-c.h"
#include "shim/root.h"

static Skerry__Agent__V1__ContainerMount *add(Skerry__Agent__V1__CreateContainerRequest *q, size_t max,
					      const char *type, char *source, char *target)
{
	Skerry__Agent__V1__ContainerMount *m = xnew(Skerry__Agent__V1__ContainerMount);

	skerry__agent__v1__container_mount__init(m);
	if (!q->mounts)
		q->mounts = xnew_n(Skerry__Agent__V1__ContainerMount *, max);
	q->mounts[q->n_mounts++] = m;
	m->type = xstrdup(type);
	m->source = source;
	m->target = target;
	return m;
}

/* What a strv has allocated is handed on. */
static void set_options(Skerry__Agent__V1__ContainerMount *m, struct strv *options)
{
	m->options = options->items;
	m->n_options = options->n;
	*options = (struct strv){};
}

/* As the guest finds it. */
static char *source_of(const struct root *r, size_t file, const char *share)
{
	_cleanup_free_ char *serial = root_serial(file);

	return r->files[file].disk ? xasprintf("serial:%s", serial) : xasprintf("loop:%s/l%zu", share, file);
}

static void tell_mount(const struct root *r, const struct root_mount *t, const char *share, char *target,
		       Skerry__Agent__V1__CreateContainerRequest *q)
{
	Skerry__Agent__V1__ContainerMount *m = add(q, r->n_mounts + 1, t->type, source_of(r, t->file, share), target);
	struct strv options = {};

	strv_copy(&options, &t->options);
	for (size_t i = 0; i < t->n_devices; i++) {
		_cleanup_free_ char *device = source_of(r, t->file + 1 + i, share);

		strv_addf(&options, "device=%s", device);
	}
	set_options(m, &options);
}

static void tell_top(const struct root *r, const char *share, const char *target,
		     Skerry__Agent__V1__CreateContainerRequest *q)
{
	Skerry__Agent__V1__ContainerMount *m =
		add(q, r->n_mounts + 1, r->top, xstrdup(r->source ? r->source : r->top), xasprintf("%s/root", target));
	_cleanup_free_ char *parent = r->upper_parent ? xasprintf("%s/upper/", share) : xstrdup("");
	struct strv options = {};

	strv_copy(&options, &r->options);
	if (r->upper) {
		strv_addf(&options, "upperdir=%s%s", parent, r->upper);
		strv_addf(&options, "workdir=%s%s", parent, r->work);
	}
	set_options(m, &options);
	m->directories = xnew_n(Skerry__Agent__V1__ContainerDirectory *, r->n_directories + 1);
	for (size_t i = 0; i < r->n_directories; i++) {
		const struct root_directory *from = &r->directories[i];
		Skerry__Agent__V1__ContainerDirectory *d = xnew(Skerry__Agent__V1__ContainerDirectory);

		skerry__agent__v1__container_directory__init(d);
		d->path = xstrdup(from->path);
		d->mode = from->mode;
		d->uid = from->uid;
		d->gid = from->gid;
		m->directories[m->n_directories++] = d;
	}
}

char *root_tell(const struct root *r, const char *share, const char *target,
		Skerry__Agent__V1__CreateContainerRequest *q)
{
	if (!r->top) {
		tell_mount(r, &r->mounts[0], share, xstrdup(target), q);
		return xstrdup(target);
	}
	for (size_t i = 0; i < r->n_mounts; i++)
		tell_mount(r, &r->mounts[i], share, xasprintf("%s/%zu", target, i), q);
	tell_top(r, share, target, q);
	return xasprintf("%s/root", target);
}

void root_forget(Skerry__Agent__V1__CreateContainerRequest *q)
{
	for (size_t i = 0; i < q->n_mounts; i++) {
		Skerry__Agent__V1__ContainerMount *m = q->mounts[i];

		for (size_t k = 0; k < m->n_options; k++)
			free(m->options[k]);
		for (size_t k = 0; k < m->n_directories; k++) {
			free(m->directories[k]->path);
			free(m->directories[k]);
		}
		free(m->options);
		free(m->directories);
		free(m->source);
		free(m->target);
		free(m->type);
		free(m);
	}
	free(q->mounts);
	q->mounts = NULL;
	q->n_mounts = 0;
}
