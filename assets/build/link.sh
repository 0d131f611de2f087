#!/bin/sh
# The main module: everything the server is made of, exporting what /pgl/work/exports.txt names and
# the host ABI (whose functions name their exports themselves).
set -eu
. /pgl/assets/build/flags.sh

PG=/pgl/deps/postgresql
sed 's/^/--export=/' /pgl/work/exports.txt >/pgl/work/exports.rsp

wasm-ld -o /pgl/out/postgres.wasm \
	--whole-archive "$PG/postgres.a" --no-whole-archive \
	"$PG/libpgcommon_srv.a" "$PG/libpgport_srv.a" $SERVER_LIBS $WASM_LIBS $WASM_MAIN @/pgl/work/exports.rsp
