/*-------------------------------------------------------------------------
 *
 * pgl_session.c
 *	  Entry points of the guest: what the host calls to start a session, to
 *	  have its messages processed, and to run PostgreSQL's other modes.
 *
 * This file owns the way in and out.  Starting up and message processing are
 * PostgreSQL's own (PostgresSingleUserMain and PostgresMain, patched to
 * return to their caller).
 *
 * src/backend/port/pgl_session.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include <wasi/api.h>

#include "bootstrap/bootstrap.h"
#include "libpq/hba.h"
#include "libpq/libpq.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/timestamp.h"
#include "pgl_host.h"
#include "pgl_session.h"

/*
 * Where the guest believes to be installed; PostgreSQL finds its share and
 * module directories from it.
 */
#define GUEST_EXECUTABLE "/usr/bin/postgres"

/*
 * The host sets the first field, and CHECK_FOR_INTERRUPTS reads it under
 * PostgreSQL's own name for it.
 */
PglInterrupts pgl_interrupt_flags;
extern volatile sig_atomic_t InterruptPending
			__attribute__((alias("pgl_interrupt_flags")));

/*
 * Whether the session was started with allow_system_table_mods, as initdb's
 * are; a client cannot ask for it.
 */
bool		pgl_changes_system_tables = false;

PGL_EXPORT("_initialize")
void		pgl_initialize(void);

PGL_EXPORT("pgl_abi_version")
int32_t		pgl_abi_version(void);

PGL_EXPORT("pgl_interrupts")
PglInterrupts *pgl_interrupts(void);

PGL_EXPORT("pgl_boot")
int32_t		pgl_boot(void);

PGL_EXPORT("pgl_pump")
int32_t		pgl_pump(void);

PGL_EXPORT("pgl_main")
int32_t		pgl_main(void);

extern void __wasi_init_tp(void);
extern void __wasm_call_ctors(void);

static void process_init(void);
static void read_arguments(int *argc, char ***argv);

/* Start-up of the C library. Loaders call it once or twice. */
void
pgl_initialize(void)
{
	static bool done = false;

	if (done)
		return;
	done = true;
	__wasi_init_tp();
	__wasm_call_ctors();
}

int32_t
pgl_abi_version(void)
{
	return PGL_ABI_VERSION;
}

PglInterrupts *
pgl_interrupts(void)
{
	return &pgl_interrupt_flags;
}

/*
 * Starts PostgreSQL with the program arguments up to the point where it would
 * read the client's first message.  0: ready.  A failure is reported to the
 * client like every other FATAL error, and the process exits.
 */
int32_t
pgl_boot(void)
{
	int			argc;
	char	  **argv;

	process_init();
	read_arguments(&argc, &argv);
	PostgresSingleUserMain(argc, argv, "postgres");
	return 0;
}

/*
 * Processes the messages that the host offers.  The result says what work is
 * due beside them.  The end of the session is the end of the process.
 */
int32_t
pgl_pump(void)
{
	PostgresMainPump();
	return pgl_maintenance_due();
}

/*
 * Runs the bootstrap modes (--boot, --check), as the server program does; ends
 * the process.
 */
int32_t
pgl_main(void)
{
	int			argc;
	char	  **argv;

	process_init();
	read_arguments(&argc, &argv);
	if (argc > 1 && strcmp(argv[1], "--boot") == 0)
		BootstrapModeMain(argc, argv, false);
	if (argc > 1 && strcmp(argv[1], "--check") == 0)
		BootstrapModeMain(argc, argv, true);
	write_stderr("%s: expected --boot or --check as first argument\n", argv[0]);
	return 1;
}

void
pgl_connect(void)
{
	ClientSocket client;

	MemSet(&client, 0, sizeof(client));
	client.sock = 0;
	MyProcPort = pq_init(&client);
	FrontendProtocol = PG_PROTOCOL_LATEST;
	whereToSendOutput = DestRemote;
	MyProcPort->remote_host = "[local]";
	MyProcPort->remote_port = "";
}

/*
 * Waits for the client's start-up packet.  A host that ends the input instead
 * has no client for this session.
 */
void
pgl_await_client(Port *port)
{
	pgl_changes_system_tables = allowSystemTableMods;
	if (!pgl_read_startup_packet(port))
		proc_exit(0);

	/* The session may have waited long, and begins now. */
	MyStartTimestamp = GetCurrentTimestamp();
	MyStartTime = timestamptz_to_time_t(MyStartTimestamp);
	if (Log_connections)
		ereport(LOG,
				(errmsg("connection received: host=%s", port->remote_host)));
	if (!pg_strong_random(&MyCancelKey, sizeof(MyCancelKey)))
		ereport(FATAL,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random cancel key")));
}

/*
 * The host says how clients authenticate; pg_hba.conf is not read.
 */
HbaLine *
pgl_hba_line(void)
{
	static HbaLine line;
	const char *method = getenv(PGL_AUTHENTICATION);

	line.sourcefile = "host";
	line.rawline = "";
	line.conntype = ctLocal;
	if (method != NULL && strcmp(method, hba_authname(uaSCRAM)) == 0)
		line.auth_method = uaSCRAM;
	else
		line.auth_method = uaTrust;
	return &line;
}

void
pgl_default_settings(void)
{
	const char *text = getenv(PGL_DEFAULTS);
	char	   *settings;
	char	   *rest;

	if (text == NULL)
		return;
	settings = pstrdup(text);
	for (char *line = strtok_r(settings, "\n", &rest); line != NULL;
		 line = strtok_r(NULL, "\n", &rest))
	{
		char	   *value = strchr(line, '=');

		if (value == NULL)
			continue;
		*value++ = '\0';
		SetConfigOption(line, value, PGC_POSTMASTER, PGC_S_DYNAMIC_DEFAULT);
	}
	pfree(settings);
}

void
pgl_dispatch_interrupts(void)
{
	if (__atomic_exchange_n(&pgl_interrupt_flags.alarm, 0, __ATOMIC_SEQ_CST))
		pgl_raise(SIGALRM);
	if (__atomic_exchange_n(&pgl_interrupt_flags.cancel, 0, __ATOMIC_SEQ_CST))
		pgl_raise(SIGINT);
	if (__atomic_exchange_n(&pgl_interrupt_flags.die, 0, __ATOMIC_SEQ_CST))
		pgl_raise(SIGTERM);
}

/* What PostgreSQL's main() does before it chooses a mode. */
static void
process_init(void)
{
	MyProcPid = getpid();
	progname = "postgres";
	strlcpy(my_exec_path, GUEST_EXECUTABLE, MAXPGPATH);
	MemoryContextInit();
	(void) set_stack_base();

	/* The only locale there is; PostgreSQL's builtin provider does the rest. */
	setlocale(LC_ALL, "C");
}

static void
read_arguments(int *argc, char ***argv)
{
	__wasi_size_t count;
	__wasi_size_t size;
	char	   *bytes;

	if (__wasi_args_sizes_get(&count, &size) != 0)
		ereport(FATAL, (errmsg("could not read the program arguments")));
	*argv = MemoryContextAllocZero(TopMemoryContext,
								   (count + 1) * sizeof(char *));
	bytes = MemoryContextAlloc(TopMemoryContext, size);
	if (__wasi_args_get((uint8_t **) *argv, (uint8_t *) bytes) != 0)
		ereport(FATAL, (errmsg("could not read the program arguments")));
	*argc = count;
}
