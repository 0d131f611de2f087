#!/bin/sh
# An extension, by PGXS: pgxs.sh NAME [MAKE-VARIABLE=VALUE ...], from the archive
# /pgl/sources/NAME.tar or the directory /pgl/sources/NAME, patched with what assets/patches/NAME
# has. What its install makes in an empty directory goes to /pgl/out/install, below the paths of the
# server.
set -eu
. /pgl/assets/build/flags.sh

NAME=$1
shift
SRC=/pgl/work/$NAME
mkdir "$SRC"
if [ -d "/pgl/sources/$NAME" ]; then
	cp -r "/pgl/sources/$NAME/." "$SRC"
else
	tar -xf "/pgl/sources/$NAME.tar" --strip-components=1 -C "$SRC"
fi
cd "$SRC"
apply_patches "$NAME"
make -s -j"$JOBS" all CC="$CHECKED_CC" USE_PGXS=1 PG_CONFIG="sh /pgl/assets/build/pg_config.sh" "$@"
make -s install USE_PGXS=1 PG_CONFIG="sh /pgl/assets/build/pg_config.sh" DESTDIR=/pgl/work/install "$@"
# PGXS installs below the prefix it was given; users find everything below /usr.
mkdir -p /pgl/out
mv /pgl/work/install/pgl/deps/postgresql/install /pgl/out/install
LEFT=$(find /pgl/work/install ! -type d)
if [ -n "$LEFT" ]; then
	echo "pgxs.sh: $NAME installs outside of the server's directories: $LEFT" >&2
	exit 1
fi
