/*
 * Run-time half of LLVM's lowering of setjmp and longjmp to wasm exceptions (-mllvm -wasm-enable-sjlj). The compiler calls
 * __wasm_setjmp where the program says setjmp, throws through __wasm_longjmp, and asks __wasm_setjmp_test in the catch block whether the jump is
 * meant for the catching activation.
 */
#include <setjmp.h>
#include <stdint.h>

void		__wasm_setjmp(struct __pgl_jmp_buf *env, uint32_t label, void *invocation);
uint32_t	__wasm_setjmp_test(struct __pgl_jmp_buf *env, void *invocation);
_Noreturn void __wasm_longjmp(struct __pgl_jmp_buf *env, int value);

/* Index that LLVM gives the tag __c_longjmp in __builtin_wasm_throw. */
#define C_LONGJMP_TAG 1

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

_Noreturn void
__wasm_longjmp(struct __pgl_jmp_buf *env, int value)
{
	env->thrown.env = env;
	env->thrown.value = value != 0 ? value : 1;
	__builtin_wasm_throw(C_LONGJMP_TAG, &env->thrown);
}
