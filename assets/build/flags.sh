# Compiler and linker settings of the guest, shared by every build step that compiles C for it.
# Mounted by the pipeline: /pgl/assets (this tree), /pgl/sources (locked archives), /pgl/deps/STEP
# (outputs of earlier steps), /pgl/work (scratch), /pgl/out (outputs).

# The headers of ours stand before the C library's: see guest/sysroot.
WASM_TARGET="--target=wasm32-wasip1 -nostdlibinc -isystem /pgl/assets/guest/sysroot -isystem /usr/include/wasm32-wasi"
# Atomics and shared memory are what concurrent sessions need.
WASM_FEATURES="-matomics -mbulk-memory -mmutable-globals -msign-ext -mnontrapping-fptoint -mmultivalue -mreference-types"
WASM_MODEL="-pthread -mthread-model posix -ftls-model=local-exec -fno-trapping-math"
WASM_EMULATION="-D_WASI_EMULATED_MMAN -D_WASI_EMULATED_SIGNAL -D_WASI_EMULATED_PROCESS_CLOCKS"
# setjmp and longjmp become exceptions of the final proposal, not of the legacy one.
WASM_EXCEPTIONS="-fwasm-exceptions -mllvm -wasm-enable-sjlj -mllvm -wasm-use-legacy-eh=false"

WASM_CC="clang $WASM_TARGET $WASM_FEATURES $WASM_MODEL $WASM_EMULATION $WASM_EXCEPTIONS"
# What make compiles with: see there.
export PGL_CC="$WASM_CC"
CHECKED_CC="sh /pgl/assets/build/cc.sh"
WASM_LIBDIR=/usr/lib/wasm32-wasi
WASM_BUILTINS=/usr/lib/llvm-22/lib/clang/22/lib/wasi/libclang_rt.builtins-wasm32.a
WASM_LIBS="-L$WASM_LIBDIR -lc -lwasi-emulated-mman -lwasi-emulated-getpid $WASM_BUILTINS"

# Libraries of the server and of the client programs.
SERVER_LIBS="/pgl/deps/zlib/lib/libz.a /pgl/deps/lz4/lib/liblz4.a /pgl/deps/zstd/lib/libzstd.a"

# A main module, the server's and each program's: at a fixed base, with its own memory layout, made
# loadable by the post-link step. The exception tag of longjmp comes from the loader; nothing else
# may stay undefined. The stack is 1 KiB larger than the loader's 8 MiB, which it rounds up to: see
# the post-link step.
echo __c_longjmp >/pgl/work/undefined.txt
WASM_MAIN="--no-entry --allow-undefined-file=/pgl/work/undefined.txt --strip-debug \
	--import-memory --shared-memory --max-memory=4294967296 --import-table --growable-table \
	--no-stack-first --global-base=1024 -z stack-size=8389632 \
	--export=__wasm_call_ctors --export=__global_base --export=__stack_low --export=__stack_high \
	--export=__heap_base \
	--export-if-defined=__tls_size --export-if-defined=__tls_align --export-if-defined=__tls_base \
	--export-if-defined=__wasm_init_tls --export-if-defined=__wasm_signal"

# apply_patches NAME: the patches of assets/patches/NAME, in the order of their names, to the tree
# in the current directory.
apply_patches() {
	for PATCH in /pgl/assets/patches/"$1"/*.patch; do
		[ -e "$PATCH" ] || return 0
		echo "applying $(basename "$PATCH")"
		if ! patch -p1 --fuzz=0 --no-backup-if-mismatch --batch <"$PATCH"; then
			echo "PATCH-FAILED: $(basename "$PATCH") does not apply to $1: the file and the hunk are named above" >&2
			exit 1
		fi
	done
}
