/*-------------------------------------------------------------------------
 *
 * pgl_libc.c
 *	  What the server asks of a C library and the WASIX one answers in a way
 *	  that does not fit a guest that its host drives.
 *
 * Each function here takes the place of the library's function of the same
 * name; all of PostgreSQL, side modules included, then uses it unchanged.
 * What client programs need too is in files of its own: pgl_process.c,
 * pgl_locale.c, pgl_strtod.c, pgl_dtoa.c.
 *
 * What the library answers with success although it does nothing, and what is
 * done about it:
 *
 * setlocale, newlocale: any name is a locale.  Refused in pgl_locale.c.
 * fsync, fdatasync: nothing is synced.  Replaced here.
 * O_SYNC, O_DSYNC: accepted and ignored.  Not defined (sysroot/fcntl.h).
 * MS_ASYNC: mmap's copies of files.  Not defined (port/wasix.h).
 * sigaction, sigprocmask, kill: of a process that gets signals between any
 *		two instructions, which this one does not.  Replaced in pgl_process.c.
 * chmod: success even if there is no such file.  Replaced here.
 * umask: returns its argument.  Left: files have no permissions that it could
 *		take away, and PostgreSQL uses the result to set it again only.
 * posix_fadvise: advice.  Left.
 * dlclose: success, and the module stays.  Left: PostgreSQL closes a library
 *		only if it cannot be used, which ends in an error anyway.
 * getrusage: processor time only, the other fields are 0.  Left: statistics.
 * geteuid, getuid: always 0.  Left: the process is alone in its system.
 *
 * chown, setsid, popen, system and the functions of sockets fail, and say so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgl_host.h"
#include "pgl_process.h"
#include "pgl_session.h"

/* A session without a handler for a signal goes on. */
void
pgl_default_action(int signo)
{
}

static int
sync_file(int fd, int data_only)
{
	int			err = pgl_host_file_sync(fd, data_only);

	if (err == 0)
		return 0;
	errno = err;
	return -1;
}

/* WASI's own calls leave syncing to a runtime that does not sync. */
int
fsync(int fd)
{
	return sync_file(fd, 0);
}

int
fdatasync(int fd)
{
	return sync_file(fd, 1);
}

/* Files have no permissions.  That there is no such file is an error. */
int
pgl_chmod(const char *path, mode_t mode)
{
	struct stat status;

	return stat(path, &status);
}

/*
 * The size of the stack in linear memory, from which PostgreSQL derives
 * max_stack_depth.
 */
int
getrlimit(int resource, struct rlimit *limit)
{
	if (resource != RLIMIT_STACK)
	{
		errno = EINVAL;
		return -1;
	}
	limit->rlim_cur = limit->rlim_max = PGL_STACK_SIZE;
	return 0;
}
