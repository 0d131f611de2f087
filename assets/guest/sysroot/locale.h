/*
 * The library's setlocale takes any name for a locale: see port/pgl_locale.c.
 * It is called there, so it cannot be replaced under its own name.
 */
#include_next <locale.h>

#ifndef PGL_LOCALE_H
#define PGL_LOCALE_H

#ifdef __cplusplus
extern "C"
{
#endif
extern char *pgl_setlocale(int category, const char *name);
#ifdef __cplusplus
}
#endif

#undef setlocale
#define setlocale(category, name) pgl_setlocale(category, name)

#endif
