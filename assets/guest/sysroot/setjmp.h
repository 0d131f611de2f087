/*
 * setjmp and longjmp as LLVM's wasm lowering understands them. The C library's
 * own version needs asyncify; this one is made of wasm exceptions: the
 * compiler rewrites every call to setjmp and longjmp into the functions of
 * port/pgl_setjmp.c. Signal masks do not exist here, so the sig- variants are
 * the plain ones.
 */
#ifndef PGL_SETJMP_H
#define PGL_SETJMP_H

struct __pgl_jmp_buf
{
	void	   *invocation;		/* identifies the activation that called
								 * setjmp */
	unsigned int label;			/* which setjmp call of that activation */
};

typedef struct __pgl_jmp_buf jmp_buf[1];
typedef jmp_buf sigjmp_buf;

int			setjmp(jmp_buf env) __attribute__((returns_twice));
_Noreturn void longjmp(jmp_buf env, int value);

#define setjmp setjmp
#define _setjmp(env) setjmp(env)
#define sigsetjmp(env, savemask) setjmp(env)
#define _longjmp(env, value) longjmp(env, value)
#define siglongjmp(env, value) longjmp(env, value)

#endif
