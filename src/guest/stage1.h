/* Stage 1: from the initrd's first instruction to the image's own init, or to the agent as PID 1. */
#pragma once

int stage1_main(char **argv);
