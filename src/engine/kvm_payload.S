/* What the KVM probe runs: the way of a kernel from real mode to user mode and back, in miniature. Loaded at PAYLOAD_BASE; the page
 * tables, the IDT's frame and the map are the host side's (kvm_probe.c), which also tells what each step number means.
 *
 * Each step ends with `out` of its number on port 0xe9. A step whose check fails writes its number to 0xea; the end is a write to 0xeb. */

#define BASE   0x8000
#define AT(x)  ((x) - kvm_payload_start + BASE)
#define PML4   0x1000
#define IDT    0x6000
#define TSS    0x7000
#define STACK0 0x7f00
#define STACK3 0x7c00
#define ALIAS  0x200000 /* virtual; a 4 KiB page that maps ALIAS_PHYS */
#define ALIAS_PHYS 0x10000
#define HOLE   0x201000 /* virtual; not mapped */
#define USER   0x202000 /* virtual; maps the page of the user code, for user mode */
#define LAPIC  0xfee00000
#define TIMER_VECTOR 0x40

#define STEP(n) movb $(n), %al; outb %al, $0xe9
#define FAIL(n) movb $(n), %al; outb %al, $0xea; hlt

	.section .rodata
	.globl kvm_payload_start, kvm_payload_size
	.hidden kvm_payload_start, kvm_payload_size
	.balign 16
kvm_payload_start:
	.code16
	xorw %ax, %ax
	movw %ax, %ds
	movw %ax, %ss
	movw $STACK0, %sp
	pushw $0x1234
	popw %bx
	STEP(1)
	cli
	lgdtl AT(gdt_pointer)
	movl %cr0, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $0x08, $AT(protected)

	.code32
protected:
	movw $0x10, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movl $STACK0, %esp
	STEP(2)
	movl %cr4, %eax
	orl $0x620, %eax /* PAE, OSFXSR, OSXMMEXCPT */
	movl %eax, %cr4
	movl $PML4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx /* EFER: long mode, syscall, no-execute */
	rdmsr
	orl $0x901, %eax
	wrmsr
	movl %cr0, %eax
	andl $0x9ffffffb, %eax
	orl $0x80010002, %eax /* paging, write protect, monitor coprocessor */
	movl %eax, %cr0
	ljmpl $0x18, $AT(long_mode)

	.code64
long_mode:
	movw $0x10, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	xorl %eax, %eax
	movw %ax, %fs
	movw %ax, %gs
	movl $STACK0, %esp
	STEP(3)

	/* Memory through the tables: a write by one address is read by the other, an accessed and a dirty bit appear. */
	movabsq $0x1122334455667788, %rax
	movl $ALIAS, %ebx
	movq %rax, (%rbx)
	movl $ALIAS_PHYS, %ecx
	cmpq %rax, (%rcx)
	jne fail4
	invlpg (%rbx)
	testb $0x40, 0x5000 /* dirty, in the table that maps ALIAS */
	jz fail4
	movups %xmm0, 16(%rbx)
	STEP(4)

	/* CPUID and MSRs: what is written is read back. */
	xorl %eax, %eax
	cpuid
	testl %eax, %eax
	jz fail5
	movl $0xc0000100, %ecx /* FS base */
	movl $0x55667788, %eax
	movl $0x1122, %edx
	wrmsr
	xorl %eax, %eax
	xorl %edx, %edx
	rdmsr
	cmpl $0x55667788, %eax
	jne fail5
	cmpl $0x1122, %edx
	jne fail5
	movl $0x1b, %ecx /* APIC base: enabled */
	rdmsr
	testl $0x800, %eax
	jz fail5
	rdtsc
	STEP(5)

	/* The privileged state is what the code set: ring 0 in CS, the interrupt flag follows CLI and STI as PUSHF sees it. */
	movw %cs, %ax
	cmpw $0x18, %ax
	jne fail6
	cli
	pushfq
	popq %rax
	testl $0x200, %eax
	jnz fail6
	sgdt -16(%rsp)
	cmpl $AT(gdt), -14(%rsp)
	jne fail6
	STEP(6)

	/* Exceptions: a page fault arrives with its address, and the handler goes on after the access. */
	lidt AT(idt_pointer)
	movw $0x40, %ax
	ltr %ax
	xorl %r12d, %r12d
	movl $HOLE, %ebx
	movb (%rbx), %al
after_fault:
	cmpl $HOLE, %r12d
	jne fail7
	STEP(7)

	/* User mode; back by an exception, then by SYSCALL. */
	movl $0xc0000081, %ecx /* STAR */
	xorl %eax, %eax
	movl $0x00200018, %edx /* SYSRET: 0x20 + 8 and 16; SYSCALL: 0x18, 0x20 */
	wrmsr
	movl $0xc0000082, %ecx /* LSTAR */
	movl $AT(syscall_entry), %eax
	xorl %edx, %edx
	wrmsr
	movl $0xc0000084, %ecx /* FMASK: interrupts off */
	movl $0x200, %eax
	wrmsr
	swapgs
	swapgs
	pushq $0x2b /* SS */
	pushq $(USER + 0xff0)
	pushq $0x2
	pushq $0x33 /* CS */
	pushq $(USER + ((user - kvm_payload_start + BASE) & 0xfff))
	iretq
syscall_entry:
	movl $STACK0, %esp
	movq %cs, %rax
	cmpl $0x18, %eax
	jne fail9
	STEP(9)

	/* An interrupt of the local APIC's timer wakes a halted CPU. */
	movl $LAPIC, %ebx
	movl $0x1ff, 0xf0(%rbx)
	movl $0, 0x80(%rbx)
	movl $0xb, 0x3e0(%rbx)
	movl $TIMER_VECTOR, 0x320(%rbx)
	xorl %r14d, %r14d
	movl $100000, 0x380(%rbx)
1:	cli
	testl %r14d, %r14d
	jnz 2f
	sti
	hlt
	jmp 1b
2:	STEP(10)
	outb %al, $0xeb
3:	hlt
	jmp 3b

fail4:	FAIL(4)
fail5:	FAIL(5)
fail6:	FAIL(6)
fail7:	FAIL(7)
fail8:	FAIL(8)
fail9:	FAIL(9)

page_fault:
	movq %cr2, %r12
	addq $8, %rsp
	movq $AT(after_fault), (%rsp)
	iretq
invalid_opcode:
	cmpl $0x33, %r13d /* the user code's CS, as it saw it and as it was saved */
	jne fail8
	cmpl $0x33, 8(%rsp)
	jne fail8
	addq $2, (%rsp)
	STEP(8)
	iretq
other_exception:
	movb $0, %al
	outb %al, $0xea
	hlt
timer:
	incl %r14d
	movl $LAPIC, %ebx
	movl $0, 0xb0(%rbx)
	iretq

	/* Runs at USER + its offset in the page; alone in its page as far as addresses matter. */
user:
	movw %cs, %ax
	movzwl %ax, %r13d
	pushq %rax
	popq %rax
	ud2
	syscall
1:	jmp 1b

	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff /* 0x08 code, 32 bit */
	.quad 0x00cf93000000ffff /* 0x10 data */
	.quad 0x00af9b000000ffff /* 0x18 code, 64 bit */
	.quad 0x00cf93000000ffff /* 0x20 data: SS of SYSCALL, base of SYSRET */
	.quad 0x00cff3000000ffff /* 0x28 user data */
	.quad 0x00affb000000ffff /* 0x30 user code, 64 bit */
	.quad 0
	.quad 0x0000890070000067 /* 0x40 TSS at 0x7000 */
	.quad 0
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.long AT(gdt)
	.balign 8
idt_pointer:
	.word 0x41 * 16 - 1
	.quad IDT
	/* For the host side: where the handlers are. */
	.globl kvm_payload_handlers
	.hidden kvm_payload_handlers
	.balign 4
kvm_payload_handlers:
	.long AT(page_fault), AT(invalid_opcode), AT(other_exception), AT(timer)
kvm_payload_end:
	.balign 4
kvm_payload_size:
	.long kvm_payload_end - kvm_payload_start
	.section .note.GNU-stack, "", @progbits
