/* What a guest's console said last: who reads the log of containerd finds there why the guest's kernel ended. It is the guest's word. */
#pragma once

/* The end of "console.log" in @dir_fd, at most 8 KiB; owned by the caller. NULL: there is nothing. */
char *console_tail_read(int dir_fd);
/* What the kernel said when it panicked ("Fatal exception"), printable and at most 120 bytes; owned by the caller. NULL: it did not. */
char *console_tail_panic(const char *tail);
/* Line by line into our log. */
void console_tail_log(const char *tail, const char *name);
