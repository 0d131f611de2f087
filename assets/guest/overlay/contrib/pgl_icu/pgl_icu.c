/*-------------------------------------------------------------------------
 *
 * pgl_icu.c
 *	  ICU as a side module: see pgl_library.h.
 *
 * contrib/pgl_icu/pgl_icu.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#define PGL_ICU_MODULE
#include "pgl_icu.h"
#include <unicode/putil.h>

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(pgl_icu_table);

static const PglIcu table = {
	PGL_ICU_NAMES(PGL_LIBRARY_ADDRESS)
};

Datum
pgl_icu_table(PG_FUNCTION_ARGS)
{
	char		share[MAXPGPATH];
	char		directory[MAXPGPATH];

	/* Its data are files of their own, of which each session reads some. */
	get_share_path(my_exec_path, share);
	snprintf(directory, sizeof(directory), "%s/icu", share);
	u_setDataDirectory(directory);
	PG_RETURN_POINTER(&table);
}
