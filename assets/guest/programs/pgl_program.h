/*
 * The border between a client program (pg_dump, psql) and its host, and how
 * the files of this directory call each other.
 *
 * A program is a module of its own with an instance of its own. It has
 * pgl_main, which runs to the program's exit, and of pgl_host.h what it uses;
 * what it asks for beside that stands here. The Rust side of this file is
 * pglite-oxide/src/tools/abi.rs: change both and raise PGL_PROGRAM_VERSION.
 * The server knows nothing of it, so that its module stays the same.
 */
#ifndef PGL_PROGRAM_H
#define PGL_PROGRAM_H

#include <stdint.h>

#include "pgl_host.h"

#define PGL_PROGRAM_VERSION 1

/* What a channel can be waited for. */
#define PGL_CHANNEL_READ 1
#define PGL_CHANNEL_WRITE 2

/*
 * Connects to a socket by its path. Returns the channel's number, or an errno
 * below zero.
 */
PGL_IMPORT("channel_open")
int32_t		pgl_host_channel_open(const void *path, int32_t len);

/*
 * Reads at most len bytes without waiting. 0: there will be no more; below
 * zero an errno, EAGAIN if there are none yet.
 */
PGL_IMPORT("channel_read")
int32_t		pgl_host_channel_read(int32_t channel, void *buf, int32_t len);

/*
 * Writes at most len bytes without waiting. Returns how many, or an errno
 * below zero, EAGAIN if there is no room.
 */
PGL_IMPORT("channel_write")
int32_t		pgl_host_channel_write(int32_t channel, const void *buf,
								   int32_t len);

/*
 * Waits until one of the events is there, and returns all that are; 0 if
 * timeout_ms passed, -1 being no limit; -EINTR if an interrupt is flagged.
 */
PGL_IMPORT("channel_wait")
int32_t		pgl_host_channel_wait(int32_t channel, int32_t events,
								  int32_t timeout_ms);

/* Ends the connection, in good order. */
PGL_IMPORT("channel_close")
void		pgl_host_channel_close(int32_t channel);

/* Runs the handlers of the signals that the host has flagged. */
extern void pgl_dispatch_signals(void);

/*
 * What is special about descriptors that are sockets. Each returns -1 with
 * errno, like the function it is a part of.
 */
extern int	pgl_is_socket(int fd);
extern int	pgl_socket_close(int fd);
extern int	pgl_socket_fcntl(int fd, int command, int argument);

#endif
