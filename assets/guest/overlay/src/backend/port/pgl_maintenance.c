/*-------------------------------------------------------------------------
 *
 * pgl_maintenance.c
 *	  What PostgreSQL leaves to processes beside the session, done by the
 *	  session: checkpoints (the checkpointer), flushing of asynchronous
 *	  commits (the WAL writer), vacuum and analyze (autovacuum).
 *
 * This file owns when that is due and the frame around it.  The work itself
 * is PostgreSQL's own.
 *
 * src/backend/port/pgl_maintenance.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "libpq/libpq.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/autovacuum.h"
#include "postmaster/bgwriter.h"
#include "storage/bufmgr.h"
#include "storage/condition_variable.h"
#include "storage/fd.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "pgl_host.h"
#include "pgl_session.h"

/*
 * Besides every autovacuum_naptime, tables are looked at whenever this much
 * WAL has been written: a session that works without a pause would otherwise
 * bloat its tables for a whole naptime, with no process beside it to clean
 * up.
 */
#define AUTOVACUUM_WAL_BYTES (4 * 1024 * 1024)

PGL_EXPORT("pgl_checkpoint")
int32_t		pgl_checkpoint(void);

PGL_EXPORT("pgl_maintain")
int32_t		pgl_maintain(void);

/* Flags of the checkpoint that is wanted; 0: none. */
static int	requested_checkpoint;

/* A run of autovacuum is wanted, be it enabled or not. */
static bool requested_autovacuum;

static TimestampTz last_checkpoint;
static TimestampTz last_autovacuum;
static XLogRecPtr autovacuum_lsn;

static bool checkpoint(int flags);
static void autovacuum(void);
static bool unflushed_commits(void);
static void recover_from_error(void);

/* Called with WAL locks held. */
void
pgl_request_checkpoint(int flags)
{
	requested_checkpoint |= flags | CHECKPOINT_REQUESTED;
	InterruptPending = true;
}

/*
 * Called when old transactions come near the limit, in place of the signal
 * that makes the postmaster start an autovacuum launcher.
 */
void
pgl_request_autovacuum(void)
{
	requested_autovacuum = true;
}

/*
 * Called where interrupts are served: no lightweight lock is held and no
 * critical section open, so a checkpoint can do what it does beside a
 * session.
 */
void
pgl_perform_requested_checkpoint(void)
{
	int			flags = requested_checkpoint;

	if (flags == 0)
		return;
	if (MyProc->delayChkptFlags != 0)
	{
		/*
		 * It would wait for this very session: look again at the next
		 * interrupt check.
		 */
		InterruptPending = true;
		return;
	}
	requested_checkpoint = 0;

	/* A failure is in the log, and the next WAL segment asks again. */
	(void) checkpoint(flags);
}

/*
 * Makes a checkpoint whatever state the session is in between two messages. 0:
 * done.
 */
int32_t
pgl_checkpoint(void)
{
	return checkpoint(CHECKPOINT_IMMEDIATE | CHECKPOINT_FORCE) ? 0 : 1;
}

/*
 * What is due, in the terms of pgl_pump's result.  It is asked after every
 * batch of messages and reads no clock unless it must.
 */
int32_t
pgl_maintenance_due(void)
{
	TimestampTz now = GetCurrentStatementStartTimestamp();
	XLogRecPtr	lsn;
	int32_t		due = 0;

	if (last_checkpoint == 0)
	{
		/*
		 * The first batch of this session; start-up has recovered and checked
		 * what was there.
		 */
		last_checkpoint = last_autovacuum = now;
		autovacuum_lsn = GetXLogInsertRecPtr();
	}

	if (unflushed_commits())
		due |= PGL_DUE_FLUSH;
	if (IsTransactionOrTransactionBlock())
		return due;

	if (requested_autovacuum)
		due |= PGL_DUE_NOW;
	lsn = GetXLogInsertRecPtr();
	if (lsn != autovacuum_lsn)
	{
		if (AutoVacuumingActive() &&
			(lsn - autovacuum_lsn >= AUTOVACUUM_WAL_BYTES ||
			 TimestampDifferenceExceeds(last_autovacuum, now,
										autovacuum_naptime * 1000)))
			due |= PGL_DUE_NOW;
		if (TimestampDifferenceExceeds(last_checkpoint, now,
									   CheckPointTimeout * 1000))
			due |= PGL_DUE_NOW;
	}
	return due;
}

/*
 * Does what is due, between two batches of messages.  Nothing of it reaches
 * the client; failures are in the log.  Returns what is due after that.
 */
int32_t
pgl_maintain(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (unflushed_commits())
	{
		sigjmp_buf	local_sigjmp_buf;

		if (sigsetjmp(local_sigjmp_buf, 1) == 0)
		{
			PG_exception_stack = &local_sigjmp_buf;
			XLogFlush(XactLastCommitEnd);
		}
		else
			recover_from_error();
		PG_exception_stack = NULL;
	}
	if (IsTransactionOrTransactionBlock())
		return 0;

	/* A request to cancel found no statement, and is not meant for this. */
	QueryCancelPending = false;

	if (TimestampDifferenceExceeds(last_checkpoint, now,
								   CheckPointTimeout * 1000))
		(void) checkpoint(CHECKPOINT_CAUSE_TIME);
	if (requested_autovacuum ||
		(AutoVacuumingActive() &&
		 (GetXLogInsertRecPtr() - autovacuum_lsn >= AUTOVACUUM_WAL_BYTES ||
		  TimestampDifferenceExceeds(last_autovacuum, now,
									 autovacuum_naptime * 1000))))
	{
		autovacuum();

		/*
		 * The run asks for another one if a database is still old.  That is
		 * not this one, or nothing can be done about it now.
		 */
		requested_autovacuum = false;
		last_autovacuum = now;
		autovacuum_lsn = GetXLogInsertRecPtr();
	}
	return unflushed_commits() ? PGL_DUE_FLUSH : 0;
}

/*
 * Counts a checkpoint that was made, and reports what was counted and the WAL
 * it wrote, as the checkpointer does.
 */
void
pgl_count_checkpoint(int flags)
{
	if (flags & CHECKPOINT_CAUSE_TIME)
		PendingCheckpointerStats.num_timed++;
	else
		PendingCheckpointerStats.num_requested++;
	pgstat_report_checkpointer();
	pgstat_report_wal(true);
}

/*
 * Commits that were acknowledged before they were durable, as
 * synchronous_commit = off allows.
 */
static bool
unflushed_commits(void)
{
	return enableFsync && XactLastCommitEnd != InvalidXLogRecPtr &&
		XLogNeedsFlush(XactLastCommitEnd);
}

/*
 * A checkpoint in the middle of whatever the session does.  It has a resource
 * owner of its own, so that nothing of it is the transaction's.
 */
static bool
checkpoint(int flags)
{
	CommandDest dest = whereToSendOutput;
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext caller = CurrentMemoryContext;
	uint32		holdoff = InterruptHoldoffCount;
	volatile bool done = false;
	MemoryContext context;

	context = AllocSetContextCreate(TopMemoryContext, "Checkpoint",
									ALLOCSET_DEFAULT_SIZES);

	/* The log alone is told about it. */
	whereToSendOutput = DestNone;
	HOLD_INTERRUPTS();
	PG_TRY();
	{
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = AuxProcessResourceOwner;
		CreateCheckPoint(flags | CHECKPOINT_IMMEDIATE);
		pgl_count_checkpoint(flags);
		ReleaseAuxProcessResources(true);
		done = true;
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(context);
		EmitErrorReport();
		FlushErrorState();
		LWLockReleaseAll();
		ConditionVariableCancelSleep();
		pgstat_report_wait_end();
		UnlockBuffers();
		ReleaseAuxProcessResources(false);
	}
	PG_END_TRY();
	InterruptHoldoffCount = holdoff;
	CurrentResourceOwner = owner;
	whereToSendOutput = dest;
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	last_checkpoint = GetCurrentTimestamp();
	return done;
}

/*
 * A run of an autovacuum worker.  The session's own user takes no part in it,
 * nor do the settings that AutoVacWorkerMain() overrides.
 *
 * The settings are set and restored here as variables.  A GUC nest level
 * cannot hold them: the run consists of several transactions, and the end of
 * the first one restores what was set in all levels.  Nor can
 * SetConfigOption() as in a worker, which would change what RESET restores.
 */
static void
autovacuum(void)
{
	sigjmp_buf	local_sigjmp_buf;
	CommandDest dest = whereToSendOutput;
	BackendType type = MyBackendType;
	int			isolation = DefaultXactIsoLevel;
	bool		read_only = DefaultXactReadOnly;
	int			transaction_timeout = TransactionTimeout;
	int			lock_timeout = LockTimeout;
	int			idle_timeout = IdleSessionTimeout;
	bool		damaged_pages = zero_damaged_pages;
	int			fetch_consistency = pgstat_fetch_consistency;
	Oid			user;
	int			security;

	GetUserIdAndSecContext(&user, &security);
	whereToSendOutput = DestNone;
	MyBackendType = B_AUTOVAC_WORKER;
	DefaultXactIsoLevel = XACT_READ_COMMITTED;
	DefaultXactReadOnly = false;
	TransactionTimeout = 0;
	LockTimeout = 0;
	IdleSessionTimeout = 0;
	zero_damaged_pages = false;

	/* What a worker fetches is its own copy, which it frees. */
	pgstat_clear_snapshot();
	pgstat_fetch_consistency = PGSTAT_FETCH_CONSISTENCY_NONE;
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, 0);

	if (sigsetjmp(local_sigjmp_buf, 1) == 0)
	{
		PG_exception_stack = &local_sigjmp_buf;

		/*
		 * What this session counted and has not yet told decides which tables
		 * are due.
		 */
		pgstat_report_stat(true);
		SetCurrentStatementStartTimestamp();
		pgl_autovacuum();
		pgstat_report_stat(true);
	}
	else
		recover_from_error();
	pgl_autovacuum_end();
	PG_exception_stack = NULL;
	MemoryContextSwitchTo(TopMemoryContext);

	SetUserIdAndSecContext(user, security);
	pgstat_fetch_consistency = fetch_consistency;
	zero_damaged_pages = damaged_pages;
	IdleSessionTimeout = idle_timeout;
	LockTimeout = lock_timeout;
	TransactionTimeout = transaction_timeout;
	DefaultXactReadOnly = read_only;
	DefaultXactIsoLevel = isolation;
	MyBackendType = type;
	whereToSendOutput = dest;
	pgstat_report_activity(STATE_IDLE, NULL);

	/* A request to cancel was meant for this work, which is over. */
	QueryCancelPending = false;
}

static void
recover_from_error(void)
{
	error_context_stack = NULL;
	HOLD_INTERRUPTS();
	QueryCancelPending = false;
	EmitErrorReport();
	AbortOutOfAnyTransaction();
	LWLockReleaseAll();
	MemoryContextSwitchTo(TopMemoryContext);
	FlushErrorState();
	RESUME_INTERRUPTS();
}
