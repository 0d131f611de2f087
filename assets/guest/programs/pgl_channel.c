/*
 * Sockets of a client program: channels of the host's virtual network. There
 * is one kind, a stream that is known by its path, and no names of machines:
 * where a channel leads is for the host to say. Each function here takes the
 * place of the C library's of the same name.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "pgl_program.h"

/* Numbers of sockets begin above those of files. */
#define SOCKET_FIRST 4096
/*
 * A connection, a request to cancel what runs in it, and a new connection that
 * may replace it.
 */
#define SOCKETS 8

typedef struct Socket
{
	bool		used;
	bool		connected;
	bool		nonblocking;
	int32_t		channel;
} Socket;

static Socket sockets[SOCKETS];

static Socket *
socket_of(int fd)
{
	Socket	   *sock = NULL;

	if (fd >= SOCKET_FIRST && fd < SOCKET_FIRST + SOCKETS)
		sock = &sockets[fd - SOCKET_FIRST];
	if (sock == NULL || !sock->used)
	{
		errno = fd < SOCKET_FIRST ? ENOTSOCK : EBADF;
		return NULL;
	}
	return sock;
}

static Socket *
connected_socket(int fd)
{
	Socket	   *sock = socket_of(fd);

	if (sock == NULL || sock->connected)
		return sock;
	errno = ENOTCONN;
	return NULL;
}

int
pgl_is_socket(int fd)
{
	return fd >= SOCKET_FIRST;
}

int
pgl_socket_close(int fd)
{
	Socket	   *sock = socket_of(fd);

	if (sock == NULL)
		return -1;
	if (sock->connected)
		pgl_host_channel_close(sock->channel);
	sock->used = false;
	return 0;
}

int
pgl_socket_fcntl(int fd, int command, int argument)
{
	Socket	   *sock = socket_of(fd);

	if (sock == NULL)
		return -1;
	switch (command)
	{
		case F_GETFL:
			return O_RDWR | (sock->nonblocking ? O_NONBLOCK : 0);
		case F_SETFL:
			sock->nonblocking = (argument & O_NONBLOCK) != 0;
			return 0;
		case F_GETFD:
			return FD_CLOEXEC;
		case F_SETFD:
			return 0;
		default:
			errno = EINVAL;
			return -1;
	}
}

int
socket(int domain, int type, int protocol)
{
	int			kind = type;

#ifdef SOCK_NONBLOCK
	kind &= ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
#endif
	if (domain != AF_UNIX || kind != SOCK_STREAM || protocol != 0)
	{
		errno = EAFNOSUPPORT;
		return -1;
	}
	for (int i = 0; i < SOCKETS; i++)
	{
		if (sockets[i].used)
			continue;
		memset(&sockets[i], 0, sizeof(Socket));
		sockets[i].used = true;
#ifdef SOCK_NONBLOCK
		sockets[i].nonblocking = (type & SOCK_NONBLOCK) != 0;
#endif
		return SOCKET_FIRST + i;
	}
	errno = EMFILE;
	return -1;
}

int
connect(int fd, const struct sockaddr *address, socklen_t len)
{
	const struct sockaddr_un *unix_address =
		(const struct sockaddr_un *) address;
	Socket	   *sock = socket_of(fd);
	int32_t		channel;

	if (sock == NULL)
		return -1;
	if (sock->connected)
	{
		errno = EISCONN;
		return -1;
	}
	if (address->sa_family != AF_UNIX)
	{
		errno = EAFNOSUPPORT;
		return -1;
	}
	channel = pgl_host_channel_open(unix_address->sun_path,
									strnlen(unix_address->sun_path,
											sizeof(unix_address->sun_path)));
	if (channel < 0)
	{
		errno = -channel;
		return -1;
	}
	sock->channel = channel;
	sock->connected = true;
	return 0;
}

/*
 * Waits for a channel, unless its socket does not want to wait. False: the
 * call has failed.
 */
static bool
wait_to(const Socket *sock, int events)
{
	for (;;)
	{
		int			ready;

		if (sock->nonblocking)
		{
			errno = EAGAIN;
			return false;
		}
		ready = pgl_host_channel_wait(sock->channel, events, -1);
		if (ready >= 0)
			return true;
		if (ready != -EINTR)
		{
			errno = -ready;
			return false;
		}
		pgl_dispatch_signals();
	}
}

ssize_t
recv(int fd, void *buf, size_t len, int options)
{
	Socket	   *sock = connected_socket(fd);

	if (sock == NULL)
		return -1;
	for (;;)
	{
		int32_t		count = pgl_host_channel_read(sock->channel, buf, len);

		if (count >= 0)
			return count;
		if (count != -EAGAIN)
		{
			errno = -count;
			return -1;
		}
		if (!wait_to(sock, PGL_CHANNEL_READ))
			return -1;
	}
}

/* On a socket that waits too, it may send less than everything. */
ssize_t
send(int fd, const void *buf, size_t len, int options)
{
	Socket	   *sock = connected_socket(fd);

	if (sock == NULL)
		return -1;
	for (;;)
	{
		int32_t		count = pgl_host_channel_write(sock->channel, buf, len);

		if (count >= 0)
			return count;
		if (count != -EAGAIN)
		{
			errno = -count;
			return -1;
		}
		if (!wait_to(sock, PGL_CHANNEL_WRITE))
			return -1;
	}
}

/* One socket at a time: no program waits for more. */
int
poll(struct pollfd *polled, nfds_t count, int timeout_ms)
{
	Socket	   *sock;
	int			events;
	int			ready;

	if (count != 1)
	{
		errno = EINVAL;
		return -1;
	}
	polled->revents = 0;
	sock = connected_socket(polled->fd);
	if (sock == NULL)
	{
		polled->revents = POLLNVAL;
		return 1;
	}
	events = (polled->events & POLLIN ? PGL_CHANNEL_READ : 0) |
		(polled->events & POLLOUT ? PGL_CHANNEL_WRITE : 0);
	ready = pgl_host_channel_wait(sock->channel, events, timeout_ms);
	if (ready == -EINTR)
		pgl_dispatch_signals();
	if (ready < 0)
	{
		errno = -ready;
		return -1;
	}
	polled->revents = (ready & PGL_CHANNEL_READ ? POLLIN : 0) |
		(ready & PGL_CHANNEL_WRITE ? POLLOUT : 0);
	return ready != 0;
}

int
shutdown(int fd, int how)
{
	return connected_socket(fd) ? 0 : -1;
}

int
setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
	return socket_of(fd) ? 0 : -1;
}

/* There is no error that a call would not have told at once. */
int
getsockopt(int fd, int level, int option, void *value, socklen_t *len)
{
	if (socket_of(fd) == NULL)
		return -1;
	if (level != SOL_SOCKET || option != SO_ERROR || *len < sizeof(int))
	{
		errno = ENOPROTOOPT;
		return -1;
	}
	*(int *) value = 0;
	*len = sizeof(int);
	return 0;
}

static int
unnamed(int fd, struct sockaddr *address, socklen_t *len)
{
	if (connected_socket(fd) == NULL)
		return -1;
	if (*len > sizeof(struct sockaddr_un))
		*len = sizeof(struct sockaddr_un);
	memset(address, 0, *len);
	address->sa_family = AF_UNIX;
	return 0;
}

int
getsockname(int fd, struct sockaddr *address, socklen_t *len)
{
	return unnamed(fd, address, len);
}

int
getpeername(int fd, struct sockaddr *address, socklen_t *len)
{
	return unnamed(fd, address, len);
}

int
getaddrinfo(const char *node, const char *service,
			const struct addrinfo *hints, struct addrinfo **result)
{
	return EAI_NONAME;
}
