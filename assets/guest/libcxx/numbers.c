/*
 * What streams read numbers with. In the C library these functions are in one
 * object with strtod and strtof, of which the main module has its own, so it
 * cannot export them. There is one locale, and no more precision than that of
 * a double.
 */
#include <locale.h>
#include <stdlib.h>

double
strtod_l(const char *restrict text, char **restrict end, locale_t locale)
{
	(void) locale;
	return strtod(text, end);
}

float
strtof_l(const char *restrict text, char **restrict end, locale_t locale)
{
	(void) locale;
	return strtof(text, end);
}

long double
strtold(const char *restrict text, char **restrict end)
{
	return strtod(text, end);
}

long double
strtold_l(const char *restrict text, char **restrict end, locale_t locale)
{
	(void) locale;
	return strtod(text, end);
}
