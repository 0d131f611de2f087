/*-------------------------------------------------------------------------
 *
 * pgl_host.h
 *	  The border between the guest (PostgreSQL as a WASIX module) and its
 *	  host (the pglite-oxide crate).
 *
 * Imports, module "pgl_host", are what the guest asks of the host.  Exports
 * are what the host calls.  Every export works and returns; none leaves a
 * frame behind, so that an instance at rest is nothing but its memory.
 *
 * The Rust side of this file names the same functions: change both and raise
 * PGL_ABI_VERSION.
 *
 * src/include/pgl_host.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGL_HOST_H
#define PGL_HOST_H

#include <stdint.h>

#define PGL_ABI_VERSION 6

/* Page-aligned address of the shared memory segment in every instance. */
#define PGL_SHMEM_BASE 0x04000000u

#define PGL_IMPORT(name) \
	__attribute__((import_module("pgl_host"), import_name(name)))
#define PGL_EXPORT(name) __attribute__((export_name(name)))

/*
 * Reads at most len bytes of protocol input.  Blocks while the host has more
 * to give; 0 means that the input has ended, -1 that an interrupt is flagged.
 */
PGL_IMPORT("input_read")
int32_t		pgl_host_input_read(void *buf, int32_t len);

/*
 * Number of bytes that input_read would return without blocking.  The host
 * offers whole messages only.
 */
PGL_IMPORT("input_ready")
int32_t		pgl_host_input_ready(void);

/* Appends protocol output.  0: taken; -1: the reader is closed. */
PGL_IMPORT("output_write")
int32_t		pgl_host_output_write(const void *buf,
								  int32_t len);

/* Whether the client has left: 0, or PGL_CLIENT_* flags. */
PGL_IMPORT("client_left")
int32_t		pgl_host_client_left(void);

/*
 * Waits until an interrupt is flagged (returns 1) or timeout_ms passed
 * (returns 0); -1 waits without limit.
 */
PGL_IMPORT("wait")
int32_t		pgl_host_wait(int32_t timeout_ms);

/*
 * Arms the session's one-shot timer, which sets pgl_interrupts.alarm; 0
 * disarms it.  Returns an errno.
 */
PGL_IMPORT("timer_set")
int32_t		pgl_host_timer_set(int64_t delay_us);

/* Fills buf with random bytes.  0: done. */
PGL_IMPORT("random_fill")
int32_t		pgl_host_random_fill(void *buf, int32_t len);

/*
 * Makes a file or directory durable; data_only skips metadata that is not
 * needed to read it back.  Returns an errno, 0: durable.
 */
PGL_IMPORT("file_sync")
int32_t		pgl_host_file_sync(int32_t fd,
							   int32_t data_only);

/*
 * Announces the shared memory segment, already inside linear memory, before
 * it is used.  Returns an errno.
 */
PGL_IMPORT("shm_map")
int32_t		pgl_host_shm_map(uint32_t addr, uint32_t len);

/*
 * Sleeps until the int32 at addr, a semaphore in shared memory, may be above
 * zero.
 */
PGL_IMPORT("sem_wait")
int32_t		pgl_host_sem_wait(volatile int32_t *addr);

/* Wakes one sleeper of that semaphore. */
PGL_IMPORT("sem_wake")
void		pgl_host_sem_wake(volatile int32_t *addr);

/* See pgl_distance.h. */
PGL_IMPORT("distance")
double		pgl_host_distance(int32_t metric, int32_t element,
							  int32_t dim, const void *a,
							  const void *b);

/*
 * Throws the tag __cpp_exception with this address.  The C++ library declares
 * it itself: see libcxx/exceptions.c.
 */
PGL_IMPORT("throw") _Noreturn void pgl_host_throw(void *exception);

/* Throws the tag __c_longjmp with this address. */
PGL_IMPORT("longjmp") _Noreturn void pgl_host_longjmp(void *thrown);

/* Flags in the result of client_left. */
#define PGL_CLIENT_CLOSED	1	/* its connection is closed on its side */
#define PGL_CLIENT_GOODBYE	2	/* the next to be read is a Terminate message
								 * or the end of the input */

/*
 * Flags in the result of pgl_pump and pgl_maintain: what the host should call
 * pgl_maintain for.
 */
#define PGL_DUE_NOW		2		/* when the client has its answer */
#define PGL_DUE_FLUSH	4		/* within wal_writer_delay, for commits that
								 * are not durable yet */

/*
 * Written by any host thread, read by CHECK_FOR_INTERRUPTS.  Each field is 0
 * or 1.
 */
typedef struct PglInterrupts
{
	volatile int32_t pending;	/* look at the others */
	volatile int32_t cancel;	/* cancel the running statement */
	volatile int32_t die;		/* end the session */
	volatile int32_t alarm;		/* the timer ran out */
} PglInterrupts;

#endif							/* PGL_HOST_H */
