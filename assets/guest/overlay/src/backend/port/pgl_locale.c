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

/* The name that the library knows a locale by; NULL: there is none. */
static const char *
known_name(const char *name, size_t length)
{
	/* The second of a pair is another name for the first. */
	static const char *const names[][2] = {
		{"C", "POSIX"}, {"C.UTF-8", "C.utf8"}
	};

	for (int i = 0; i < 2; i++)
	{
		for (int j = 0; j < 2; j++)
		{
			if (strlen(names[i][j]) == length &&
				memcmp(name, names[i][j], length) == 0)
				return names[i][0];
		}
	}
	return NULL;
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

/* The same for all categories of a mask; NULL: there is none for one. */
static const char *
known_for_mask(int mask, const char *name)
{
	const char *known = known_name("C", 1);

	for (int category = 0; category < LC_ALL && known != NULL; category++)
	{
		const char *wanted = name;

		if ((mask & (1 << category)) == 0)
			continue;
		if (name[0] == '\0')
			wanted = from_environment(category);
		known = known_name(wanted, strlen(wanted));
	}
	return known;
}

/*
 * Are all parts of what setlocale gave for LC_ALL known, one for each
 * category with semicolons between them?
 */
static bool
all_parts_known(const char *name)
{
	for (;;)
	{
		size_t		length = strcspn(name, ";");

		if (known_name(name, length) == NULL)
			return false;
		if (name[length] == '\0')
			return true;
		name += length + 1;
	}
}

char *
pgl_setlocale(int category, const char *name)
{
	const char *known;

	if (name == NULL || category < 0 || category > LC_ALL)
		return setlocale(category, name);
	if (category == LC_ALL && strchr(name, ';') != NULL)
		return all_parts_known(name) ? setlocale(category, name) : NULL;
	known = known_for_mask(category == LC_ALL ? LC_ALL_MASK : 1 << category,
						   name);
	if (known == NULL)
		return NULL;

	/* The categories may differ in what the environment says. */
	return setlocale(category, name[0] == '\0' ? name : known);
}

locale_t
newlocale(int mask, const char *name, locale_t base)
{
	const char *known = known_for_mask(mask, name);

	if (known == NULL)
	{
		errno = ENOENT;
		return (locale_t) 0;
	}
	return __newlocale(mask, name[0] == '\0' ? name : known, base);
}
