/*-------------------------------------------------------------------------
 *
 * pgl_icu.h
 *	  ICU, from its side module.
 *
 * src/include/pgl_icu.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGL_ICU_H
#define PGL_ICU_H

/* The names of its functions do not have its version. */
#define U_DISABLE_RENAMING 1
#include <unicode/ucnv.h>
#include <unicode/ucol.h>
#include <unicode/ustring.h>

#include "pgl_library.h"

/* What the server uses, sorted. */
#define PGL_ICU_NAMES(X) \
	X(u_errorName) \
	X(u_isalnum) \
	X(u_isalpha) \
	X(u_isdigit) \
	X(u_isgraph) \
	X(u_islower) \
	X(u_isprint) \
	X(u_ispunct) \
	X(u_isspace) \
	X(u_isupper) \
	X(u_strToLower) \
	X(u_strToTitle) \
	X(u_strToUpper) \
	X(u_strcat) \
	X(u_strcpy) \
	X(u_strlen) \
	X(u_tolower) \
	X(u_toupper) \
	X(u_versionToString) \
	X(ucnv_fromUChars) \
	X(ucnv_open) \
	X(ucnv_toUChars) \
	X(ucol_close) \
	X(ucol_getRules) \
	X(ucol_getSortKey) \
	X(ucol_getVersion) \
	X(ucol_nextSortKeyPart) \
	X(ucol_open) \
	X(ucol_openRules) \
	X(ucol_setAttribute) \
	X(ucol_strcoll) \
	X(ucol_strcollUTF8) \
	X(uiter_setString) \
	X(uiter_setUTF8) \
	X(uloc_canonicalize) \
	X(uloc_countAvailable) \
	X(uloc_getAvailable) \
	X(uloc_getDisplayName) \
	X(uloc_getLanguage) \
	X(uloc_toLanguageTag)

typedef struct PglIcu
{
	PGL_ICU_NAMES(PGL_LIBRARY_FIELD)
} PglIcu;

/* Only the module itself names the library's own functions. */
#ifndef PGL_ICU_MODULE

static inline const PglIcu *
pgl_icu(void)
{
	static const PglIcu *table;

	if (table == NULL)
		table = pgl_library("$libdir/pgl_icu", "pgl_icu_table");
	return table;
}

#define u_errorName (*pgl_icu()->u_errorName)
#define u_isalnum (*pgl_icu()->u_isalnum)
#define u_isalpha (*pgl_icu()->u_isalpha)
#define u_isdigit (*pgl_icu()->u_isdigit)
#define u_isgraph (*pgl_icu()->u_isgraph)
#define u_islower (*pgl_icu()->u_islower)
#define u_isprint (*pgl_icu()->u_isprint)
#define u_ispunct (*pgl_icu()->u_ispunct)
#define u_isspace (*pgl_icu()->u_isspace)
#define u_isupper (*pgl_icu()->u_isupper)
#define u_strToLower (*pgl_icu()->u_strToLower)
#define u_strToTitle (*pgl_icu()->u_strToTitle)
#define u_strToUpper (*pgl_icu()->u_strToUpper)
#define u_strcat (*pgl_icu()->u_strcat)
#define u_strcpy (*pgl_icu()->u_strcpy)
#define u_strlen (*pgl_icu()->u_strlen)
#define u_tolower (*pgl_icu()->u_tolower)
#define u_toupper (*pgl_icu()->u_toupper)
#define u_versionToString (*pgl_icu()->u_versionToString)
#define ucnv_fromUChars (*pgl_icu()->ucnv_fromUChars)
#define ucnv_open (*pgl_icu()->ucnv_open)
#define ucnv_toUChars (*pgl_icu()->ucnv_toUChars)
#define ucol_close (*pgl_icu()->ucol_close)
#define ucol_getRules (*pgl_icu()->ucol_getRules)
#define ucol_getSortKey (*pgl_icu()->ucol_getSortKey)
#define ucol_getVersion (*pgl_icu()->ucol_getVersion)
#define ucol_nextSortKeyPart (*pgl_icu()->ucol_nextSortKeyPart)
#define ucol_open (*pgl_icu()->ucol_open)
#define ucol_openRules (*pgl_icu()->ucol_openRules)
#define ucol_setAttribute (*pgl_icu()->ucol_setAttribute)
#define ucol_strcoll (*pgl_icu()->ucol_strcoll)
#define ucol_strcollUTF8 (*pgl_icu()->ucol_strcollUTF8)
#define uiter_setString (*pgl_icu()->uiter_setString)
#define uiter_setUTF8 (*pgl_icu()->uiter_setUTF8)
#define uloc_canonicalize (*pgl_icu()->uloc_canonicalize)
#define uloc_countAvailable (*pgl_icu()->uloc_countAvailable)
#define uloc_getAvailable (*pgl_icu()->uloc_getAvailable)
#define uloc_getDisplayName (*pgl_icu()->uloc_getDisplayName)
#define uloc_getLanguage (*pgl_icu()->uloc_getLanguage)
#define uloc_toLanguageTag (*pgl_icu()->uloc_toLanguageTag)

#endif							/* PGL_ICU_MODULE */

#endif							/* PGL_ICU_H */
