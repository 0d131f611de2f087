#!/bin/sh
# libc++, libc++abi and the part of libunwind that wasm needs, from LLVM's source, without its CMake
# scripts. Without threads, file systems, and time zones; with locales, which streams
# need. Everything is hidden in the module that it is linked into.
set -eu
. /pgl/assets/build/flags.sh
. /pgl/assets/build/flags-cxx.sh

SRC=/pgl/work/llvm
OUT=/pgl/out
INCLUDE=$OUT/include/c++/v1
mkdir -p "$SRC" "$OUT/lib" "$INCLUDE"
tar -xf /pgl/sources/libcxx.tar -C "$SRC" --strip-components=1 --wildcards \
	'*/libcxx/include' '*/libcxx/src' '*/libcxx/vendor' '*/libcxxabi/include' '*/libcxxabi/src' \
	'*/libunwind/include' '*/libunwind/src' '*/libc/shared' '*/libc/src/__support' '*/libc/hdr' '*/libc/include'
cd "$SRC"
apply_patches libcxx

# The headers, with what CMake would write.
cp -r libcxx/include/. "$INCLUDE/"
cp libcxxabi/include/*.h "$INCLUDE/"
cat >"$OUT/include/locale.h" <<'EOF'
/*
 * C++ calls std::setlocale, and the C library's is replaced by a macro: see
 * sysroot/locale.h.
 */
#include_next <locale.h>

#ifdef __cplusplus
namespace std
{
using ::pgl_setlocale;
}
#endif
EOF
cp libcxx/vendor/llvm/default_assertion_handler.in "$INCLUDE/__assertion_handler"
find "$INCLUDE" \( -name CMakeLists.txt -o -name '*.in' \) -exec rm {} +
cat >"$INCLUDE/__config_site" <<'EOF'
#ifndef _LIBCPP___CONFIG_SITE
#define _LIBCPP___CONFIG_SITE
#define _LIBCPP_ABI_VERSION 2
#define _LIBCPP_ABI_NAMESPACE __2
#define _LIBCPP_ABI_FORCE_ITANIUM 0
#define _LIBCPP_ABI_FORCE_MICROSOFT 0
#define _LIBCPP_HAS_THREADS 0
#define _LIBCPP_HAS_MONOTONIC_CLOCK 1
#define _LIBCPP_HAS_TERMINAL 0
#define _LIBCPP_HAS_MUSL_LIBC 1
#define _LIBCPP_HAS_THREAD_API_PTHREAD 0
#define _LIBCPP_HAS_THREAD_API_EXTERNAL 0
#define _LIBCPP_HAS_THREAD_API_WIN32 0
#define _LIBCPP_HAS_THREAD_API_C11 0
#define _LIBCPP_DISABLE_VISIBILITY_ANNOTATIONS
#define _LIBCPP_HAS_VENDOR_AVAILABILITY_ANNOTATIONS 0
#define _LIBCPP_HAS_FILESYSTEM 0
#define _LIBCPP_HAS_RANDOM_DEVICE 1
#define _LIBCPP_HAS_LOCALIZATION 1
#define _LIBCPP_HAS_UNICODE 1
#define _LIBCPP_HAS_WIDE_CHARACTERS 1
#define _LIBCPP_HAS_TIME_ZONE_DATABASE 0
#define _LIBCPP_INSTRUMENTED_WITH_ASAN 0
#define _LIBCPP_PSTL_BACKEND_SERIAL
#define _LIBCPP_HARDENING_MODE_DEFAULT 2
#define _LIBCPP_ASSERTION_SEMANTIC_DEFAULT 2
#define _LIBCPP_LIBC_PICOLIBC 0
#define _LIBCPP_LIBC_NEWLIB 0
#endif
EOF

CXX="clang++ -isystem $INCLUDE ${WASM_CC#clang } $WASM_CXX_MODEL $WASM_LIBRARY -std=c++23 -w -D_GNU_SOURCE"
CXX="$CXX -D_LIBCPP_BUILDING_LIBRARY -D_LIBCXXABI_BUILDING_LIBRARY \
	-D_LIBCXXABI_DISABLE_VISIBILITY_ANNOTATIONS"

# libunwind: what clang's landing pads call. It is C.
echo libunwind/src/Unwind-wasm.c |
	compile /pgl/work/libunwind "$WASM_CC $WASM_LIBRARY -std=c23 -fexceptions -D_LIBUNWIND_HIDE_SYMBOLS -DNDEBUG -Ilibunwind/include"

# libc++abi. An exception that is not caught ends the instance; its type's name would need the
# demangler.
for NAME in cxa_aux_runtime cxa_default_handlers cxa_demangle cxa_exception cxa_exception_storage cxa_guard \
	cxa_handlers cxa_personality cxa_vector cxa_virtual stdlib_exception stdlib_new_delete stdlib_stdexcept \
	stdlib_typeinfo abort_message fallback_malloc private_typeinfo; do
	echo "libcxxabi/src/$NAME.cpp"
done | compile /pgl/work/libc++abi "$CXX -D_LIBCXXABI_HAS_NO_THREADS -DLIBCXXABI_SILENT_TERMINATE \
	-Ilibcxxabi/include -Ilibcxx/src -Ilibunwind/include"

# libc++. Conversions of text to numbers share code with LLVM's C library.
for NAME in algorithm any bind call_once charconv chrono error_category exception expected \
	filesystem/filesystem_clock filesystem/filesystem_error filesystem/path functional hash memory \
	memory_resource new_handler new_helpers optional print random random_shuffle ryu/d2fixed ryu/d2s ryu/f2s stdexcept \
	string system_error typeinfo valarray variant vector verbose_abort \
	fstream ios ios.instantiations iostream locale ostream regex strstream; do
	echo "libcxx/src/$NAME.cpp"
done | compile /pgl/work/libc++ "$CXX -DLIBCXX_BUILDING_LIBCXXABI -DLIBC_NAMESPACE=__llvm_libc_common_utils \
	-Ilibcxx/src -Ilibcxxabi/include -Ilibc"

echo /pgl/assets/guest/libcxx/numbers.c | compile /pgl/work/libc++ "$WASM_CC $WASM_LIBRARY -D_GNU_SOURCE"
echo /pgl/assets/guest/libcxx/exceptions.c | compile /pgl/work/libc++abi "$WASM_CC $WASM_LIBRARY -fexceptions"

for LIBRARY in libunwind libc++abi libc++; do
	llvm-ar rcs "$OUT/lib/$LIBRARY.a" "/pgl/work/$LIBRARY"/*.o
done
