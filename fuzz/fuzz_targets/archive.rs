//! Archives of a data directory, as `Builder::load_from` reads them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    pglite_oxide::dev::load_archive(input);
});
