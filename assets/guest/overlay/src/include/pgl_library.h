/*-------------------------------------------------------------------------
 *
 * pgl_library.h
 *	  Libraries of the server that are side modules, so that a program can be
 *	  made without them.  They are loaded at their first use.
 *
 * A library's module has a table of the addresses of what the server uses,
 * and each name of the table is a macro for what its address points to.  So
 * the server's code is as with a library that it is linked with.
 *
 * src/include/pgl_library.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGL_LIBRARY_H
#define PGL_LIBRARY_H

/* An entry of a table: a function's or a variable's address. */
#define PGL_LIBRARY_FIELD(name)		__typeof__(name) *name;
#define PGL_LIBRARY_ADDRESS(name)	.name = &name,

/*
 * The table that a module's function returns.  Raises an error if the module
 * is not there.
 */
extern const void *pgl_library(const char *module, const char *function);

#endif							/* PGL_LIBRARY_H */
