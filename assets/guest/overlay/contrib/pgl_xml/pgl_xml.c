/*-------------------------------------------------------------------------
 *
 * pgl_xml.c
 *	  libxml2 and libxslt as a side module: see pgl_library.h.
 *
 * contrib/pgl_xml/pgl_xml.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"

#define PGL_XML_MODULE
#include "pgl_xml.h"
#define PGL_XSLT_MODULE
#include "pgl_xslt.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(pgl_xml_table);
PG_FUNCTION_INFO_V1(pgl_xslt_table);

static const PglXml xml = {
	PGL_XML_NAMES(PGL_LIBRARY_ADDRESS)
};

static const PglXslt xslt = {
	PGL_XSLT_NAMES(PGL_LIBRARY_ADDRESS)
};

Datum
pgl_xml_table(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(&xml);
}

Datum
pgl_xslt_table(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(&xslt);
}
