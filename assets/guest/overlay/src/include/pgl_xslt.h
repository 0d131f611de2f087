/*-------------------------------------------------------------------------
 *
 * pgl_xslt.h
 *	  libxslt, from the side module of libxml2, which it uses.
 *
 * src/include/pgl_xslt.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGL_XSLT_H
#define PGL_XSLT_H

#include <libxslt/security.h>
#include <libxslt/transform.h>
#include <libxslt/xslt.h>
#include <libxslt/xsltInternals.h>
#include <libxslt/xsltutils.h>

#include "pgl_library.h"

/* What the server uses, sorted. */
#define PGL_XSLT_NAMES(X) \
	X(xsltApplyStylesheetUser) \
	X(xsltCleanupGlobals) \
	X(xsltFreeSecurityPrefs) \
	X(xsltFreeStylesheet) \
	X(xsltFreeTransformContext) \
	X(xsltNewSecurityPrefs) \
	X(xsltNewTransformContext) \
	X(xsltParseStylesheetDoc) \
	X(xsltSaveResultToString) \
	X(xsltSecurityForbid) \
	X(xsltSetCtxtSecurityPrefs) \
	X(xsltSetSecurityPrefs)

typedef struct PglXslt
{
	PGL_XSLT_NAMES(PGL_LIBRARY_FIELD)
} PglXslt;

/* Only the module itself names the library's own functions. */
#ifndef PGL_XSLT_MODULE

static inline const PglXslt *
pgl_xslt(void)
{
	static const PglXslt *table;

	if (table == NULL)
		table = pgl_library("$libdir/pgl_xml", "pgl_xslt_table");
	return table;
}

#define xsltApplyStylesheetUser (*pgl_xslt()->xsltApplyStylesheetUser)
#define xsltCleanupGlobals (*pgl_xslt()->xsltCleanupGlobals)
#define xsltFreeSecurityPrefs (*pgl_xslt()->xsltFreeSecurityPrefs)
#define xsltFreeStylesheet (*pgl_xslt()->xsltFreeStylesheet)
#define xsltFreeTransformContext (*pgl_xslt()->xsltFreeTransformContext)
#define xsltNewSecurityPrefs (*pgl_xslt()->xsltNewSecurityPrefs)
#define xsltNewTransformContext (*pgl_xslt()->xsltNewTransformContext)
#define xsltParseStylesheetDoc (*pgl_xslt()->xsltParseStylesheetDoc)
#define xsltSaveResultToString (*pgl_xslt()->xsltSaveResultToString)
#define xsltSecurityForbid (*pgl_xslt()->xsltSecurityForbid)
#define xsltSetCtxtSecurityPrefs (*pgl_xslt()->xsltSetCtxtSecurityPrefs)
#define xsltSetSecurityPrefs (*pgl_xslt()->xsltSetSecurityPrefs)

#endif							/* PGL_XSLT_MODULE */

#endif							/* PGL_XSLT_H */
