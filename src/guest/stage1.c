#include "guest/stage1.h"

int stage1_main(char **argv)
{
	(void)argv;
	return 1;
}
