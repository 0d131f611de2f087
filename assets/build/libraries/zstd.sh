#!/bin/sh
# Zstandard, for the main module and the client programs: compression and decompression, in the
# calling thread, without the formats of its first versions.
set -eu
. /pgl/assets/build/flags.sh

SRC=/pgl/work/zstd
OUT=/pgl/out
mkdir -p "$SRC" "$OUT/lib" "$OUT/include"
tar -xf /pgl/sources/zstd.tar --strip-components=1 -C "$SRC"
cd "$SRC/lib"

for FILE in common/*.c compress/*.c decompress/*.c; do
	echo "$FILE"
done | xargs -P "$JOBS" -I FILE sh -c '$PGL_CC -O3 -DDEBUGLEVEL=0 -DZSTD_LEGACY_SUPPORT=0 -c FILE -o "$(basename FILE .c).o"'
llvm-ar rcs "$OUT/lib/libzstd.a" ./*.o
cp zstd.h zstd_errors.h "$OUT/include/"
