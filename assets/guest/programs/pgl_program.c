/*
 * How a client program starts, is interrupted and asks for other programs:
 * what a C library and a kernel do for a process, as far as the WASIX library
 * does not fit. Each function here that has a name of the library's takes its
 * place.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <wasi/api.h>

#include "pgl_process.h"
#include "pgl_program.h"

/* Exit code of a process that a signal ended, as a shell shows it. */
#define EXIT_BY_SIGNAL 128

PGL_EXPORT("_initialize")
void		pgl_initialize(void);

PGL_EXPORT("pgl_program_version")
int32_t		pgl_program_version(void);

PGL_EXPORT("pgl_interrupts")
PglInterrupts *pgl_interrupts(void);

PGL_EXPORT("pgl_main")
int32_t		pgl_main(void);

extern void __wasi_init_tp(void);
extern void __wasm_call_ctors(void);

/* The program's main, by the name that the compiler gives it. */
extern int	__main_argc_argv(int argc, char **argv);

/* fcntl is linked with --wrap. */
extern int	__real_fcntl(int fd, int command,...);
int			__wrap_fcntl(int fd, int command,...);

void		pg_strong_random_init(void);
bool		pg_strong_random(void *buf, size_t len);

static PglInterrupts flags;

/* Start-up of the C library. Loaders call it once or twice. */
void
pgl_initialize(void)
{
	static int	done = 0;

	if (done)
		return;
	done = 1;
	__wasi_init_tp();
	__wasm_call_ctors();
}

int32_t
pgl_program_version(void)
{
	return PGL_PROGRAM_VERSION;
}

PglInterrupts *
pgl_interrupts(void)
{
	return &flags;
}

/* Runs the program, to its exit. */
int32_t
pgl_main(void)
{
	__wasi_size_t count;
	__wasi_size_t size;
	char	  **argv;
	char	   *bytes;

	if (__wasi_args_sizes_get(&count, &size) != 0 ||
		(argv = calloc(count + 1, sizeof(char *))) == NULL ||
		(bytes = malloc(size)) == NULL ||
		__wasi_args_get((uint8_t **) argv, (uint8_t *) bytes) != 0)
	{
		fprintf(stderr, "could not read the program arguments\n");
		return EXIT_FAILURE;
	}
	exit(__main_argc_argv(count, argv));
}

/*
 * Signals.
 *
 * They are calls (see pgl_process.c): what the host has flagged is looked at
 * wherever the program waits.
 */
void
pgl_default_action(int signo)
{
	if (signo != SIGALRM && signo != SIGCHLD)
		_Exit(EXIT_BY_SIGNAL + signo);
}

int
raise(int signo)
{
	return kill(getpid(), signo);
}

/* Takes back a flag of the host's; true if it was set. */
static int
taken(volatile int32_t *flag)
{
	return __atomic_exchange_n(flag, 0, __ATOMIC_SEQ_CST) != 0;
}

void
pgl_dispatch_signals(void)
{
	taken(&flags.pending);
	if (taken(&flags.alarm))
		pgl_timer_expired();
	if (taken(&flags.die))
		raise(SIGTERM);
	if (taken(&flags.cancel))
		raise(SIGINT);
}

/*
 * Waits for one of the signals that a timer, Ctrl-C or the end of the program
 * sends, without its handler.
 */
int
sigwait(const sigset_t *set, int *signo)
{
	for (;;)
	{
		*signo = pgl_take_pending(set);
		if (*signo != 0)
			return 0;
		(void) pgl_host_wait(-1);
		taken(&flags.pending);
		if (sigismember(set, SIGALRM) && taken(&flags.alarm))
		{
			pgl_timer_rearm();
			*signo = SIGALRM;
			return 0;
		}
		if (sigismember(set, SIGINT) && taken(&flags.cancel))
		{
			*signo = SIGINT;
			return 0;
		}
		pgl_dispatch_signals();
	}
}

int
nanosleep(const struct timespec *duration, struct timespec *remaining)
{
	int64_t		milliseconds = duration->tv_sec * INT64_C(1000) +
		(duration->tv_nsec + 999999) / 1000000;

	if (milliseconds > INT32_MAX)
		milliseconds = INT32_MAX;
	if (pgl_host_wait((int32_t) milliseconds) == 0)
		return 0;
	pgl_dispatch_signals();
	if (remaining)
		memset(remaining, 0, sizeof(*remaining));
	errno = EINTR;
	return -1;
}

/*
 * Descriptors.
 *
 * Files are the library's business. Reading may be interrupted, which only
 * standard input is, and goes on when the handler returns. A program that
 * writes much may wait for nothing in a long while, so it looks for signals
 * there too.
 */
ssize_t
readv(int fd, const struct iovec *vectors, int count)
{
	for (;;)
	{
		__wasi_size_t done;
		int			err = __wasi_fd_read(fd, (const __wasi_iovec_t *) vectors,
										 count, &done);

		if (err == 0)
			return done;
		if (err != EINTR)
		{
			errno = err;
			return -1;
		}
		pgl_dispatch_signals();
	}
}

ssize_t
read(int fd, void *buf, size_t len)
{
	struct iovec vector = {.iov_base = buf,.iov_len = len};

	return readv(fd, &vector, 1);
}

ssize_t
writev(int fd, const struct iovec *vectors, int count)
{
	__wasi_size_t done;
	int			err;

	if (flags.pending)
		pgl_dispatch_signals();
	err = __wasi_fd_write(fd, (const __wasi_ciovec_t *) vectors, count, &done);
	if (err == 0)
		return done;
	errno = err;
	return -1;
}

ssize_t
write(int fd, const void *buf, size_t len)
{
	struct iovec vector = {.iov_base = (void *) buf,.iov_len = len};

	return writev(fd, &vector, 1);
}

int
close(int fd)
{
	int			err;

	if (pgl_is_socket(fd))
		return pgl_socket_close(fd);
	err = __wasi_fd_close(fd);
	if (err == 0)
		return 0;
	errno = err;
	return -1;
}

int
__wrap_fcntl(int fd, int command,...)
{
	va_list		arguments;
	int			argument = 0;

	if (command != F_GETFL && command != F_GETFD)
	{
		va_start(arguments, command);
		argument = va_arg(arguments, int);
		va_end(arguments);
	}
	if (pgl_is_socket(fd))
		return pgl_socket_fcntl(fd, command, argument);
	return __real_fcntl(fd, command, argument);
}

/*
 * Random numbers, under PostgreSQL's own name for them: programs read a device
 * otherwise, which the host may not show them.
 */
void
pg_strong_random_init(void)
{
}

bool
pg_strong_random(void *buf, size_t len)
{
	return pgl_host_random_fill(buf, (int32_t) len) == 0;
}

/*
 * Other programs.
 *
 * There are none: this one runs inside another program, which is asked for
 * nothing of the kind.
 */
static void
refuse(const char *what)
{
	fprintf(stderr, "%s: not available in this program, which runs inside "
			"another one and starts none\n", what);
	errno = ENOSYS;
}

FILE *
popen(const char *command, const char *mode)
{
	refuse(command);
	return NULL;
}

int
pclose(FILE *stream)
{
	errno = ECHILD;
	return -1;
}

int
system(const char *command)
{
	if (command == NULL)
		return 0;
	refuse(command);
	return -1;
}

int
pipe(int ends[2])
{
	refuse("pipe");
	return -1;
}

pid_t
waitpid(pid_t pid, int *status, int options)
{
	errno = ECHILD;
	return -1;
}

pid_t
wait(int *status)
{
	errno = ECHILD;
	return -1;
}

int
execv(const char *path, char *const argv[])
{
	refuse(path);
	return -1;
}

int
execl(const char *path, const char *argument,...)
{
	refuse(path);
	return -1;
}
