/*-------------------------------------------------------------------------
 *
 * pgl_library.c
 *	  Libraries of the server that are side modules.
 *
 * src/backend/port/pgl_library.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "pgl_library.h"

const void *
pgl_library(const char *module, const char *function)
{
	PGFunction	table;

	/* A function pointer of the type that it is called with. */
	table = (PGFunction) load_external_function(module, function, true, NULL);
	return DatumGetPointer(table(NULL));
}
