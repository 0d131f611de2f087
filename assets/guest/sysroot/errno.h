/*
 * The library's errno is a thread-local variable, which a side module cannot
 * reach in the main module. Side modules ask the library for its address.
 */
#include_next <errno.h>

#if defined(__PIC__) && !defined(PGL_ERRNO_H)
#define PGL_ERRNO_H

#ifdef __cplusplus
extern "C"
{
#endif
int		   *__errno_location(void);
#ifdef __cplusplus
}
#endif

#undef errno
#define errno (*__errno_location())

#endif
