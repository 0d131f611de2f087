#!/bin/sh
# PostgreSQL's server, from the locked tarball: postgresql.sh DIRECTORY ..., the directories of side
# modules that are part of it. Patched, configured out of tree, compiled, installed below
# /pgl/out/install. The server is left as an archive of objects (/pgl/out/postgres.a): link.sh makes
# the main module once all side modules are known. So are the client programs, below
# /pgl/out/programs; the server's side modules are in /pgl/out/modules, the sources of the tree's
# extensions in /pgl/out/contrib.
set -eu
. /pgl/assets/build/flags.sh

SRC=/pgl/work/postgresql
BUILD=/pgl/work/build
NATIVE=/pgl/work/native
OUT=/pgl/out

mkdir "$SRC" "$BUILD" "$NATIVE"
tar -xf /pgl/sources/postgresql.tar --strip-components=1 -C "$SRC"
cd "$SRC"
sh /pgl/assets/patches/postgresql/postmaster-uses.sh /pgl/work
apply_patches postgresql
cp -r /pgl/assets/guest/overlay/. .

# Of ICU, the server needs the headers: it is a side module.
ICU=/pgl/work/icu
mkdir "$ICU"
tar -xf /pgl/sources/icu.tar -C "$ICU" --strip-components=3 --wildcards '*/source/common/unicode/*.h' '*/source/i18n/unicode/*.h'

# The time zone compiler runs on the build machine. Both configure scripts use one core each, so
# they run side by side.
native() {
	cd "$NATIVE"
	"$SRC/configure" --prefix=/usr --without-readline --without-icu --without-zlib CC=gcc CFLAGS=-O1
	make -s -C src/timezone zic
}
native >/pgl/work/native.log 2>&1 &
NATIVE_PID=$!

cd "$BUILD"
ZIC="$NATIVE/src/timezone/zic" "$SRC/configure" --build=x86_64-linux-gnu --host=wasm32-wasi --with-template=wasix \
	--prefix=/usr --disable-rpath --disable-largefile --without-readline --with-icu --with-libxml --with-lz4 --with-zstd \
	ICU_CFLAGS="-I$ICU" ICU_LIBS=" " \
	XML2_CFLAGS=-I/pgl/deps/libxml/include/libxml2 XML2_LIBS="-L/pgl/deps/libxml/lib -lxml2" \
	LZ4_CFLAGS=-I/pgl/deps/lz4/include LZ4_LIBS="-L/pgl/deps/lz4/lib -llz4" \
	ZSTD_CFLAGS=-I/pgl/deps/zstd/include ZSTD_LIBS="-L/pgl/deps/zstd/lib -lzstd" \
	CPPFLAGS="-I/pgl/deps/zlib/include -I/pgl/deps/lz4/include -I/pgl/deps/zstd/include" \
	CC="$WASM_CC" CFLAGS="-O2" AR=llvm-ar RANLIB=llvm-ranlib STRIP=llvm-strip \
	LDFLAGS="-nostdlib -Wl,--shared-memory -L/pgl/deps/zlib/lib" LIBS="$WASM_LIBDIR/crt1.o $WASM_LIBS"
if ! wait "$NATIVE_PID"; then
	cat /pgl/work/native.log >&2
	exit 1
fi
make -s -j"$JOBS" -C src/backend generated-headers

# Files have the layout of those of a 64-bit server.
perl /pgl/assets/build/layouts.pl /pgl/assets/guest/layouts.txt "$SRC" "$BUILD" "$NATIVE" /pgl/work/layouts "$JOBS"

# The check of Datums finds what it is for.
for CAST in '(char *) d' 'VARDATA(d)'; do
	printf '#include "postgres.h"\nextern char *f(Datum d);\nchar *f(Datum d) { return %s; }\n' "$CAST" >/pgl/work/cast.c
	if $CHECKED_CC -c -I src/include -I "$SRC/src/include" -o /pgl/work/cast.o /pgl/work/cast.c 2>/dev/null; then
		echo "cc.sh does not find the conversion in /pgl/work/cast.c" >&2
		exit 1
	fi
done

make -s -j"$JOBS" -C src/backend submake-libpgport
make -s -j"$JOBS" -C src/backend postgres CC="$CHECKED_CC"

# The server's own side modules, by directory.
for DIR in "$@"; do
	make -s -j"$JOBS" -C "$DIR" all CC="$CHECKED_CC"
	make -s -C "$DIR" install DESTDIR="$OUT/install"
done
mkdir "$OUT/modules"
mv "$OUT"/install/usr/lib/postgresql/*.so "$OUT/modules/"

# Modules that only tests load. They are installed apart and not shipped.
mkdir "$OUT/test"
make -s -j"$JOBS" -C src/test/regress regress.so
make -s -C src/test/modules/pgl_barriers pgl_barriers.so
cp src/test/regress/regress.so src/test/modules/pgl_barriers/pgl_barriers.so "$OUT/test/"

make -s -C src/backend/catalog install-data DESTDIR="$OUT/install"
make -s -C src/backend/tsearch install-data DESTDIR="$OUT/install"
make -s -C src/timezone install DESTDIR="$OUT/install"
for FILE in libpq/pg_hba.conf.sample libpq/pg_ident.conf.sample utils/misc/postgresql.conf.sample; do
	cp "$SRC/src/backend/$FILE" "$OUT/install/usr/share/postgresql/"
done

# What extensions outside the tree build against (PGXS).
for DIR in src/include config src/makefiles; do
	make -s -C "$DIR" install DESTDIR="$OUT/install"
done
make -s -C src install-local DESTDIR="$OUT/install"

# Extensions of PostgreSQL's tree are built against that as well, each by itself.
cp -r "$SRC/contrib" "$OUT/contrib"

# The client programs' objects; programs.sh links them.
programs() {
	make -s -j"$JOBS" -C "src/bin/$1" --eval='.SECONDEXPANSION:' --eval="$1.a: $2 \$\$(OBJS); rm -f \$@; \$(AR) \$(AROPT) \$@ \$^" "$1.a"
	cp "src/bin/$1/$1.a" "$OUT/programs/"
}
mkdir "$OUT/programs"
make -s -j"$JOBS" -C src/port libpgport.a
make -s -j"$JOBS" -C src/common libpgcommon.a
make -s -j"$JOBS" -C src/fe_utils libpgfeutils.a
# Not for a shared library here: position-independent code would be slower.
make -s -j"$JOBS" -C src/common libpgcommon_shlib.a CFLAGS_SL=
make -s -j"$JOBS" -C src/interfaces/libpq libpq.a CFLAGS_SL=
programs pg_dump "pg_dump.o common.o pg_dump_sort.o"
programs psql ""
cp src/port/libpgport.a src/common/libpgcommon.a src/common/libpgcommon_shlib.a src/fe_utils/libpgfeutils.a src/interfaces/libpq/libpq.a "$OUT/programs/"

cp src/backend/postgres "$OUT/postgres.a"
cp src/common/libpgcommon_srv.a src/port/libpgport_srv.a "$OUT/"
