/*-------------------------------------------------------------------------
 *
 * pgl_process.c
 *	  Signals and the timer of a guest process.
 *
 * A signal is a call: the handlers are kept here, and run where the process
 * looks at the flags that the host sets.  No handler ever interrupts other
 * code.  A process knows no other one.
 *
 * Each function that has the name of one of the C library's takes its place.
 * The server and the client programs are linked with this file; it needs
 * nothing of PostgreSQL.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "pgl_host.h"
#include "pgl_process.h"

#define USECS_PER_SECOND INT64_C(1000000)

static void (*handlers[NSIG]) (int);

/* Signals that are blocked, and those of them that were raised. */
static sigset_t blocked;
static sigset_t pending;
static bool any_pending;

/* The period of the timer, in microseconds; 0: it expires once. */
static int64_t timer_period;

int
sigaction(int signo, const struct sigaction *new_action,
		  struct sigaction *old_action)
{
	if (signo <= 0 || signo >= NSIG)
	{
		errno = EINVAL;
		return -1;
	}
	if (old_action)
	{
		memset(old_action, 0, sizeof(*old_action));
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

	if (sigismember(&blocked, signo) == 1)
	{
		sigaddset(&pending, signo);
		any_pending = true;
	}
	else if (handler == SIG_DFL)
		pgl_default_action(signo);
	else if (handler != SIG_IGN)
		handler(signo);
}

int
pgl_take_pending(const sigset_t *set)
{
	if (!any_pending)
		return 0;
	for (int signo = 1; signo < NSIG; signo++)
	{
		if (sigismember(&pending, signo) == 1 && sigismember(set, signo) == 1)
		{
			sigdelset(&pending, signo);
			return signo;
		}
	}
	return 0;
}

/* A signal that is raised while it is blocked comes when it no longer is. */
int
sigprocmask(int how, const sigset_t *set, sigset_t *old_set)
{
	if (old_set)
		*old_set = blocked;
	if (set == NULL)
		return 0;
	switch (how)
	{
		case SIG_SETMASK:
			blocked = *set;
			break;
		case SIG_BLOCK:
		case SIG_UNBLOCK:
			for (int signo = 1; signo < NSIG; signo++)
			{
				if (sigismember(set, signo) != 1)
					continue;
				if (how == SIG_BLOCK)
					sigaddset(&blocked, signo);
				else
					sigdelset(&blocked, signo);
			}
			break;
		default:
			errno = EINVAL;
			return -1;
	}
	if (any_pending)
	{
		bool		still_pending = false;

		/* A handler may not return: what is pending then stays so. */
		for (int signo = 1; signo < NSIG; signo++)
		{
			if (sigismember(&pending, signo) != 1)
				continue;
			if (sigismember(&blocked, signo) == 1)
				still_pending = true;
			else
			{
				sigdelset(&pending, signo);
				pgl_raise(signo);
			}
		}
		any_pending = still_pending;
	}
	return 0;
}

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

/* There is one timer, which the host runs; it cannot be read. */
int
setitimer(int which, const struct itimerval *new_value,
		  struct itimerval *old_value)
{
	int32_t		error;

	if (which != ITIMER_REAL || old_value != NULL)
	{
		errno = EINVAL;
		return -1;
	}
	timer_period = new_value->it_interval.tv_sec * USECS_PER_SECOND +
		new_value->it_interval.tv_usec;
	error = pgl_host_timer_set(new_value->it_value.tv_sec * USECS_PER_SECOND +
							   new_value->it_value.tv_usec);
	if (error != 0)
	{
		errno = error;
		return -1;
	}
	return 0;
}

void
pgl_timer_rearm(void)
{
	if (timer_period != 0)
		(void) pgl_host_timer_set(timer_period);
}

void
pgl_timer_expired(void)
{
	pgl_timer_rearm();
	pgl_raise(SIGALRM);
}
