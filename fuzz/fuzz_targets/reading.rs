//! What looks at bytes before PostgreSQL does: start-up packets, the framing of messages, the state that is followed. The first byte says in which pieces the others come.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some((size, bytes)) = input.split_first() {
        pglite_oxide::dev::read_untrusted(bytes, usize::from(*size));
    }
});
