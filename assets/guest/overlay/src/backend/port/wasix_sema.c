/*
 * PostgreSQL's semaphores on the host ABI: a counter in shared memory, changed
 * with atomics; only a sleeper and its waker call the host.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/pg_sema.h"
#include "storage/shmem.h"
#include "pgl_host.h"

struct PGSemaphoreData
{
	volatile int32 count;
};

/*
 * One cache line each, so that backends waiting for different locks do not
 * disturb each other.
 */
#define SEMA_STRIDE PG_CACHE_LINE_SIZE

static char *semas;
static int	semas_used;
static int	semas_max;

Size
PGSemaphoreShmemSize(int maxSemas)
{
	return add_size(mul_size(maxSemas, SEMA_STRIDE), PG_CACHE_LINE_SIZE);
}

void
PGReserveSemaphores(int maxSemas)
{
	/* The spinlock that ShmemAlloc takes is not there yet. */
	semas = (char *)
		CACHELINEALIGN(ShmemAllocUnlocked(PGSemaphoreShmemSize(maxSemas)));
	semas_used = 0;
	semas_max = maxSemas;
}

PGSemaphore
PGSemaphoreCreate(void)
{
	PGSemaphore sema;

	if (semas_used >= semas_max)
		elog(PANIC, "too many semaphores created");
	sema = (PGSemaphore) (semas + (Size) SEMA_STRIDE * semas_used++);
	__atomic_store_n(&sema->count, 1, __ATOMIC_SEQ_CST);
	return sema;
}

void
PGSemaphoreReset(PGSemaphore sema)
{
	__atomic_store_n(&sema->count, 0, __ATOMIC_SEQ_CST);
}

bool
PGSemaphoreTryLock(PGSemaphore sema)
{
	int32		count = __atomic_load_n(&sema->count, __ATOMIC_SEQ_CST);

	while (count > 0)
	{
		if (__atomic_compare_exchange_n(&sema->count, &count, count - 1, false,
										__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			return true;
	}
	return false;
}

void
PGSemaphoreLock(PGSemaphore sema)
{
	while (!PGSemaphoreTryLock(sema))
	{
		int			err = pgl_host_sem_wait(&sema->count);

		if (err != 0)
			elog(FATAL, "could not wait on a semaphore: host error %d", err);
	}
}

void
PGSemaphoreUnlock(PGSemaphore sema)
{
	__atomic_fetch_add(&sema->count, 1, __ATOMIC_SEQ_CST);
	pgl_host_sem_wake(&sema->count);
}
