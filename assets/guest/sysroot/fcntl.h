/*
 * Flags that the library hands on and the host does not act upon.  Without
 * them PostgreSQL offers only the values of wal_sync_method that make WAL
 * durable: fsync and fdatasync, which are calls of the host's.
 */
#include_next <fcntl.h>

#undef O_DSYNC
#undef O_RSYNC
#undef O_SYNC
