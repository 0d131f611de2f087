/*-------------------------------------------------------------------------
 *
 * pgl_xml.h
 *	  libxml2, from its side module.
 *
 * src/include/pgl_xml.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGL_XML_H
#define PGL_XML_H

#include <libxml/chvalid.h>
#include <libxml/entities.h>
#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <libxml/tree.h>
#include <libxml/xmlerror.h>
#include <libxml/xmlsave.h>
#include <libxml/xmlwriter.h>
#include <libxml/xpath.h>
#include <libxml/xpathInternals.h>

#include "pgl_library.h"

/* What the server uses, sorted. */
#define PGL_XML_NAMES(X) \
	X(xmlAddChildList) \
	X(xmlBufferContent) \
	X(xmlBufferCreate) \
	X(xmlBufferFree) \
	X(xmlBufferLength) \
	X(xmlBufferWriteCHAR) \
	X(xmlBufferWriteChar) \
	X(xmlCharInRange) \
	X(xmlCheckVersion) \
	X(xmlCopyNode) \
	X(xmlCtxtReadDoc) \
	X(xmlCtxtReadMemory) \
	X(xmlDocGetRootElement) \
	X(xmlDocSetRootElement) \
	X(xmlEncodeSpecialChars) \
	X(xmlFree) \
	X(xmlFreeDoc) \
	X(xmlFreeNode) \
	X(xmlFreeParserCtxt) \
	X(xmlFreeTextWriter) \
	X(xmlGenericError) \
	X(xmlGenericErrorContext) \
	X(xmlGetExternalEntityLoader) \
	X(xmlGetUTF8Char) \
	X(xmlInitParser) \
	X(xmlIsBaseCharGroup) \
	X(xmlIsCombiningGroup) \
	X(xmlIsDigitGroup) \
	X(xmlIsExtenderGroup) \
	X(xmlIsIdeographicGroup) \
	X(xmlKeepBlanksDefault) \
	X(xmlNewDoc) \
	X(xmlNewDocText) \
	X(xmlNewNode) \
	X(xmlNewParserCtxt) \
	X(xmlNewStringInputStream) \
	X(xmlNewTextWriterMemory) \
	X(xmlNodeDump) \
	X(xmlParseBalancedChunkMemory) \
	X(xmlParserPrintFileContext) \
	X(xmlReadMemory) \
	X(xmlSaveClose) \
	X(xmlSaveDoc) \
	X(xmlSaveToBuffer) \
	X(xmlSaveTree) \
	X(xmlSetExternalEntityLoader) \
	X(xmlSetGenericErrorFunc) \
	X(xmlSetStructuredErrorFunc) \
	X(xmlStrchr) \
	X(xmlStrcmp) \
	X(xmlStrdup) \
	X(xmlStrlen) \
	X(xmlStrncmp) \
	X(xmlStrstr) \
	X(xmlStructuredError) \
	X(xmlStructuredErrorContext) \
	X(xmlTextWriterEndElement) \
	X(xmlTextWriterStartElement) \
	X(xmlTextWriterWriteAttribute) \
	X(xmlTextWriterWriteBase64) \
	X(xmlTextWriterWriteBinHex) \
	X(xmlTextWriterWriteRaw) \
	X(xmlXPathCastBooleanToNumber) \
	X(xmlXPathCastBooleanToString) \
	X(xmlXPathCastNodeSetToString) \
	X(xmlXPathCastNodeToString) \
	X(xmlXPathCastNumberToString) \
	X(xmlXPathCastToBoolean) \
	X(xmlXPathCastToNumber) \
	X(xmlXPathCompile) \
	X(xmlXPathCompiledEval) \
	X(xmlXPathCompiledEvalToBoolean) \
	X(xmlXPathCtxtCompile) \
	X(xmlXPathFreeCompExpr) \
	X(xmlXPathFreeContext) \
	X(xmlXPathFreeObject) \
	X(xmlXPathIsNaN) \
	X(xmlXPathNewContext) \
	X(xmlXPathRegisterNs)

typedef struct PglXml
{
	PGL_XML_NAMES(PGL_LIBRARY_FIELD)
} PglXml;

/* Only the module itself names the library's own functions. */
#ifndef PGL_XML_MODULE

static inline const PglXml *
pgl_xml(void)
{
	static const PglXml *table;

	if (table == NULL)
		table = pgl_library("$libdir/pgl_xml", "pgl_xml_table");
	return table;
}

#define xmlAddChildList (*pgl_xml()->xmlAddChildList)
#define xmlBufferContent (*pgl_xml()->xmlBufferContent)
#define xmlBufferCreate (*pgl_xml()->xmlBufferCreate)
#define xmlBufferFree (*pgl_xml()->xmlBufferFree)
#define xmlBufferLength (*pgl_xml()->xmlBufferLength)
#define xmlBufferWriteCHAR (*pgl_xml()->xmlBufferWriteCHAR)
#define xmlBufferWriteChar (*pgl_xml()->xmlBufferWriteChar)
#define xmlCharInRange (*pgl_xml()->xmlCharInRange)
#define xmlCheckVersion (*pgl_xml()->xmlCheckVersion)
#define xmlCopyNode (*pgl_xml()->xmlCopyNode)
#define xmlCtxtReadDoc (*pgl_xml()->xmlCtxtReadDoc)
#define xmlCtxtReadMemory (*pgl_xml()->xmlCtxtReadMemory)
#define xmlDocGetRootElement (*pgl_xml()->xmlDocGetRootElement)
#define xmlDocSetRootElement (*pgl_xml()->xmlDocSetRootElement)
#define xmlEncodeSpecialChars (*pgl_xml()->xmlEncodeSpecialChars)
#define xmlFree (*pgl_xml()->xmlFree)
#define xmlFreeDoc (*pgl_xml()->xmlFreeDoc)
#define xmlFreeNode (*pgl_xml()->xmlFreeNode)
#define xmlFreeParserCtxt (*pgl_xml()->xmlFreeParserCtxt)
#define xmlFreeTextWriter (*pgl_xml()->xmlFreeTextWriter)
#define xmlGenericError (*pgl_xml()->xmlGenericError)
#define xmlGenericErrorContext (*pgl_xml()->xmlGenericErrorContext)
#define xmlGetExternalEntityLoader (*pgl_xml()->xmlGetExternalEntityLoader)
#define xmlGetUTF8Char (*pgl_xml()->xmlGetUTF8Char)
#define xmlInitParser (*pgl_xml()->xmlInitParser)
#define xmlIsBaseCharGroup (*pgl_xml()->xmlIsBaseCharGroup)
#define xmlIsCombiningGroup (*pgl_xml()->xmlIsCombiningGroup)
#define xmlIsDigitGroup (*pgl_xml()->xmlIsDigitGroup)
#define xmlIsExtenderGroup (*pgl_xml()->xmlIsExtenderGroup)
#define xmlIsIdeographicGroup (*pgl_xml()->xmlIsIdeographicGroup)
#define xmlKeepBlanksDefault (*pgl_xml()->xmlKeepBlanksDefault)
#define xmlNewDoc (*pgl_xml()->xmlNewDoc)
#define xmlNewDocText (*pgl_xml()->xmlNewDocText)
#define xmlNewNode (*pgl_xml()->xmlNewNode)
#define xmlNewParserCtxt (*pgl_xml()->xmlNewParserCtxt)
#define xmlNewStringInputStream (*pgl_xml()->xmlNewStringInputStream)
#define xmlNewTextWriterMemory (*pgl_xml()->xmlNewTextWriterMemory)
#define xmlNodeDump (*pgl_xml()->xmlNodeDump)
#define xmlParseBalancedChunkMemory (*pgl_xml()->xmlParseBalancedChunkMemory)
#define xmlParserPrintFileContext (*pgl_xml()->xmlParserPrintFileContext)
#define xmlReadMemory (*pgl_xml()->xmlReadMemory)
#define xmlSaveClose (*pgl_xml()->xmlSaveClose)
#define xmlSaveDoc (*pgl_xml()->xmlSaveDoc)
#define xmlSaveToBuffer (*pgl_xml()->xmlSaveToBuffer)
#define xmlSaveTree (*pgl_xml()->xmlSaveTree)
#define xmlSetExternalEntityLoader (*pgl_xml()->xmlSetExternalEntityLoader)
#define xmlSetGenericErrorFunc (*pgl_xml()->xmlSetGenericErrorFunc)
#define xmlSetStructuredErrorFunc (*pgl_xml()->xmlSetStructuredErrorFunc)
#define xmlStrchr (*pgl_xml()->xmlStrchr)
#define xmlStrcmp (*pgl_xml()->xmlStrcmp)
#define xmlStrdup (*pgl_xml()->xmlStrdup)
#define xmlStrlen (*pgl_xml()->xmlStrlen)
#define xmlStrncmp (*pgl_xml()->xmlStrncmp)
#define xmlStrstr (*pgl_xml()->xmlStrstr)
#define xmlStructuredError (*pgl_xml()->xmlStructuredError)
#define xmlStructuredErrorContext (*pgl_xml()->xmlStructuredErrorContext)
#define xmlTextWriterEndElement (*pgl_xml()->xmlTextWriterEndElement)
#define xmlTextWriterStartElement (*pgl_xml()->xmlTextWriterStartElement)
#define xmlTextWriterWriteAttribute (*pgl_xml()->xmlTextWriterWriteAttribute)
#define xmlTextWriterWriteBase64 (*pgl_xml()->xmlTextWriterWriteBase64)
#define xmlTextWriterWriteBinHex (*pgl_xml()->xmlTextWriterWriteBinHex)
#define xmlTextWriterWriteRaw (*pgl_xml()->xmlTextWriterWriteRaw)
#define xmlXPathCastBooleanToNumber (*pgl_xml()->xmlXPathCastBooleanToNumber)
#define xmlXPathCastBooleanToString (*pgl_xml()->xmlXPathCastBooleanToString)
#define xmlXPathCastNodeSetToString (*pgl_xml()->xmlXPathCastNodeSetToString)
#define xmlXPathCastNodeToString (*pgl_xml()->xmlXPathCastNodeToString)
#define xmlXPathCastNumberToString (*pgl_xml()->xmlXPathCastNumberToString)
#define xmlXPathCastToBoolean (*pgl_xml()->xmlXPathCastToBoolean)
#define xmlXPathCastToNumber (*pgl_xml()->xmlXPathCastToNumber)
#define xmlXPathCompile (*pgl_xml()->xmlXPathCompile)
#define xmlXPathCompiledEval (*pgl_xml()->xmlXPathCompiledEval)
#define xmlXPathCompiledEvalToBoolean (*pgl_xml()->xmlXPathCompiledEvalToBoolean)
#define xmlXPathCtxtCompile (*pgl_xml()->xmlXPathCtxtCompile)
#define xmlXPathFreeCompExpr (*pgl_xml()->xmlXPathFreeCompExpr)
#define xmlXPathFreeContext (*pgl_xml()->xmlXPathFreeContext)
#define xmlXPathFreeObject (*pgl_xml()->xmlXPathFreeObject)
#define xmlXPathIsNaN (*pgl_xml()->xmlXPathIsNaN)
#define xmlXPathNewContext (*pgl_xml()->xmlXPathNewContext)
#define xmlXPathRegisterNs (*pgl_xml()->xmlXPathRegisterNs)

#endif							/* PGL_XML_MODULE */

#endif							/* PGL_XML_H */
