#!/bin/sh
# An extension, by PGXS: pgxs.sh NAME [MAKE-VARIABLE=VALUE ...], from the archive
# /pgl/sources/NAME.tar or the directory /pgl/sources/NAME, patched with what assets/patches/NAME
# has, unless FOREIGN is set. What its install makes in an empty directory goes to /pgl/out/install,
# below the paths of the server.
set -eu
. /pgl/assets/build/flags.sh
. /pgl/assets/build/install.sh

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
if [ -n "${FOREIGN:-}" ]; then
	# No part of the project: its name says nothing, and it may have objects for another machine.
	find . \( -name '*.o' -o -name '*.so' -o -name '*.bc' \) -delete
else
	apply_patches "$NAME"
fi
# A module imports the C library from the main module, so it is linked with no library of the
# system. What it defines itself, it uses itself: another module may have a function of the same
# name.
make -s -j"$JOBS" all CC="$CHECKED_CC" LIBS= LDFLAGS_SL=-Wl,-Bsymbolic USE_PGXS=1 PG_CONFIG="sh /pgl/assets/build/pg_config.sh" "$@"
make -s install LIBS= LDFLAGS_SL=-Wl,-Bsymbolic USE_PGXS=1 PG_CONFIG="sh /pgl/assets/build/pg_config.sh" DESTDIR=/pgl/work/install "$@"
finish_install "$NAME"
