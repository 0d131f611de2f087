//! Start-up packets, and the requests that come before them. The first byte says in pieces of which
//! size the others come.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some((size, bytes)) = input.split_first() {
        pglite_oxide::dev::read_startup(bytes, usize::from(*size));
    }
});
