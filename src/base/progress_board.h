/* Several bars below each other on a terminal, for what happens at the same time; a plain line for each at its end elsewhere. What has ended
 * stays above the bars that still move. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct progress_board;
/* @fd borrowed; -1 = silent. */
struct progress_board *progress_board_new(int fd);
/* Takes the bars that still move away. Accepts NULL; returns NULL. */
struct progress_board *progress_board_free(struct progress_board *b);
static inline void progress_board_freep(struct progress_board **b)
{
	*b = progress_board_free(*b);
}

/* A row, by number; it is shown from its first update on. Every call accepts a NULL board. */
size_t progress_board_add(struct progress_board *b, const char *label, uint64_t total_bytes);
void progress_board_update(struct progress_board *b, size_t row, uint64_t done_bytes);
/* Words in place of the bar ("waiting for another pull"), until the next update; also told once where there is no terminal. */
void progress_board_say(struct progress_board *b, size_t row, const char *text);
/* "label: text", for good. */
void progress_board_end(struct progress_board *b, size_t row, const char *text);
