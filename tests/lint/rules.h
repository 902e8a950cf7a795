/* The rules of the house that no compiler checks. A rule is one struct in rules.c's table. */
#pragma once

#include <stddef.h>

#include "source.h"

struct report {
	struct buf out; /* "path:line: what is wrong\n" for each finding */
	size_t findings;
};
/* @offset: where in the file, or SIZE_MAX for the file as a whole. */
void report_add(struct report *r, const struct source *s, size_t offset, const char *fmt, ...) _printf_(4, 5);

struct rule {
	const char *name;
	const char *what;
	void (*check)(const struct source *s, struct report *r);
};
extern const struct rule rules[];
extern const size_t n_rules;

/* Forbidden words: extended regular expressions, one per line, "#" begins a comment. Returns 0 or -EINVAL naming the line. */
int rules_load_words(const char *text, const char **ret_bad);
void rules_forget_words(void);
