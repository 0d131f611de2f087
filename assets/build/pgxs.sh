#!/bin/sh
# An extension outside PostgreSQL's tree, by PGXS: pgxs.sh NAME [MAKE-VARIABLE=VALUE ...]. Its files go to /pgl/out/install below the paths of the server.
set -eu
. /pgl/assets/build/flags.sh

NAME=$1
shift
SRC=/pgl/work/$NAME
mkdir "$SRC"
tar -xf "/pgl/sources/$NAME.tar" --strip-components=1 -C "$SRC"
cd "$SRC"
for PATCH in "/pgl/assets/patches/$NAME"/*.patch; do
	[ -e "$PATCH" ] || continue
	echo "applying $(basename "$PATCH")"
	if ! patch -p1 --fuzz=0 --no-backup-if-mismatch --batch <"$PATCH"; then
		echo "PATCH-FAILED: $(basename "$PATCH") does not apply to $NAME: the file and the hunk are named above" >&2
		exit 1
	fi
done
make -s -j"$JOBS" all USE_PGXS=1 PG_CONFIG="sh /pgl/assets/build/pg_config.sh" "$@"
make -s install USE_PGXS=1 PG_CONFIG="sh /pgl/assets/build/pg_config.sh" DESTDIR=/pgl/work/install "$@"
# PGXS installs below the prefix it was given; users find everything below /usr.
mkdir -p /pgl/out
mv /pgl/work/install/pgl/deps/postgresql/install /pgl/out/install
rm -rf /pgl/out/install/usr/include
