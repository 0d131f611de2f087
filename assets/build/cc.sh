#!/bin/sh
# The compiler of the server and of its modules: cc.sh ARGUMENT ... compiles with $PGL_CC, and
# before that checks that no conversion between a pointer and a Datum bypasses PostgreSQL's
# functions for it. A Datum has eight bytes and a pointer four, and a cast between them is no
# warning of clang's; with PGL_CHECK_DATUM a Datum is a floating point number, and such a cast is an
# error. So is a cast of a function pointer to another function type: WebAssembly checks the type of
# each call through a pointer, and ends the session if it is another one.
set -eu

# Errors of that compilation that are none of the real one: arithmetic on the bits of a Datum, and
# the two functions that are declared where the type Datum is not known.
ALLOWED="invalid operands to binary expression \(.*'Datum'|invalid argument type 'Datum'|conflicting types for '(outDatum|readDatum)'"

for ARGUMENT in "$@"; do
	if [ "$ARGUMENT" = -c ]; then
		# shellcheck disable=SC2086 # the compiler has arguments of its own
		ERRORS=$($PGL_CC "$@" -fsyntax-only -MF /dev/null -DPGL_CHECK_DATUM -w -ferror-limit=0 2>&1 | grep 'error: ' | grep -v -E "$ALLOWED" || true)
		if [ -n "$ERRORS" ]; then
			echo "$ERRORS" >&2
			echo "cc.sh: convert with DatumGetPointer and PointerGetDatum, or a function made of them" >&2
			exit 1
		fi
		break
	fi
done
# shellcheck disable=SC2086
exec $PGL_CC "$@" -Werror=cast-function-type-mismatch
