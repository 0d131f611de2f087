#!/bin/sh
# The client programs: each linked like the main module (see link.sh), from PostgreSQL's objects and ours, which take the place of what the C library has under the same
# names.
set -eu
. /pgl/assets/build/flags.sh

PG=/pgl/deps/postgresql/programs
GUEST=/pgl/assets/guest
OWN=/pgl/work/own
mkdir "$OWN"
for FILE in "$GUEST"/programs/*.c "$GUEST/overlay/src/backend/port/pgl_setjmp.c"; do
	$WASM_CC -O2 -D_GNU_SOURCE -Wall -Wextra -Wno-unused-parameter -Werror -I"$GUEST/overlay/src/include" -c "$FILE" -o "$OWN/$(basename "$FILE" .c).o"
done
echo __c_longjmp >/pgl/work/undefined.txt

for PROGRAM in pg_dump psql; do
	wasm-ld -o "/pgl/out/$PROGRAM.wasm" \
		"$OWN"/*.o --whole-archive "$PG/$PROGRAM.a" --no-whole-archive "$PG/libpgfeutils.a" "$PG/libpq.a" "$PG/libpgcommon_shlib.a" "$PG/libpgcommon.a" "$PG/libpgport.a" $WASM_LIBS \
		--wrap=fcntl --gc-sections \
		--no-entry --allow-undefined-file=/pgl/work/undefined.txt --strip-debug \
		--import-memory --shared-memory --max-memory=4294967296 --import-table --growable-table \
		--no-stack-first --global-base=1024 -z stack-size=8389632 \
		--export=__wasm_call_ctors --export=__global_base --export=__stack_low --export=__stack_high --export=__heap_base \
		--export-if-defined=__tls_size --export-if-defined=__tls_align --export-if-defined=__tls_base \
		--export-if-defined=__wasm_init_tls --export-if-defined=__wasm_signal
done
