#!/bin/sh
# libxslt, without its configure script: transformations, without modules, profiler and debugger.
set -eu
. /pgl/assets/build/flags.sh
. /pgl/assets/build/flags-cxx.sh

unpack libxslt include/libxslt

# What its configure script would write.
VERSION=$(sed -n "s/^PACKAGE_VERSION='\(.*\)'/\1/p" configure)
NUMBER=$(echo "$VERSION" | awk -F. '{ print $1 * 10000 + $2 * 100 + $3 }')
sed -e "s/@VERSION@/$VERSION/; s/@LIBXSLT_VERSION_NUMBER@/$NUMBER/; s/@LIBXSLT_VERSION_EXTRA@//" \
	-e 's/@WITH_[A-Z_]*@/0/; s/@LIBXSLT_DEFAULT_PLUGINS_PATH@//' libxslt/xsltconfig.h.in >libxslt/xsltconfig.h
cat >config.h <<'EOF'
#define HAVE_CLOCK_GETTIME 1
#define HAVE_CTYPE_H 1
#define HAVE_FLOAT_H 1
#define HAVE_GETTIMEOFDAY 1
#define HAVE_MATH_H 1
#define HAVE_STAT 1
#define HAVE_STDLIB_H 1
#define HAVE_SYS_STAT_H 1
#define HAVE_SYS_TIME_H 1
#define HAVE_SYS_TYPES_H 1
#define HAVE_UNISTD_H 1
EOF

find libxslt -name '*.c' | sort |
	compile objects "$WASM_CC $WASM_LIBRARY $WARNINGS -D_GNU_SOURCE -I/pgl/deps/libxml/include/libxml2 -I."
llvm-ar rcs "$OUT/lib/libxslt.a" objects/*.o
cp libxslt/*.h "$OUT/include/libxslt/"
