/*-------------------------------------------------------------------------
 *
 * wasix.h
 *	  What the WASIX port needs known before any other header: the method
 *	  that syncs WAL, what the C library lacks, and memory barriers.
 *
 * src/include/port/wasix.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef PORT_WASIX_H
#define PORT_WASIX_H

/*
 * fdatasync is what the host offers besides fsync; the open_* methods need
 * O_DSYNC, which WASI does not promise.
 */
#define PLATFORM_DEFAULT_WAL_SYNC_METHOD WAL_SYNC_METHOD_FDATASYNC

/*
 * libc's mmap makes a copy of a file, so that msync writes that copy back and
 * fails where the file is open for reading only.  Without the flag PostgreSQL
 * hints with posix_fadvise that data should be written out, before crash
 * recovery and while it copies databases.
 */
#include <sys/mman.h>
#undef MS_ASYNC

/*
 * libc's chmod fails; see pgl_libc.c.  It shares an object file with
 * functions that are needed, so it cannot be replaced under its own name.
 */
#include <sys/stat.h>
#define chmod(path, mode) pgl_chmod(path, mode)
extern int	pgl_chmod(const char *path, mode_t mode);

/*
 * Memory barriers and plain atomic accesses, in the terms of atomics.h.
 *
 * The compiler that makes machine code of WebAssembly makes nothing of
 * atomic.fence and knows no volatile.  It keeps its hands off atomic
 * operations, and moves nothing across one that writes.  So a barrier is one
 * on a variable of its own, and reading or writing an atomic variable is
 * atomic.load or atomic.store.
 *
 * The variable is each process's own: what counts is the operation.
 */
static int	pgl_barrier __attribute__((unused));

#define pg_memory_barrier_impl() \
	((void) __atomic_fetch_add(&pgl_barrier, 0, __ATOMIC_SEQ_CST))
#define pg_read_barrier_impl()	pg_memory_barrier_impl()
#define pg_write_barrier_impl()	pg_memory_barrier_impl()

#define PG_HAVE_ATOMIC_READ_U32
#define pg_atomic_read_u32_impl(ptr) \
	__atomic_load_n(&(ptr)->value, __ATOMIC_RELAXED)
#define PG_HAVE_ATOMIC_WRITE_U32
#define pg_atomic_write_u32_impl(ptr, val) \
	__atomic_store_n(&(ptr)->value, (val), __ATOMIC_RELAXED)
#define PG_HAVE_ATOMIC_READ_U64
#define pg_atomic_read_u64_impl(ptr) \
	__atomic_load_n(&(ptr)->value, __ATOMIC_RELAXED)
#define PG_HAVE_ATOMIC_WRITE_U64
#define pg_atomic_write_u64_impl(ptr, val) \
	__atomic_store_n(&(ptr)->value, (val), __ATOMIC_RELAXED)

#endif							/* PORT_WASIX_H */
