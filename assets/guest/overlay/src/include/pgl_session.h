/*
 * How the patched parts of PostgreSQL and the layer between them and the host (src/backend/port/pgl_*.c) call each other.
 */
#ifndef PGL_SESSION_H
#define PGL_SESSION_H

#include "storage/dsm_impl.h"

/* Size of the stack in linear memory; the loader of WASIX modules fixes it. */
#define PGL_STACK_SIZE (8 * 1024 * 1024)

/* Runs the handler that was set for a signal. */
extern void pgl_raise(int signo);

/* Turns what the host has flagged since the last call into signals. */
extern void pgl_dispatch_interrupts(void);

/* Makes the host's input and output this session's client connection. */
extern void pgl_connect(void);

/* PostgresMain, cut where a message is awaited: processes the messages that are there and returns. */
extern void PostgresMainPump(void);

/* Dynamic shared memory, in the terms of dsm_impl.c. */
extern bool pgl_dsm_op(dsm_op op, dsm_handle handle, Size request_size, void **mapped_address, Size *mapped_size,
					   int elevel);

#endif
