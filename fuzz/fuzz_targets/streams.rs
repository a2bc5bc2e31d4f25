//! The streams between members: whatever a peer sends, both decoders give messages or an error.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    retcd_fuzz::streams(bytes);
});
