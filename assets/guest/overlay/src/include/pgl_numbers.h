/*-------------------------------------------------------------------------
 *
 * pgl_numbers.h
 *	  Conversion of floating point numbers to text: see pgl_dtoa.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGL_NUMBERS_H
#define PGL_NUMBERS_H

#include <stddef.h>

extern int	pgl_format_double(char *str, size_t size, char type,
							  int precision, double value);

#endif
