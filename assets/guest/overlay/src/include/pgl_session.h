/*-------------------------------------------------------------------------
 *
 * pgl_session.h
 *	  How the patched parts of PostgreSQL and the layer between them and the
 *	  host (src/backend/port/pgl_*.c) call each other.
 *
 * src/include/pgl_session.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGL_SESSION_H
#define PGL_SESSION_H

#include <stdint.h>

#include "storage/dsm_impl.h"

struct HbaLine;
struct Port;

/* Size of the stack in linear memory; the loader of WASIX modules fixes it. */
#define PGL_STACK_SIZE (8 * 1024 * 1024)

/* Runs the handler that was set for a signal. */
extern void pgl_raise(int signo);

/* Turns what the host has flagged since the last call into signals. */
extern void pgl_dispatch_interrupts(void);

/* Makes the host's input and output this session's client connection. */
extern void pgl_connect(void);

/* Waits until the client has said as whom it wants to connect to what. */
extern void pgl_await_client(struct Port *port);

/*
 * How clients authenticate: an environment variable names the method as in
 * pg_hba.conf, trust or scram-sha-256.
 */
#define PGL_AUTHENTICATION "PGL_AUTHENTICATION"
extern struct HbaLine *pgl_hba_line(void);

/*
 * Environment variable: settings that differ from PostgreSQL's defaults where
 * nothing is configured, one NAME=VALUE in each line.  It ranks below
 * postgresql.conf.
 */
#define PGL_DEFAULTS "PGL_DEFAULTS"
extern void pgl_default_settings(void);

/*
 * Reads a start-up packet into the port.  False: there is none to go on with.
 */
extern bool pgl_read_startup_packet(struct Port *port);

/*
 * PostgresMain, cut where a message is awaited: processes the messages that
 * are there and returns.
 */
extern void PostgresMainPump(void);

/* Asks for a checkpoint and returns. */
extern void pgl_request_checkpoint(int flags);

/* Counts a checkpoint with these flags in the statistics, and reports them. */
extern void pgl_count_checkpoint(int flags);

/* Makes the checkpoint that was asked for, if one was. */
extern void pgl_perform_requested_checkpoint(void);

/* What of the work between messages is due, as PGL_DUE_* flags. */
extern int32_t pgl_maintenance_due(void);

/* Asks for a run of autovacuum, whether or not it is enabled, and returns. */
extern void pgl_request_autovacuum(void);

/* A run of an autovacuum worker, and what restores the session after it. */
extern void pgl_autovacuum(void);
extern void pgl_autovacuum_end(void);

/* Dynamic shared memory, in the terms of dsm_impl.c. */
extern bool pgl_dsm_op(dsm_op op, dsm_handle handle, Size request_size,
					   void **mapped_address, Size *mapped_size, int elevel);

#endif							/* PGL_SESSION_H */
