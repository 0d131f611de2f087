#!/bin/sh
# libcrypto, from OpenSSL: static, for pgcrypto alone. Without what needs an operating system or a
# network, and without ciphers and key types that pgcrypto does not offer; users can name every
# digest. The legacy provider is part of it, because pgcrypto's older ciphers are there.
set -eu
. /pgl/assets/build/flags.sh

SRC=/pgl/work/openssl
OUT=/pgl/out
mkdir -p "$SRC" "$OUT/lib" "$OUT/include"
tar -xf /pgl/sources/libcrypto.tar --strip-components=1 -C "$SRC"
cd "$SRC"

perl ./Configure linux-generic32 CC="$WASM_CC" AR=llvm-ar RANLIB=llvm-ranlib CFLAGS="-O2 -fPIC" \
	no-asm no-shared no-module no-threads no-dso no-engine no-sock no-async no-ui-console no-afalgeng \
	no-secure-memory no-posix-io no-stdio no-autoload-config no-autoerrinit no-tests no-apps no-docs \
	no-quic no-tls no-dtls no-ssl3 no-cms no-ts no-ocsp no-ct no-cmp no-srp no-srtp no-psk no-comp \
	no-ec no-ml-dsa no-ml-kem no-slh-dsa no-sm2 no-sm4 no-aria no-camellia no-seed no-chacha no-poly1305 \
	no-siphash no-siv no-ocb no-gost no-idea no-rc2 no-rc4 no-argon2 no-scrypt \
	--with-rand-seed=getrandom --openssldir=/nonexistent
make -s -j"$JOBS" build_generated
make -s -j"$JOBS" libcrypto.a
cp libcrypto.a "$OUT/lib/"
cp -r include/openssl "$OUT/include/"
