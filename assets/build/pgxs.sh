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
# A module imports the C library from the main module, so it is linked with no library of the
# system. What it defines itself, it uses itself: another module may have a function of the same
# name.
make -s -j"$JOBS" all CC="$CHECKED_CC" LIBS= LDFLAGS_SL=-Wl,-Bsymbolic USE_PGXS=1 PG_CONFIG="sh /pgl/assets/build/pg_config.sh" "$@"
make -s install LIBS= LDFLAGS_SL=-Wl,-Bsymbolic USE_PGXS=1 PG_CONFIG="sh /pgl/assets/build/pg_config.sh" DESTDIR=/pgl/work/install "$@"
# PGXS installs below the prefix it was given; users find everything below /usr.
mkdir -p /pgl/out
mv /pgl/work/install/pgl/deps/postgresql/install /pgl/out/install
# Scripts that name files beside them got the paths of this build.
grep -rlsZ /pgl/deps/postgresql/install /pgl/out/install/usr/share | xargs -0 -r sed -i 's|/pgl/deps/postgresql/install||g'
LEFT=$(find /pgl/work/install ! -type d)
if [ -n "$LEFT" ]; then
	echo "pgxs.sh: $NAME installs outside of the server's directories: $LEFT" >&2
	exit 1
fi
if grep -rls /pgl/ /pgl/out/install/usr/share; then
	echo "pgxs.sh: $NAME installs files that name directories of its build" >&2
	exit 1
fi
