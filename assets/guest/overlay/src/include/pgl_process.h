/*-------------------------------------------------------------------------
 *
 * pgl_process.h
 *	  Signals, the timer and locales, which the server and the client programs
 *	  have in common: see src/backend/port/pgl_process.c and pgl_locale.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGL_PROCESS_H
#define PGL_PROCESS_H

#include <signal.h>

/* Runs the handler of a signal, or the default action if there is none. */
extern void pgl_raise(int signo);

/* A signal of the set that was raised while it was blocked; 0: none was. */
extern int	pgl_take_pending(const sigset_t *set);

/* Sets the timer again if it is a periodic one; the second raises SIGALRM. */
extern void pgl_timer_rearm(void);
extern void pgl_timer_expired(void);

/* What happens at a signal without a handler: each kind of process has one. */
extern void pgl_default_action(int signo);

#endif
