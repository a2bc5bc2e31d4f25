//! The flags of authentication, which is not there yet: what etcd would make of their values.

use std::collections::BTreeMap;

use slog::Level;

use super::notice::Notice;
use super::value;

/// What bcrypt takes.
const COSTS: std::ops::RangeInclusive<u64> = 4..=31;

/// Looks at values that are not their flags' defaults; takes away what stands for the default.
///
/// # Errors
/// A kind of token that there is not.
pub(super) fn check(
    given: &mut BTreeMap<&'static str, String>,
    notices: &mut Vec<Notice>,
) -> Result<(), String> {
    if let Some(token) = given.get("auth-token") {
        let kind = token.split(',').next().unwrap_or_default();
        match kind {
            "simple" => {
                given.remove("auth-token");
            }
            "jwt" => {}
            _ => {
                return Err(format!(
                    "--auth-token={token:?}: auth: invalid auth options; the kinds of token are simple and jwt"
                ));
            }
        }
    }
    if let Some(cost) = given.get("bcrypt-cost") {
        let cost = value::parse_uint(cost).unwrap_or_default();
        if !COSTS.contains(&cost) {
            let fields = vec![
                ("min-cost", (*COSTS.start()).into()),
                ("max-cost", (*COSTS.end()).into()),
                ("default-cost", 10_u64.into()),
                ("given-cost", cost.into()),
            ];
            notices.push(Notice::new(
                Level::Warning,
                "use default bcrypt cost instead of the invalid given cost",
                fields,
            ));
            given.remove("bcrypt-cost");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &'static str, value: &str) -> (Result<(), String>, usize, usize) {
        let mut given = BTreeMap::from([(name, value.to_owned())]);
        let mut notices = Vec::new();
        let result = check(&mut given, &mut notices);
        (result, given.len(), notices.len())
    }

    #[test]
    fn values_are_etcds() {
        // Refused later, since it is not there yet.
        assert_eq!(checked("auth-token", "jwt,pub-key=x"), (Ok(()), 1, 0));
        assert_eq!(checked("bcrypt-cost", "12"), (Ok(()), 1, 0));
        assert_eq!(checked("auth-token-ttl", "1"), (Ok(()), 1, 0));
        // The default in other words.
        assert_eq!(checked("auth-token", "simple,"), (Ok(()), 0, 0));
        assert_eq!(checked("bcrypt-cost", "3"), (Ok(()), 0, 1));
        assert_eq!(checked("bcrypt-cost", "32"), (Ok(()), 0, 1));
        let (result, ..) = checked("auth-token", "basic");
        assert!(result.is_err_and(|error| error.contains("\"basic\": auth: invalid auth options")));
    }
}
