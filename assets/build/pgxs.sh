#!/bin/sh
# An extension outside PostgreSQL's tree, by PGXS: pgxs.sh NAME [MAKE-VARIABLE=VALUE ...]. It is patched
# with what assets/patches/NAME has. Its files go to /pgl/out/install below the paths of the server.
set -eu
. /pgl/assets/build/flags.sh

NAME=$1
shift
SRC=/pgl/work/$NAME
mkdir "$SRC"
tar -xf "/pgl/sources/$NAME.tar" --strip-components=1 -C "$SRC"
cd "$SRC"
apply_patches "$NAME"
make -s -j"$JOBS" all USE_PGXS=1 PG_CONFIG="sh /pgl/assets/build/pg_config.sh" "$@"
make -s install USE_PGXS=1 PG_CONFIG="sh /pgl/assets/build/pg_config.sh" DESTDIR=/pgl/work/install "$@"
# PGXS installs below the prefix it was given; users find everything below /usr.
mkdir -p /pgl/out
mv /pgl/work/install/pgl/deps/postgresql/install /pgl/out/install
rm -rf /pgl/out/install/usr/include
