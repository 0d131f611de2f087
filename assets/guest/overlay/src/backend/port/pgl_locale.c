/*-------------------------------------------------------------------------
 *
 * pgl_locale.c
 *	  Which locales there are.
 *
 * The C library takes any name for a locale and gives C, or C with UTF-8.  It
 * has no data for another one, so that a collation of another name would sort
 * as C does, in indexes too.  Here another name is an error, as it is with a
 * C library that has the data of some locales and not of others.
 *
 * setlocale comes here by a macro of the port's locale.h; newlocale takes the
 * place of the library's.  The file needs nothing of PostgreSQL.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <locale.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#undef setlocale

/* The library's newlocale, by its other name. */
extern locale_t __newlocale(int mask, const char *name, locale_t base);

/* The variables of the environment that name a category's locale. */
static const char *const variables[] = {
	[LC_CTYPE] = "LC_CTYPE",
	[LC_NUMERIC] = "LC_NUMERIC",
	[LC_TIME] = "LC_TIME",
	[LC_COLLATE] = "LC_COLLATE",
	[LC_MONETARY] = "LC_MONETARY",
	[LC_MESSAGES] = "LC_MESSAGES",
};

static bool
exists(const char *name, size_t length)
{
	static const char *const names[] = {"C", "POSIX", "C.UTF-8", "C.utf8"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		if (strlen(names[i]) == length && memcmp(name, names[i], length) == 0)
			return true;
	}
	return false;
}

/* What the environment says for a category; C if it says nothing. */
static const char *
from_environment(int category)
{
	const char *names[] = {"LC_ALL", variables[category], "LANG"};

	for (int i = 0; i < 3; i++)
	{
		const char *value = getenv(names[i]);

		if (value != NULL && value[0] != '\0')
			return value;
	}
	return "C";
}

/*
 * Does a name stand for a locale in one category?  The empty one stands for
 * what the environment says, and one with semicolons, which setlocale gives
 * for LC_ALL, for a locale of each category.
 */
static bool
exists_for(int category, const char *name)
{
	if (name[0] == '\0')
		name = from_environment(category);
	for (;;)
	{
		size_t		length = strcspn(name, ";");

		if (!exists(name, length))
			return false;
		if (name[length] == '\0')
			return true;
		name += length + 1;
	}
}

static bool
exists_for_mask(int mask, const char *name)
{
	for (int category = 0; category < LC_ALL; category++)
	{
		if ((mask & (1 << category)) != 0 && !exists_for(category, name))
			return false;
	}
	return true;
}

char *
pgl_setlocale(int category, const char *name)
{
	int			mask = category == LC_ALL ? LC_ALL_MASK : 1 << category;

	if (name != NULL && category >= 0 && category <= LC_ALL &&
		!exists_for_mask(mask, name))
		return NULL;
	return setlocale(category, name);
}

locale_t
newlocale(int mask, const char *name, locale_t base)
{
	if (!exists_for_mask(mask, name))
	{
		errno = ENOENT;
		return (locale_t) 0;
	}
	return __newlocale(mask, name, base);
}
