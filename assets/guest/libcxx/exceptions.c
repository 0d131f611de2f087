/*
 * Where exceptions of C++ are, and who throws them.
 *
 * The engine never frees an exception, so the host makes one for each address
 * and throws it again and again: what is thrown differs in memory only.  So
 * exceptions are at a few fixed addresses, unless they are large or many are
 * in flight.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#define SLOTS		16
#define SLOT_SIZE	256			/* a header of 80 bytes, and what is thrown */

void	   *pgl_exception_allocate(size_t size);
void		pgl_exception_free(void *exception);
_Noreturn void pgl_exception_throw(void *exception);

/* Throws the tag __cpp_exception with this address. */
__attribute__((import_module("pgl_host"), import_name("throw")))
_Noreturn void pgl_host_throw(void *exception);

static char slots[SLOTS][SLOT_SIZE] __attribute__((aligned(16)));
static bool used[SLOTS];

void *
pgl_exception_allocate(size_t size)
{
	for (int i = 0; i < SLOTS && size <= SLOT_SIZE; i++)
	{
		if (!used[i])
		{
			used[i] = true;
			return slots[i];
		}
	}
	return malloc(size);
}

void
pgl_exception_free(void *exception)
{
	for (int i = 0; i < SLOTS; i++)
	{
		if (exception == slots[i])
		{
			used[i] = false;
			return;
		}
	}
	free(exception);
}

_Noreturn void
pgl_exception_throw(void *exception)
{
	pgl_host_throw(exception);
}
