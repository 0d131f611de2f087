#!/bin/sh
# zlib, for the main module and the client programs: compression in memory. Its configure script
# runs programs that it has compiled, so its files are compiled here.
set -eu
. /pgl/assets/build/flags.sh

SRC=/pgl/work/zlib
OUT=/pgl/out
mkdir -p "$SRC" "$OUT/lib" "$OUT/include"
tar -xf /pgl/sources/zlib.tar --strip-components=1 -C "$SRC"
cd "$SRC"

for NAME in adler32 compress crc32 deflate gzclose gzlib gzread gzwrite infback inffast inflate inftrees trees \
	uncompr zutil; do
	$WASM_CC -O2 -DHAVE_UNISTD_H -DHAVE_STDARG_H -D_LARGEFILE64_SOURCE=0 -c "$NAME.c" -o "$NAME.o"
done
llvm-ar rcs "$OUT/lib/libz.a" ./*.o
cp zlib.h zconf.h "$OUT/include/"
