#!/bin/sh
# LZ4, for the main module and the client programs: blocks and frames.
set -eu
. /pgl/assets/build/flags.sh

SRC=/pgl/work/lz4
OUT=/pgl/out
mkdir -p "$SRC" "$OUT/lib" "$OUT/include"
tar -xf /pgl/sources/lz4.tar --strip-components=1 -C "$SRC"
cd "$SRC/lib"

for NAME in lz4 lz4frame lz4hc xxhash; do
	$WASM_CC -O3 -DXXH_NAMESPACE=LZ4_ -c "$NAME.c" -o "$NAME.o"
done
llvm-ar rcs "$OUT/lib/liblz4.a" ./*.o
cp lz4.h lz4frame.h lz4hc.h "$OUT/include/"
