/* What a program of the host needs to run elsewhere: its loader and shared libraries (ELF-64 x86-64; gABI chapter 5, "Dynamic Linking"). */
#pragma once

#include "base/error.h"
#include "base/memory.h"

/* Appends the absolute paths of @program's loader and of all libraries, theirs included, found where the loader would look by default. Nothing is
 * executed. Errors: kind DATA for what is no such program; UNAVAILABLE for a library that is nowhere, naming it. */
int elf_needed(const char *program, struct strv *ret, struct error *err);
