/*
 * Run-time half of LLVM's lowering of setjmp and longjmp to wasm exceptions
 * (-mllvm -wasm-enable-sjlj).  The compiler calls __wasm_setjmp where the
 * program says setjmp, throws through __wasm_longjmp, and asks
 * __wasm_setjmp_test in the catch block whether the jump is meant for the
 * catching activation.
 */
#include <setjmp.h>
#include <stdint.h>

#include "pgl_host.h"

void		__wasm_setjmp(struct __pgl_jmp_buf *env, uint32_t label, void *invocation);
uint32_t	__wasm_setjmp_test(struct __pgl_jmp_buf *env, void *invocation);
_Noreturn void __wasm_longjmp(struct __pgl_jmp_buf *env, int value);

void
__wasm_setjmp(struct __pgl_jmp_buf *env, uint32_t label, void *invocation)
{
	env->invocation = invocation;
	env->label = label;
}

uint32_t
__wasm_setjmp_test(struct __pgl_jmp_buf *env, void *invocation)
{
	/* Label 0 is never handed out: it says that another activation is meant. */
	return env->invocation == invocation ? env->label : 0;
}

/*
 * The host throws, since it can throw one and the same exception again and
 * again; one that the guest makes lives as long as the instance, and the
 * engine records the whole stack in each.  What is thrown is therefore always
 * at the same address; the catch block reads it before anything else can jump.
 */
_Noreturn void
__wasm_longjmp(struct __pgl_jmp_buf *env, int value)
{
	static struct
	{
		struct __pgl_jmp_buf *env;
		int			value;
	}			thrown;

	thrown.env = env;
	thrown.value = value != 0 ? value : 1;
	pgl_host_longjmp(&thrown);
}
