//! Whole files: valid databases with damage that has structure, opened, checked, read, written and read again.

#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    retcd_fuzz::open(script);
});
