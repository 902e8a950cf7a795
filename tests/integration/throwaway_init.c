/* The first process of the machine that test_engine_boot starts: without a library, so that it is static wherever it is built. Says what it
 * finds on the console (the boot configuration, the first bytes of the disk) and ends the machine the way that end=off or end=again on the command line tells. */
#include <stddef.h>
#include <stdint.h>

#define SYS_read   0
#define SYS_write  1
#define SYS_open   2
#define SYS_mount  165
#define SYS_iopl   172
#define SYS_reboot 169

static long call(long n, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return r;
}

static void say(const char *p, size_t n)
{
	call(SYS_write, 1, (long)p, (long)n, 0, 0);
}

static uint8_t fw_byte(void)
{
	uint8_t v;

	__asm__ volatile("inb %w1, %b0" : "=a"(v) : "d"((uint16_t)0x511));
	return v;
}

static uint32_t fw_number(int bytes)
{
	uint32_t v = 0;

	while (bytes-- > 0)
		v = v << 8 | fw_byte();
	return v;
}

static void fw_select(uint16_t key)
{
	__asm__ volatile("outw %w0, %w1" : : "a"(key), "d"((uint16_t)0x510));
}

/* The device's directory: a count, then entries of size, key, two bytes of nothing and a name of 56. */
static void say_boot_configuration(void)
{
	static const char wanted[] = "opt/skerry/boot";
	uint32_t n, size, found_size = 0;
	uint16_t key, found_key = 0;
	char text[64];

	fw_select(0x19);
	for (n = fw_number(4); n > 0; n--) {
		int same = 1;

		size = fw_number(4);
		key = (uint16_t)fw_number(2);
		fw_number(2);
		for (size_t i = 0; i < 56; i++)
			if (fw_byte() != (i < sizeof(wanted) ? (uint8_t)wanted[i] : 0))
				same = 0;
		if (same) {
			found_key = key;
			found_size = size;
		}
	}
	fw_select(found_key);
	for (n = 0; n < found_size && n < sizeof(text); n++)
		text[n] = (char)fw_byte();
	say(text, n);
}

__attribute__((used)) static void run(const long *stack)
{
	/* Above the count: arguments, NULL, environment, NULL. Words that the kernel does not know arrive in the environment. */
	const char *const *env = (const char *const *)(stack + 1) + stack[0] + 1;
	int off = 0;
	char sector[16];
	long fd;

	for (; *env; env++)
		off |= (*env)[0] == 'e' && (*env)[1] == 'n' && (*env)[2] == 'd' && (*env)[3] == '=' && (*env)[4] == 'o';
	say("init: ", 6);
	if (call(SYS_iopl, 3, 0, 0, 0, 0) == 0)
		say_boot_configuration();
	call(SYS_mount, (long)"dev", (long)"/dev", (long)"devtmpfs", 0, 0);
	fd = call(SYS_open, (long)"/dev/vda", 0, 0, 0, 0);
	if (fd >= 0 && call(SYS_read, fd, (long)sector, sizeof(sector), 0, 0) == (long)sizeof(sector)) {
		say(" disk ", 6);
		say(sector, sizeof(sector));
	}
	say(" end\n", 5);
	call(SYS_reboot, (long)0xfee1dead, 0x28121969, off ? 0x4321fedc : 0x01234567, 0, 0);
	for (;;)
		__asm__ volatile("pause");
}

__attribute__((naked, noreturn)) void _start(void);
void _start(void)
{
	__asm__("mov %rsp, %rdi\n\tand $-16, %rsp\n\tcall run\n\thlt");
}
