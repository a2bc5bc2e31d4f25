//! Single pages: whatever the bytes are, reading them gives entries or an error.

#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    retcd_fuzz::page(script);
});
