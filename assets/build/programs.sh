#!/bin/sh
# The client programs: each linked like the main module (see flags.sh), from PostgreSQL's objects
# and ours, which take the place of what the C library has under the same names.
set -eu
. /pgl/assets/build/flags.sh

PG=/pgl/deps/postgresql/programs
GUEST=/pgl/assets/guest
PORT=$GUEST/overlay/src/backend/port
OWN=/pgl/work/own
mkdir "$OWN"
for FILE in "$GUEST"/programs/*.c \
	"$PORT"/pgl_decimal.c "$PORT"/pgl_dtoa.c "$PORT"/pgl_locale.c "$PORT"/pgl_process.c "$PORT"/pgl_setjmp.c \
	"$PORT"/pgl_strtod.c; do
	$WASM_CC -O2 -D_GNU_SOURCE -Wall -Wextra -Wno-unused-parameter -Werror \
		-I"$GUEST/overlay/src/include" -c "$FILE" -o "$OWN/$(basename "$FILE" .c).o"
done

for PROGRAM in pg_dump psql; do
	wasm-ld -o "/pgl/out/$PROGRAM.wasm" \
		"$OWN"/*.o --whole-archive "$PG/$PROGRAM.a" --no-whole-archive \
		"$PG/libpgfeutils.a" "$PG/libpq.a" "$PG/libpgcommon_shlib.a" "$PG/libpgcommon.a" "$PG/libpgport.a" \
		$SERVER_LIBS $WASM_LIBS --wrap=fcntl --gc-sections $WASM_MAIN
done
