#!/bin/sh
# PostGIS, with topology, without raster, SFCGAL, the address standardizer, TIGER, its client
# programs and its documentation. It has a configure script and several directories, so it is not
# built like the extensions of pgxs.sh. What its install makes goes to /pgl/out/install, below the
# paths of the server; PROJ's database is part of it.
set -eu
. /pgl/assets/build/flags.sh
. /pgl/assets/build/flags-cxx.sh
. /pgl/assets/build/install.sh

SRC=/pgl/work/postgis
BIN=/pgl/work/bin
DEPS=/pgl/deps
PREFIX=/pgl/deps/postgresql/install
mkdir "$SRC" "$BIN" "$BIN/pkgconfig"
tar -xf /pgl/sources/postgis.tar --strip-components=1 -C "$SRC"
cd "$SRC"
apply_patches postgis

# What its configure script asks for. It compiles C++ with the compiler of PostgreSQL.
cat >"$BIN/pg_config" <<EOF
#!/bin/sh
case "\$1" in
--cc) echo '$WASM_CXX' ;;
--cflags | --cppflags | --ldflags) echo ;;
*) exec sh /pgl/assets/build/pg_config.sh "\$@" ;;
esac
EOF
chmod 755 "$BIN/pg_config"
package() {
	printf 'Name: %s\nDescription: %s\nVersion: %s\nCflags: %s\nLibs: %s\n' "$1" "$1" "$2" "$3" "$4" >"$BIN/pkgconfig/$1.pc"
}
defined() { sed -n "s/^#define[[:space:]]\{1,\}$1[[:space:]]\{1,\}\"\{0,1\}\([^\"[:space:]]*\).*/\1/p" "$2"; }
PROJ_H=$DEPS/proj/include/proj.h
package proj "$(defined PROJ_VERSION_MAJOR $PROJ_H).$(defined PROJ_VERSION_MINOR $PROJ_H).$(defined PROJ_VERSION_PATCH $PROJ_H)" \
	"-I$DEPS/proj/include" "-L$DEPS/proj/lib -lproj -L$DEPS/sqlite3/lib -lsqlite3"
package json-c "$(defined JSON_C_VERSION $DEPS/json-c/include/json-c/json_c_version.h)" \
	"-I$DEPS/json-c/include/json-c -I$DEPS/json-c/include" "-L$DEPS/json-c/lib -ljson-c"

# A program cannot be run here, and its tests of libraries would link one; the modules' link, which
# the build checks, tells whether a function is missing. libpq is for client programs.
export ac_cv_header_libpq_fe_h=yes ac_cv_lib_pq_PQserverVersion=yes ac_cv_lib_c_iconv_open=yes \
	ac_cv_lib_iconv_libiconv_open=no ac_cv_lib_xml2_xmlInitParser=yes ac_cv_lib_geos_c_initGEOS=yes \
	ac_cv_lib_proj_pj_get_release=no ac_cv_lib_proj_proj_info=yes ac_cv_lib_json_c_json_object_get=yes \
	ac_cv_lib_cpp_main=no ac_cv_lib_stdcpp_main=no ac_cv_lib_cunit_CU_initialize_registry=no
PKG_CONFIG_LIBDIR=$BIN/pkgconfig ./configure --build=x86_64-linux-gnu --host=wasm32-wasi --disable-shared --disable-nls \
	--with-pgconfig="$BIN/pg_config" --with-xml2config="$DEPS/libxml/bin/xml2-config" \
	--with-geosconfig="$DEPS/geos/bin/geos-config" \
	--with-topology --without-protobuf --without-raster --without-sfcgal --without-address-standardizer --without-tiger \
	--without-interrupt-tests --without-gui --without-phony-revision \
	CC="$WASM_CC" CXX="$WASM_CXX" CFLAGS="$WASM_LIBRARY -Werror=cast-function-type-mismatch" \
	CXXFLAGS="$WASM_LIBRARY -Werror=cast-function-type-mismatch" CPPFLAGS=-D_GNU_SOURCE \
	AR=llvm-ar RANLIB=llvm-ranlib STRIP=llvm-strip NM=llvm-nm LD=wasm-ld \
	LDFLAGS="-nostdlib -Wl,--shared-memory" LIBS="$WASM_LIBDIR/crt1.o $WASM_LIBS"

# Static objects of C++ are made by a function that the loader calls if a module exports it. The
# compiler's library has arithmetic that the server does not export. PostGIS's link names libm,
# which is a part of libc. SHLIB_LINK is its own; the order of libraries does not matter to wasm-ld.
llvm-ar rcs "$BIN/libm.a"
LINK="-Wl,-Bsymbolic,--gc-sections,--export=__wasm_call_ctors -L$BIN $LIBCXX_LIBS $WASM_BUILTINS"
build() {
	make -s "$@" LIBS= LDFLAGS_SL="$LINK" DESTDIR=/pgl/work/install
}
for DIR in liblwgeom deps; do
	build -j"$JOBS" -C "$DIR" all
done
for DIR in libpgcommon postgis topology; do
	build -j"$JOBS" -C "$DIR" all CC="$CHECKED_CC"
done
build -C utils all
build -C extensions postgis_extension_helper.sql
for DIR in extensions/postgis extensions/postgis_topology; do
	build -C "$DIR" all
done
for DIR in postgis topology extensions/postgis extensions/postgis_topology; do
	build -C "$DIR" install
done

# Programs for servers of other machines, and what brings databases of before CREATE EXTENSION under
# it, which contains the table of coordinate systems again.
SHARE=/pgl/work/install$PREFIX/usr/share/postgresql
rm -r /pgl/work/install/usr "$SHARE/contrib" "$SHARE"/extension/*--unpackaged*.sql
mkdir "$SHARE/proj"
cp "$DEPS/proj/share/proj.db" "$SHARE/proj/"
# Servers of PostgreSQL 17 have these versions, and leave databases with them.
for NAME in postgis postgis_topology; do
	for VERSION in 3.5.0 3.5.1 3.5.2 3.5.3 3.6.0 3.6.1 3.6.2 3.6.3; do
		cp "$SHARE/extension/$NAME--TEMPLATED--TO--ANY.sql" "$SHARE/extension/$NAME--$VERSION--ANY.sql"
	done
done
finish_install postgis
