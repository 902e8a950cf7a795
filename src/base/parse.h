/* Text to numbers: the whole string or an error. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Decimal, no sign, no space, no leading '+'. Errors: -EINVAL not a number, -ERANGE outside [min, max]. */
int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret);

/* A size for people: "512M", "2G", "1.5G", "64MiB", "100k"; K/M/G/T are powers of 1024, in either case, with an optional "B" or
 * "iB"; a plain number counts units of @plain_unit bytes. Errors: -EINVAL, -ERANGE on overflow. */
int parse_bytes(const char *s, uint64_t plain_unit, uint64_t *ret_bytes);

/* A span for people: "90", "90s", "500ms", "2m", "1h"; a plain number counts seconds. Errors: -EINVAL, -ERANGE. */
int parse_duration_ns(const char *s, uint64_t *ret_ns);

/* yes/no, true/false, on/off, 1/0. Errors: -EINVAL. */
int parse_bool(const char *s, bool *ret);

/* "SIGTERM", "term", "15", "SIGRTMIN+3": the signal's number, as images and other tools write it (signal(7); RTMIN is 34, glibc's). Errors:
 * -EINVAL. */
int signal_parse(const char *s);

/* "512 MiB", "1.5 GiB": three significant digits at most. @out has @n bytes, 16 suffice. */
const char *format_bytes(uint64_t bytes, char *out, unsigned n);
/* "3 s", "4 min", "2 h", "5 d". 16 bytes suffice. */
const char *format_age(uint64_t seconds, char *out, unsigned n);
