#!/bin/sh
# PROJ, without its CMake scripts: no network, and no grids in TIFF files. /pgl/out/share/proj.db is
# its database, made of the SQL in its source.
set -eu
. /pgl/assets/build/flags.sh
. /pgl/assets/build/flags-cxx.sh
. /pgl/assets/build/precompile.sh

SQLITE=/pgl/deps/sqlite3
# Where the guest finds proj.db, and grids in other formats, if there are any.
DATA=/usr/share/postgresql/proj
unpack proj share

# The library's files are those that its CMake script lists.
printf '#define HAVE_LOCALECONV 1\n#define HAVE_STRERROR 1\n' >src/proj_config.h
cd src
sed -n '/^set(SRC_LIBPROJ_/,/^)/s/^  \([^ $]*\.c\)$/\1/p' lib_proj.cmake >../c.txt
sed -n '/^set(SRC_LIBPROJ_/,/^)/s/^  \([^ $]*\.cpp\)$/\1/p' lib_proj.cmake >../cpp.txt
# PROJ makes its functions visible, and wasm-ld imports what is visible and weak.
DEFINES="-D_GNU_SOURCE -DNDEBUG -DMUTEX_stub -DPROJ_DLL= -DPROJ_DATA=\"$DATA\" -I. -I../include -I$SQLITE/include"
CXX="$WASM_CXX $WASM_LIBRARY $DEFINES -std=c++11 $WARNINGS"
# shellcheck disable=SC2086 # the compiler has arguments of its own
precompile $CXX
compile /pgl/work/objects "$CXX $PRECOMPILED" <../cpp.txt
compile /pgl/work/objects "$WASM_CC $WASM_LIBRARY $DEFINES $WARNINGS" <../c.txt
llvm-ar rcs "$OUT/lib/libproj.a" /pgl/work/objects/*.o
cp proj.h proj_experimental.h proj_constants.h proj_symbol_rename.h geodesic.h "$OUT/include/"

# The database.
VERSION=$(sed -n 's/^#define PROJ_VERSION_\(MAJOR\|MINOR\|PATCH\) *//p' proj.h | paste -sd.)
cd ../data
sed -n 's|^  "${SQL_DIR}/\(.*\)"|sql/\1|p' sql_filelist.cmake | xargs cat | sed "s/\${PROJ_VERSION}/$VERSION/" >all.sql
"$SQLITE/native/sqlite3" -bail "$OUT/share/proj.db" <all.sql
"$SQLITE/native/sqlite3" "$OUT/share/proj.db" 'PRAGMA integrity_check'
