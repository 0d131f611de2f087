/*
 * PostgreSQL's main shared memory segment: a fixed range of linear memory, at
 * the same address in every instance, announced to the host so that it can put
 * the same pages behind it in several instances.
 */
#include "postgres.h"

#include <unistd.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/pg_shmem.h"
#include "utils/guc.h"
#include "utils/guc_hooks.h"
#include "pgl_host.h"

#define WASM_PAGE 65536u

unsigned long UsedShmemSegID = 0;
void	   *UsedShmemSegAddr = NULL;

bool
check_huge_page_size(int *newval, void **extra, GucSource source)
{
	if (*newval != 0)
	{
		GUC_check_errdetail("The embedded server has no huge pages: \"huge_page_size\" must be 0.");
		return false;
	}
	return true;
}

void
GetHugePageSize(Size *hugepagesize, int *mmap_flags)
{
	if (hugepagesize)
		*hugepagesize = 0;
	if (mmap_flags)
		*mmap_flags = 0;
}

PGShmemHeader *
PGSharedMemoryCreate(Size size, PGShmemHeader **shim)
{
	PGShmemHeader *header = (PGShmemHeader *) PGL_SHMEM_BASE;
	uint64		end = (uint64) PGL_SHMEM_BASE + TYPEALIGN64(WASM_PAGE, (uint64) size);
	uint64		have = (uint64) __builtin_wasm_memory_size(0) * WASM_PAGE;
	int			err;

	/*
	 * What lies between the heap and the end of the segment is lost to
	 * malloc, which goes on above it. That the heap has not reached the
	 * segment is what makes the range ours.
	 */
	if (have > PGL_SHMEM_BASE)
		ereport(FATAL,
				(errmsg("the heap has grown to %llu bytes and reaches into the shared memory segment at %u",
						(unsigned long long) have, PGL_SHMEM_BASE)));
	if (end > UINT32_MAX ||
		__builtin_wasm_memory_grow(0, (uint32) ((end - have) / WASM_PAGE)) == (size_t) -1)
		ereport(FATAL,
				(errmsg("could not make a shared memory segment of %zu bytes", size),
				 errhint("Reduce \"shared_buffers\", or raise the memory limit of this database.")));

	err = pgl_host_shm_map(PGL_SHMEM_BASE, (uint32) (end - PGL_SHMEM_BASE));
	if (err != 0)
		ereport(FATAL,
				(errmsg("could not share a memory segment of %zu bytes: host error %d",
						size, err)));

	header->creatorPID = getpid();
	header->magic = PGShmemMagic;
	header->dsm_control = 0;
	header->device = 0;
	header->inode = 0;
	header->totalsize = size;
	header->freeoffset = MAXALIGN(sizeof(PGShmemHeader));
	*shim = header;

	UsedShmemSegAddr = header;
	UsedShmemSegID = PGL_SHMEM_BASE;
	return header;
}

bool
PGSharedMemoryIsInUse(unsigned long id1, unsigned long id2)
{
	/*
	 * The segment dies with its instance; who else uses the data directory is
	 * the host's lock to tell.
	 */
	return false;
}

void
PGSharedMemoryDetach(void)
{
	UsedShmemSegAddr = NULL;
}
