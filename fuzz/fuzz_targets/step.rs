//! The conversion of peers' messages into the consensus core: none is a panic, and one that is refused touches nothing.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    retcd_fuzz::step(bytes);
});
