/* src/include/port/wasix.h: what the WASIX port needs known before any other header. */
#ifndef PORT_WASIX_H
#define PORT_WASIX_H

/* fdatasync is what the host offers besides fsync; the open_* methods need O_DSYNC, which WASI does not promise. */
#define PLATFORM_DEFAULT_WAL_SYNC_METHOD WAL_SYNC_METHOD_FDATASYNC

/*
 * libc's mmap makes a copy of a file, so that msync writes that copy back and fails where the file is open for reading only. Without the flag
 * PostgreSQL hints with posix_fadvise that data should be written out, before crash recovery and while it copies databases.
 */
#include <sys/mman.h>
#undef MS_ASYNC

/* libc's chmod fails; see pgl_libc.c. It shares an object file with functions that are needed, so it cannot be replaced under its own name. */
#include <sys/stat.h>
#define chmod(path, mode) pgl_chmod(path, mode)
extern int	pgl_chmod(const char *path, mode_t mode);

#endif
