#!/bin/sh
# GEOS and its C interface, without its CMake scripts: every file below src and capi, but for the
# reader of files, which the C++ library has no streams for.
set -eu
. /pgl/assets/build/flags.sh
. /pgl/assets/build/flags-cxx.sh
. /pgl/assets/build/precompile.sh

unpack geos bin

# What CMake would fill in.
value() { sed -n "s/^$1=//p" Version.txt; }
MAJOR=$(value GEOS_VERSION_MAJOR)
MINOR=$(value GEOS_VERSION_MINOR)
PATCH=$(value GEOS_VERSION_PATCH)
VERSION=$MAJOR.$MINOR.$PATCH
AGE=$(value CAPI_INTERFACE_AGE)
REVISION=$(value CAPI_INTERFACE_REVISION)
CAPI_MAJOR=$(($(value CAPI_INTERFACE_CURRENT) - AGE))
for FILE in include/geos/version.h capi/geos_c.h; do
	sed -e "s/@VERSION_MAJOR@/$MAJOR/; s/@VERSION_MINOR@/$MINOR/; s/@VERSION_PATCH@/$PATCH/" \
		-e "s/@VERSION@/$VERSION/; s/@JTS_PORT@/$(value JTS_PORT)/" \
		-e "s/@CAPI_VERSION_MAJOR@/$CAPI_MAJOR/; s/@CAPI_VERSION_MINOR@/$AGE/" \
		-e "s/@CAPI_VERSION_PATCH@/$REVISION/; s/@CAPI_VERSION@/$CAPI_MAJOR.$AGE.$REVISION/" "$FILE.in" >"$FILE"
done

# Its results depend on multiplications and additions that are not contracted to one instruction.
DEFINES="-DNDEBUG -DUSE_UNSTABLE_GEOS_CPP_API -D_GNU_SOURCE -ffp-contract=off -Iinclude -Icapi -Isrc/deps"
# One unit for each directory, because the headers take most of the time, but for those directories
# whose files define the same names.
mkdir unit
find src -name '*.cpp' ! -name WKTFileReader.cpp | sort | while read -r FILE; do
	case "${FILE%/*}" in
	src/geom | src/geom/prep | src/io | src/operation/overlayng | src/operation/union | src/operation/valid | src/precision)
		echo "$FILE" ;;
	*) echo "#include \"$FILE\"" >>"unit/$(echo "${FILE%/*}" | tr / _).cpp" ;;
	esac
done >alone.txt
CXX="$WASM_CXX $WASM_LIBRARY $DEFINES -I. -std=c++14 $WARNINGS"
# shellcheck disable=SC2086 # the compiler has arguments of its own
precompile $CXX
find unit -name '*.cpp' | sort | cat - alone.txt | compile /pgl/work/libgeos "$CXX $PRECOMPILED"
find src/deps -name '*.c' | sort | compile /pgl/work/libgeos "$WASM_CC $WASM_LIBRARY $DEFINES $WARNINGS"
find capi -name '*.cpp' | sort | compile /pgl/work/libgeos_c "$CXX $PRECOMPILED"
for LIBRARY in libgeos libgeos_c; do
	llvm-ar rcs "$OUT/lib/$LIBRARY.a" "/pgl/work/$LIBRARY"/*.o
done
cp capi/geos_c.h "$OUT/include/"
mkdir -p "$OUT/include/geos"
cp include/geos/export.h "$OUT/include/geos/"

# For configure scripts.
cat >"$OUT/bin/geos-config" <<EOF
#!/bin/sh
for OPTION in "\$@"; do
	case "\$OPTION" in
	--version) echo $VERSION ;;
	--includes) echo /pgl/deps/geos/include ;;
	--cflags) echo -I/pgl/deps/geos/include ;;
	--ldflags) echo -L/pgl/deps/geos/lib ;;
	--libs | --clibs | --static-clibs) echo -L/pgl/deps/geos/lib -lgeos_c -lgeos ;;
	*) exit 1 ;;
	esac
done
EOF
chmod 755 "$OUT/bin/geos-config"
