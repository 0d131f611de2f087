#!/bin/sh
# PostgreSQL's own test suites, from the same tarball as the server but not patched: the driver and
# psql, compiled for the build machine, and what the suites consist of. suites.sh DIRECTORY ...
# names the extensions below contrib; the archives of the others are
# /pgl/sources/extension/NAME.tar. /pgl/out/bin and /pgl/out/lib are the programs; /pgl/out/SUITE
# has a suite's files, with the names of its tests in TESTS where it has no schedule, and the
# settings that its server needs in SETTINGS. For an extension that is not PostgreSQL's, LOAD has
# what is created before its tests, and LAUNCHER the command by which pg_regress calls psql, if it
# is not psql alone.
set -eu

SRC=/pgl/work/postgresql
BUILD=/pgl/work/build
OUT=/pgl/out

mkdir "$SRC" "$BUILD" "$OUT/bin" "$OUT/lib"
tar -xf /pgl/sources/postgresql.tar --strip-components=1 -C "$SRC"
cd "$BUILD"
"$SRC/configure" --prefix=/usr --disable-rpath --without-readline --without-icu --without-zlib CC=gcc CFLAGS=-O2
make -s -j"$JOBS" -C src/backend generated-headers
make -s -j"$JOBS" -C src/interfaces/libpq all
make -s -j"$JOBS" -C src/bin/psql all
make -s -j"$JOBS" -C src/test/regress pg_regress

cp src/bin/psql/psql src/test/regress/pg_regress "$OUT/bin/"
cp -L src/interfaces/libpq/libpq.so.5 "$OUT/lib/"
strip "$OUT"/bin/* "$OUT"/lib/*

# suite NAME DIRECTORY: what pg_regress reads of it.
suite() {
	mkdir -p "$OUT/$1"
	for PART in sql expected data parallel_schedule resultmap; do
		if [ -e "$2/$PART" ]; then cp -r "$2/$PART" "$OUT/$1/"; fi
	done
}
# variable DIRECTORY NAME: the value of a variable of its makefile.
variable() {
	make -s -C "$1" --eval "value: ; @echo \$($2)" value
}
suite regress "$SRC/src/test/regress"
suite plpgsql "$SRC/src/pl/plpgsql/src"
variable src/pl/plpgsql/src REGRESS >"$OUT/plpgsql/TESTS"
for NAME in "$@"; do
	DIR=contrib/$NAME
	# Some are of this project, and not in the tarball.
	if [ ! -d "$SRC/$DIR" ]; then continue; fi
	TESTS=$(variable "$DIR" REGRESS)
	if [ -z "$TESTS" ]; then continue; fi
	suite "$NAME" "$SRC/$DIR"
	echo "$TESTS" >"$OUT/$NAME/TESTS"
	for OPTION in $(variable "$DIR" REGRESS_OPTS); do
		case "$OPTION" in
		*.conf) cp "$SRC/$DIR/$(basename "$OPTION")" "$OUT/$NAME/SETTINGS" ;;
		esac
	done
done

# Makefiles of the others ask pg_config, which is the build tree here.
cp "$SRC/src/makefiles/pgxs.mk" src/makefiles/
cp "$SRC/src/Makefile.shlib" "$SRC/src/nls-global.mk" src/
cat >/pgl/work/pg_config <<EOF
case "\$1" in
--pgxs) echo $BUILD/src/makefiles/pgxs.mk ;;
--version) sed -n 's/^#define PG_VERSION "\(.*\)"/PostgreSQL \1/p' $BUILD/src/include/pg_config.h ;;
*) echo /nonexistent ;;
esac
EOF
# pgxs DIRECTORY ARGUMENT ...: make with such a makefile.
pgxs() {
	TREE=$1
	shift
	make -s -C "$TREE" USE_PGXS=1 PG_CONFIG="sh /pgl/work/pg_config" "$@"
}
pgxs_variable() {
	pgxs "$1" --eval "value: ; @echo \$($2)" value
}
# PostGIS has a driver of its own. postgis_suite NAME DIRECTORY MAKEFILE LOAD: pg_regress runs its
# tests by postgis_test.sh, which does what that driver does.
postgis_suite() {
	# The test legacy is of a script that is not installed.
	TESTS=$(make -s -f "$DIR/$3" --eval 'value: ; @echo $(filter-out legacy,$(notdir $(TESTS:.sql=)))' value \
		HAVE_JSON=yes HAVE_SPGIST=yes INTERRUPTTESTS=yes POSTGIS_GEOS_VERSION=31301)
	mkdir -p "$OUT/$1/sql" "$OUT/$1/expected"
	for TEST in $TESTS; do
		cp "$DIR/$2/$TEST.sql" "$OUT/$1/sql/"
		cp "$DIR/$2/${TEST}_expected" "$OUT/$1/expected/$TEST.out"
	done
	echo "$TESTS" >"$OUT/$1/TESTS"
	echo "$4" >"$OUT/$1/LOAD"
	# Some compare plans, which depend on the statistics of autovacuum.
	echo 'autovacuum = off' >"$OUT/$1/SETTINGS"
	echo "sh /pgl/postgis/postgis_test.sh /pgl/postgis/$2" >"$OUT/$1/LAUNCHER"
}
for ARCHIVE in /pgl/sources/extension/*.tar; do
	# Without a match, the pattern stays.
	[ -e "$ARCHIVE" ] || break
	NAME=$(basename "$ARCHIVE" .tar)
	DIR=/pgl/work/$NAME
	mkdir "$DIR"
	tar -xf "$ARCHIVE" --strip-components=1 -C "$DIR"
	if [ "$NAME" = postgis ]; then
		for WHAT in load_topology load_large_topology; do
			FILE=$DIR/topology/test/$WHAT
			sed 's/@SRID@/-1/g' "$FILE.sql.in" >"$FILE.sql"
			sed 's/@SRID@/4326/g' "$FILE.sql.in" >"$FILE-4326.sql"
		done
		sed '/^#/d; s/@COLUMN@/feature/g; s/@SCHEMA@/topology./g' "$DIR/topology/test/predicates.sql.in" \
			>"$DIR/topology/test/topo_predicates.sql"
		postgis_suite postgis regress/core regress/core/tests.mk.in postgis
		postgis_suite postgis_topology topology/test/regress topology/test/tests.mk 'postgis postgis_topology'
		cp -r "$DIR/regress" "$DIR/topology" "$OUT/postgis/"
		cp /pgl/assets/build/postgis_test.sh "$OUT/postgis/"
		continue
	fi
	TESTS=$(pgxs_variable "$DIR" REGRESS)
	# Those with a schedule of their own make it with programs of theirs.
	case "$TESTS" in
	"" | *--*) continue ;;
	esac
	INPUT=$DIR
	LOAD=
	for OPTION in $(pgxs_variable "$DIR" REGRESS_OPTS); do
		case "$OPTION" in
		--inputdir=*) INPUT=$DIR/${OPTION#--inputdir=} ;;
		--load-extension=*) LOAD="$LOAD ${OPTION#--load-extension=}" ;;
		esac
	done
	# Tests read files of the source tree, which is their working directory, and write results.
	BUILT=$(pgxs_variable "$DIR" DATA_built)
	if [ -n "$BUILT" ]; then pgxs "$DIR" $BUILT; fi
	cp -r "$DIR" "$OUT/$NAME"
	mkdir "$OUT/$NAME/results"
	suite "$NAME" "$INPUT"
	echo "$TESTS" >"$OUT/$NAME/TESTS"
	echo "$LOAD" >"$OUT/$NAME/LOAD"
done
