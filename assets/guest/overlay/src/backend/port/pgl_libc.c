/*
 * What PostgreSQL asks of a C library and the WASIX one answers in a way that does not fit a guest driven by its host. Each function here takes the
 * place of the library's function of the same name; all of PostgreSQL, side modules included, then uses it unchanged.
 */
#include "postgres.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "pgl_host.h"
#include "pgl_session.h"

static void (*handlers[NSIG]) (int);

/*
 * Signals are calls: handlers are kept here, and pgl_dispatch_interrupts runs them at the places where PostgreSQL looks for interrupts.
 */
int
sigaction(int signo, const struct sigaction *new_action, struct sigaction *old_action)
{
	if (signo <= 0 || signo >= NSIG)
	{
		errno = EINVAL;
		return -1;
	}
	if (old_action)
	{
		MemSet(old_action, 0, sizeof(*old_action));
		old_action->sa_handler = handlers[signo];
	}
	if (new_action)
		handlers[signo] = new_action->sa_handler;
	return 0;
}

void
pgl_raise(int signo)
{
	void		(*handler) (int) = handlers[signo];

	if (handler != SIG_DFL && handler != SIG_IGN)
		handler(signo);
}

/* The only process this one knows is itself. */
int
kill(pid_t pid, int signo)
{
	if (pid != getpid() && pid != -getpid())
	{
		errno = ESRCH;
		return -1;
	}
	if (signo < 0 || signo >= NSIG)
	{
		errno = EINVAL;
		return -1;
	}
	if (signo != 0)
		pgl_raise(signo);
	return 0;
}

/* One timer, run by the host. */
int
setitimer(int which, const struct itimerval *new_value, struct itimerval *old_value)
{
	int64		delay = new_value->it_value.tv_sec * INT64CONST(1000000) + new_value->it_value.tv_usec;

	if (which != ITIMER_REAL || old_value != NULL)
	{
		errno = EINVAL;
		return -1;
	}
	pgl_host_timer_set(delay);
	return 0;
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

/* Files have no permissions to set. That there is no such file is still an error. */
int
pgl_chmod(const char *path, mode_t mode)
{
	struct stat status;

	return stat(path, &status);
}

/* PostgreSQL derives max_stack_depth from this: the size of the stack in linear memory. */
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
