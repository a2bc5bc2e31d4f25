//! Randomness for property tests that can be repeated.

/// A small generator of the SplitMix64 family: equal seeds give equal runs.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The seed for the test `name`: `RETCD_TEST_SEED` if set, else a fixed one; printed, so that
    /// a failure shows it.
    pub(crate) fn seed(name: &str) -> u64 {
        let seed = std::env::var("RETCD_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or(0x5eed);
        println!("{name}: RETCD_TEST_SEED={seed}");
        seed
    }

    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from `0..limit`.
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u32
    }
}

/// `RETCD_TEST_SCALE`, by which a test multiplies its work.
pub(crate) fn scale() -> usize {
    let scale = std::env::var("RETCD_TEST_SCALE").ok();
    scale.and_then(|scale| scale.parse().ok()).unwrap_or(1)
}
