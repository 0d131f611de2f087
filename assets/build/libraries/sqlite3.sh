#!/bin/sh
# SQLite, for PROJ alone, which reads its database with it: without threads, write-ahead logs,
# mapped files and loadable extensions. /pgl/out/native/sqlite3 is its shell for the build machine,
# which makes that database.
set -eu
. /pgl/assets/build/flags.sh
. /pgl/assets/build/flags-cxx.sh

unpack sqlite3 native

# One C file is made of many, by a script in Tcl; its interpreter is part of the source.
CC=gcc ./configure --disable-tcl --disable-readline --disable-load-extension --disable-threadsafe
make -s sqlite3.c shell.c
gcc -O1 -DSQLITE_THREADSAFE=0 -DSQLITE_OMIT_LOAD_EXTENSION -I. -o "$OUT/native/sqlite3" shell.c sqlite3.c -lm

# Temporary data stays in memory.
OPTIONS="-DSQLITE_THREADSAFE=0 -DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_OMIT_WAL -DSQLITE_MAX_MMAP_SIZE=0 \
	-DSQLITE_OMIT_SHARED_CACHE -DSQLITE_OMIT_DEPRECATED -DSQLITE_OMIT_AUTHORIZATION \
	-DSQLITE_OMIT_PROGRESS_CALLBACK -DSQLITE_DEFAULT_MEMSTATUS=0 -DSQLITE_TEMP_STORE=3 -DSQLITE_DQS=0 \
	-DSQLITE_USE_ALLOCA -DUSE_PREAD=1 -DSQLITE_LIKE_DOESNT_MATCH_BLOBS -DSQLITE_ENABLE_LOCKING_STYLE=0"
echo sqlite3.c | compile objects "$WASM_CC $WASM_LIBRARY $WARNINGS -D_GNU_SOURCE $OPTIONS"
llvm-ar rcs "$OUT/lib/libsqlite3.a" objects/*.o
cp sqlite3.h "$OUT/include/"
