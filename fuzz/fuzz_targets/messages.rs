//! The framing of messages and the tracking of a session's state. The first byte says in pieces of
//! which size the others come.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some((size, bytes)) = input.split_first() {
        pglite_oxide::dev::read_messages(bytes, usize::from(*size));
    }
});
