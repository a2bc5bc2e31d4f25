//! Sizes for people.

/// Bytes in powers of a thousand: two digits below ten, whole numbers above.
#[expect(
    clippy::cast_precision_loss,
    reason = "only the first two digits are shown"
)]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let power = bytes.ilog10() / 3;
    let scaled = bytes as f64 / 1000_f64.powi(power as i32);
    let rounded = (scaled * 10.0 + 0.5).floor() / 10.0;
    let digits = usize::from(rounded < 10.0);
    format!("{rounded:.digits$} {}", UNITS[power as usize])
}

#[cfg(test)]
mod tests {
    use super::bytes;

    /// As etcd's tools print them.
    #[test]
    fn sizes() {
        for (size, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9_949, "9.9 kB"),
            (9_950, "10 kB"),
            (20_480, "20 kB"),
            (24_576, "25 kB"),
            (16_801_792, "17 MB"),
            (999_999, "1000 kB"),
            (2_147_483_648, "2.1 GB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(bytes(size), text, "{size}");
        }
    }
}
