/* src/include/port/wasix.h: what the WASIX port needs known before any other header. */
#ifndef PORT_WASIX_H
#define PORT_WASIX_H

/* fdatasync is what the host offers besides fsync; the open_* methods need O_DSYNC, which WASI does not promise. */
#define PLATFORM_DEFAULT_WAL_SYNC_METHOD WAL_SYNC_METHOD_FDATASYNC

#endif
