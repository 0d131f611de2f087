#!/bin/sh
# The main module: everything the server is made of, at a fixed base, exporting what /pgl/work/exports.txt names and the host ABI (whose functions name their exports
# themselves).
set -eu
. /pgl/assets/build/flags.sh

PG=/pgl/deps/postgresql
# The exception tag of longjmp comes from the loader; nothing else may stay undefined.
echo __c_longjmp >/pgl/work/undefined.txt
sed 's/^/--export=/' /pgl/work/exports.txt >/pgl/work/exports.rsp

# The stack is 1 KiB larger than the loader's 8 MiB, which it rounds up to: see the post-link step.
wasm-ld -o /pgl/out/postgres.wasm \
	--whole-archive "$PG/postgres.a" --no-whole-archive "$PG/libpgcommon_srv.a" "$PG/libpgport_srv.a" $WASM_LIBS \
	--no-entry --allow-undefined-file=/pgl/work/undefined.txt --strip-debug \
	--import-memory --shared-memory --max-memory=4294967296 --import-table --growable-table \
	--no-stack-first --global-base=1024 -z stack-size=8389632 \
	--export=__wasm_call_ctors --export=__global_base --export=__stack_low --export=__stack_high --export=__heap_base \
	--export-if-defined=__tls_size --export-if-defined=__tls_align --export-if-defined=__tls_base \
	--export-if-defined=__wasm_init_tls --export-if-defined=__wasm_signal \
	@/pgl/work/exports.rsp
