/*
 * Dynamic shared memory segments as ranges of linear memory.  It stands where
 * other platforms map files ("mmap"), and serves an instance that is its own
 * only backend: a segment is allocated once and attaching to it finds it
 * again.
 */
#include "postgres.h"

#include <stdlib.h>

#include "storage/dsm_impl.h"
#include "utils/elog.h"
#include "utils/memutils.h"
#include "pgl_session.h"

typedef struct Segment
{
	dsm_handle	handle;
	Size		size;
	char	   *memory;
	struct Segment *next;
} Segment;

static Segment *segments;

bool
pgl_dsm_op(dsm_op op, dsm_handle handle, Size request_size,
		   void **mapped_address, Size *mapped_size, int elevel)
{
	Segment   **link = &segments;

	while (*link != NULL && (*link)->handle != handle)
		link = &(*link)->next;

	switch (op)
	{
		case DSM_OP_CREATE:
			{
				Segment    *made;
				char	   *memory;

				if (*link != NULL)
					return false;	/* the caller tries another handle */
				made = malloc(sizeof(Segment));
				memory = NULL;
				if (request_size <= MaxAllocHugeSize)
					memory = aligned_alloc(PG_IO_ALIGN_SIZE,
										   TYPEALIGN(PG_IO_ALIGN_SIZE,
													 request_size));
				if (made == NULL || memory == NULL)
				{
					free(made);
					free(memory);
					ereport(elevel,
							(errcode(ERRCODE_OUT_OF_MEMORY),
							 errmsg("could not allocate a dynamic shared memory segment of %zu bytes",
									request_size)));
					return false;
				}
				MemSet(memory, 0, request_size);
				made->handle = handle;
				made->size = request_size;
				made->memory = memory;
				made->next = segments;
				segments = made;
				*mapped_address = memory;
				*mapped_size = request_size;
				return true;
			}

		case DSM_OP_ATTACH:
			if (*link == NULL)
			{
				ereport(elevel,
						(errmsg("there is no dynamic shared memory segment %u",
								handle)));
				return false;
			}
			*mapped_address = (*link)->memory;
			*mapped_size = (*link)->size;
			return true;

		case DSM_OP_DETACH:
		case DSM_OP_DESTROY:
			*mapped_address = NULL;
			*mapped_size = 0;
			if (op == DSM_OP_DESTROY && *link != NULL)
			{
				Segment    *gone = *link;

				*link = gone->next;
				free(gone->memory);
				free(gone);
			}
			return true;
	}
	return false;
}
