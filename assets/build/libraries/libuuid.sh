#!/bin/sh
# libuuid, from util-linux: the files that make UUIDs, and what they need, without its configure
# script, which is for all of util-linux.
set -eu
. /pgl/assets/build/flags.sh

SRC=/pgl/work/util-linux
OUT=/pgl/out
mkdir -p "$SRC" "$OUT/lib" "$OUT/include/uuid"
tar -xf /pgl/sources/libuuid.tar --strip-components=1 -C "$SRC"
cd "$SRC"

# What its configure script would find. The file for the clock's sequence does not exist in a guest,
# so there is nothing to lock.
DEFINES="-D_GNU_SOURCE -DHAVE_GETRANDOM -DHAVE_NANOSLEEP -DHAVE_UNISTD_H -DHAVE_STDLIB_H -DHAVE_SYS_TIME_H \
	-DHAVE_ERR_H -DHAVE_ERRNO_H -DHAVE_PROGRAM_INVOCATION_SHORT_NAME -DHAVE_REALLOCARRAY \
	-DHAVE_TLS -DHAVE_LOFF_T -D_PATH_LOCALSTATEDIR=\"/nonexistent\" \
	-DLOCK_EX=0 -DLOCK_UN=0 -Dflock(file,operation)=0"
for NAME in libuuid/src/clear libuuid/src/compare libuuid/src/copy libuuid/src/gen_uuid libuuid/src/isnull \
	libuuid/src/pack libuuid/src/parse libuuid/src/predefined libuuid/src/unpack libuuid/src/unparse \
	libuuid/src/uuid_time lib/md5 lib/sha1 lib/randutils; do
	$WASM_CC -O2 -fPIC $DEFINES -I include -I libuuid/src -c "$NAME.c" -o "$(basename "$NAME").o"
done
llvm-ar rcs "$OUT/lib/libuuid.a" ./*.o
cp libuuid/src/uuid.h "$OUT/include/uuid/"
