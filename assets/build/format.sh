#!/bin/sh
# Compares C code with what PostgreSQL's pgindent makes of it: the files of assets/guest, and those
# that the patches change. /pgl/out/guest.diff, postgresql.diff and pgvector.diff are the
# differences, empty if there are none. Everything else is written below /tmp, which ends with the
# job.
set -eu
. /pgl/assets/build/flags.sh

mkdir /tmp/format
cd /tmp/format

# unpack ARCHIVE PATTERN ...: from the archive, what the patterns and the patches name, to
# ARCHIVE/released; the same with the patches applied to ARCHIVE/written.
unpack() {
	mkdir -p "$1/released"
	sed -n 's,^--- a/,*/,p' /pgl/assets/patches/"$1"/*.patch | sort -u >"$1/members"
	ARCHIVE=$1
	shift
	for PATTERN in "$@"; do echo "$PATTERN" >>"$ARCHIVE/members"; done
	tar -xf "/pgl/sources/$ARCHIVE.tar" -C "$ARCHIVE/released" --strip-components=1 \
		--wildcards -T "$ARCHIVE/members"
	cp -r "$ARCHIVE/released" "$ARCHIVE/written"
	(cd "$ARCHIVE/written" && apply_patches "$ARCHIVE")
}

# pgindent PATH ...: formats these files, and those in these directories.
pgindent() {
	# After a file that it cannot format it goes on, and its exit status is 0.
	if ! perl tools/pgindent/pgindent --indent=/tmp/format/pg_bsd_indent --typedefs=typedefs.list \
		--excludes=tools/pgindent/exclude_file_patterns "$@" 2>errors || [ -s errors ]; then
		cat errors >&2
		exit 1
	fi
}

# compare TREE: writes the differences between TREE/written and its format.
compare() {
	cp -r "$1/written" "$1/formatted"
	pgindent "$1/formatted"
	: >"/pgl/out/$1.diff"
	(cd "$1/written" && find . -name '*.[ch]' | sort) >"$1/files"
	while read -r FILE; do
		FILE=${FILE#./}
		cmp -s "$1/written/$FILE" "$1/formatted/$FILE" && continue
		# What is to be formatted in the released file stays as it is.
		if [ -e "$1/released/$FILE" ]; then
			cp "$1/released/$FILE" released.c
			pgindent released.c
			diff3 --merge --easy-only "$1/formatted/$FILE" released.c "$1/released/$FILE" >merged.c
			mv merged.c "$1/formatted/$FILE"
		fi
		diff -up --label "a/$FILE" --label "b/$FILE" "$1/written/$FILE" "$1/formatted/$FILE" \
			>>"/pgl/out/$1.diff" || [ $? = 1 ]
	done <"$1/files"
}

unpack postgresql '*/src/tools/pg_bsd_indent/*.[ch]' '*/src/tools/pgindent/*'
unpack pgvector
mkdir -p guest/written/assets
cp -r /pgl/assets/guest guest/written/assets/
mv postgresql/released/src/tools .
rm -r postgresql/written/src/tools

# What pg_bsd_indent needs of PostgreSQL's header, without a configured tree.
cat >tools/pg_bsd_indent/c.h <<'EOF'
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#define MAXPGPATH 1024
#define pg_attribute_noreturn()
#define pg_attribute_printf(format, arguments)
EOF
gcc -O1 -o pg_bsd_indent tools/pg_bsd_indent/*.c

# `decimal` is a type of ECPG only. Here it is the name of variables.
cat tools/pgindent/typedefs.list /pgl/assets/guest/typedefs.list | grep -vx decimal >typedefs.list

compare guest
compare postgresql
compare pgvector
