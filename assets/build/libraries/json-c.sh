#!/bin/sh
# json-c, without its CMake scripts: the parser and the objects, without its pointers and patches.
# It does not switch locales: the guest's numbers are those of C.
set -eu
. /pgl/assets/build/flags.sh
. /pgl/assets/build/flags-cxx.sh

unpack json-c include/json-c

# What CMake would find.
cat >config.h <<'EOF'
#define HAVE_ATOMIC_BUILTINS 1
#define HAVE_DECL_INFINITY 1
#define HAVE_DECL_ISINF 1
#define HAVE_DECL_ISNAN 1
#define HAVE_DECL_NAN 1
#define HAVE_FCNTL_H 1
#define HAVE_GETRANDOM 1
#define HAVE_INTTYPES_H 1
#define HAVE_LIMITS_H 1
#define HAVE_LOCALE_H 1
#define HAVE_OPEN 1
#define HAVE_REALLOC 1
#define HAVE_SNPRINTF 1
#define HAVE_STDARG_H 1
#define HAVE_STDINT_H 1
#define HAVE_STDLIB_H 1
#define HAVE_STRCASECMP 1
#define HAVE_STRDUP 1
#define HAVE_STRERROR 1
#define HAVE_STRINGS_H 1
#define HAVE_STRING_H 1
#define HAVE_STRNCASECMP 1
#define HAVE_STRTOLL 1
#define HAVE_STRTOULL 1
#define HAVE_SYS_RANDOM_H 1
#define HAVE_SYS_STAT_H 1
#define HAVE_SYS_TYPES_H 1
#define HAVE_UNISTD_H 1
#define HAVE_VASPRINTF 1
#define HAVE_VSNPRINTF 1
#define JSON_C_HAVE_INTTYPES_H 1
#define SIZEOF_INT 4
#define SIZEOF_INT64_T 8
#define SIZEOF_LONG 4
#define SIZEOF_LONG_LONG 8
#define SIZEOF_SIZE_T 4
#define SIZEOF_SSIZE_T 4
#define STDC_HEADERS 1
EOF
echo '#define JSON_C_HAVE_INTTYPES_H 1' >json_config.h
sed '/@JSON_H_JSON_/d' json.h.cmakein >json.h

for NAME in arraylist debug json_c_version json_object json_object_iterator json_tokener json_util json_visit \
	linkhash printbuf random_seed strerror_override; do
	echo "$NAME.c"
done | compile objects "$WASM_CC $WASM_LIBRARY $WARNINGS -D_GNU_SOURCE -DHAVE_CONFIG_H -DNDEBUG -I."
llvm-ar rcs "$OUT/lib/libjson-c.a" objects/*.o
cp ./*.h "$OUT/include/json-c/"
rm "$OUT"/include/json-c/*_private.h "$OUT"/include/json-c/*_compat.h "$OUT/include/json-c/config.h"
