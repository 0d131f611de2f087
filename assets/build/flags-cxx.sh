# Settings for C++, and for libraries that become part of a side module; used after flags.sh.

# Static libraries of position-independent objects. What they define stays inside of the module
# that they are linked into: another module may have the same library.
WASM_LIBRARY="-O2 -fPIC -fvisibility=hidden -ffunction-sections -fdata-sections"

# C++ has exceptions, and the library that libcxx.sh makes: its headers stand before those of the C
# library. A guest has one thread, so static variables of functions need no guards. Operators new
# and delete are visible by default whatever -fvisibility says, hence an option of their own.
LIBCXX=/pgl/deps/libcxx
WASM_CXX_MODEL="-nostdinc++ -fno-threadsafe-statics -fvisibility-inlines-hidden \
	-fvisibility-global-new-delete=force-hidden"
WASM_CXX="clang++ -isystem $LIBCXX/include/c++/v1 -isystem $LIBCXX/include ${WASM_CC#clang } $WASM_CXX_MODEL"
LIBCXX_LIBS="$LIBCXX/lib/libc++.a $LIBCXX/lib/libc++abi.a $LIBCXX/lib/libunwind.a"

# A call through a pointer to a function of another type traps, so a cast to one is an error.
WARNINGS="-Wno-everything -Werror=implicit-function-declaration -Werror=int-conversion \
	-Werror=incompatible-function-pointer-types -Werror=cast-function-type-mismatch"

# unpack NAME DIRECTORY ...: enters the patched source of a library, and makes these directories of
# its output, besides those that all have.
unpack() {
	OUT=/pgl/out
	mkdir -p "/pgl/work/$1" "$OUT/lib" "$OUT/include"
	tar -xf "/pgl/sources/$1.tar" --strip-components=1 -C "/pgl/work/$1"
	cd "/pgl/work/$1"
	apply_patches "$1"
	shift
	for DIRECTORY in "$@"; do
		mkdir -p "$OUT/$DIRECTORY"
	done
}

# compile DIRECTORY COMMAND ...: compiles the files that its input names into the directory.
compile() {
	mkdir -p "$1"
	OBJECTS=$1
	shift
	# shellcheck disable=SC2016 # the inner shell expands it
	COMMAND="$*" OBJECTS=$OBJECTS xargs -P "$JOBS" -n 1 sh -c \
		'exec $COMMAND -c "$1" -o "$OBJECTS/$(echo "${1%.*}" | tr / _).o"' sh
}
