/*-------------------------------------------------------------------------
 *
 * pgl_barriers.c
 *	  Whether memory barriers order the accesses of two processes.
 *
 * Each of two processes stores to a cell of its own and then loads the
 * other's.  With a barrier between the two, at least one of them sees what
 * the other stored.  Without one, each may see the cell as it was before.
 *
 * The host calls these functions in two instances with one memory.  They use
 * nothing of the server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/atomics.h"

/* On x86 and on most other machines two cache lines. */
#define LINE_SIZE 128

/* One process's part of the memory that both see.  The host zeroes it. */
typedef union PglBarrierLine
{
	pg_atomic_uint32 atomic;
	uint32		plain;
	char		pad[LINE_SIZE];
} PglBarrierLine;

typedef struct PglBarrierCells
{
	PglBarrierLine begun;		/* the round that the process is in */
	PglBarrierLine ended;		/* the last round that it has finished */
	PglBarrierLine cell;		/* what it stores */
	PglBarrierLine seen;		/* what it loaded from the other's cell */
} PglBarrierCells;

extern PGDLLEXPORT uint32 pgl_with_barrier(PglBarrierCells *mine, PglBarrierCells *other,
										   uint32 first, uint32 rounds);
extern PGDLLEXPORT uint32 pgl_without_barrier(PglBarrierCells *mine, PglBarrierCells *other,
											  uint32 first, uint32 rounds);

/* Announces a round and waits for the other process to be there. */
static inline void
meet(PglBarrierLine *mine, PglBarrierLine *other, uint32 round)
{
	pg_atomic_exchange_u32(&mine->atomic, round);
	while (pg_atomic_read_u32(&other->atomic) < round)
		 /* wait */ ;
}

/* Returns in how many rounds neither process saw what the other stored. */
static inline uint32
run(PglBarrierCells *mine, PglBarrierCells *other, uint32 first, uint32 rounds,
	bool with_barrier)
{
	uint32		both_blind = 0;

	for (uint32 round = first; round < first + rounds; round++)
	{
		meet(&mine->begun, &other->begun, round);
		mine->cell.plain = round;
		if (with_barrier)
			pg_memory_barrier();
		else
			pg_compiler_barrier();
		mine->seen.plain = other->cell.plain;
		meet(&mine->ended, &other->ended, round);
		if (mine->seen.plain < round && other->seen.plain < round)
			both_blind++;
	}
	return both_blind;
}

uint32
pgl_with_barrier(PglBarrierCells *mine, PglBarrierCells *other,
				 uint32 first, uint32 rounds)
{
	return run(mine, other, first, rounds, true);
}

uint32
pgl_without_barrier(PglBarrierCells *mine, PglBarrierCells *other,
					uint32 first, uint32 rounds)
{
	return run(mine, other, first, rounds, false);
}
