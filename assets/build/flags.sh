# Compiler and linker settings of the guest, shared by every build step that compiles C for it.
# Mounted by the pipeline: /pgl/assets (this tree), /pgl/sources (locked archives), /pgl/deps/STEP (outputs of earlier steps), /pgl/work (scratch), /pgl/out (outputs).

# The headers of ours stand before the C library's: see guest/sysroot.
WASM_TARGET="--target=wasm32-wasip1 -nostdlibinc -isystem /pgl/assets/guest/sysroot -isystem /usr/include/wasm32-wasi"
# Atomics and shared memory are what concurrent sessions need.
WASM_FEATURES="-matomics -mbulk-memory -mmutable-globals -msign-ext -mnontrapping-fptoint -mmultivalue -mreference-types"
WASM_MODEL="-pthread -mthread-model posix -ftls-model=local-exec -fno-trapping-math"
WASM_EMULATION="-D_WASI_EMULATED_MMAN -D_WASI_EMULATED_SIGNAL -D_WASI_EMULATED_PROCESS_CLOCKS"
# setjmp and longjmp become exceptions of the final proposal, not of the legacy one.
WASM_EXCEPTIONS="-fwasm-exceptions -mllvm -wasm-enable-sjlj -mllvm -wasm-use-legacy-eh=false"

WASM_CC="clang $WASM_TARGET $WASM_FEATURES $WASM_MODEL $WASM_EMULATION $WASM_EXCEPTIONS"
WASM_LIBDIR=/usr/lib/wasm32-wasi
WASM_BUILTINS=/usr/lib/llvm-22/lib/clang/22/lib/wasi/libclang_rt.builtins-wasm32.a
WASM_LIBS="-L$WASM_LIBDIR -lc -lwasi-emulated-mman -lwasi-emulated-getpid $WASM_BUILTINS"
