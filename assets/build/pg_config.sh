#!/bin/sh
# pg_config for PGXS builds against the tree that postgresql.sh installed: the real one would be a
# wasm program.
PREFIX=/pgl/deps/postgresql/install/usr
case "$1" in
--bindir) echo "$PREFIX/bin" ;;
--sharedir) echo "$PREFIX/share/postgresql" ;;
--sysconfdir) echo "$PREFIX/etc/postgresql" ;;
--libdir) echo "$PREFIX/lib" ;;
--pkglibdir) echo "$PREFIX/lib/postgresql" ;;
--includedir) echo "$PREFIX/include" ;;
--pkgincludedir) echo "$PREFIX/include/postgresql" ;;
--includedir-server) echo "$PREFIX/include/postgresql/server" ;;
--mandir) echo "$PREFIX/share/man" ;;
--docdir) echo "$PREFIX/share/doc/postgresql" ;;
--localedir) echo "$PREFIX/share/locale" ;;
--pgxs) echo "$PREFIX/lib/postgresql/pgxs/src/makefiles/pgxs.mk" ;;
--version) sed -n 's/^#define PG_VERSION "\(.*\)"/PostgreSQL \1/p' "$PREFIX/include/postgresql/server/pg_config.h" ;;
*)
	echo "pg_config.sh: $1 is not answered here" >&2
	exit 1
	;;
esac
