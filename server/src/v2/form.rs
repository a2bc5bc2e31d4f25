//! Fields of a query and of a body, read as Go's `ParseForm` reads them.

/// The fields that mean something.
const NAMES: [&str; 14] = [
    "dir",
    "noValueOnSuccess",
    "prevExist",
    "prevIndex",
    "prevValue",
    "quorum",
    "recursive",
    "refresh",
    "sorted",
    "stream",
    "ttl",
    "value",
    "wait",
    "waitIndex",
];

/// The first of each field that means something: those of the body come before those of the query.
#[derive(Debug, Default)]
pub(super) struct Form(Vec<(&'static str, String)>);

impl Form {
    /// Reads a body, if it is a form, and a query. Of several mistakes the first one counts.
    pub(super) fn of(body: Option<&str>, query: &str) -> Result<Self, String> {
        let mut form = Self::default();
        let body = body.map_or(Ok(()), |body| form.add(body));
        let query = form.add(query);
        body.and(query).map(|()| form)
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        let mut outcome = Ok(());
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            match field(pair) {
                Ok((name, value)) => {
                    let name = NAMES.into_iter().find(|known| *known == name);
                    let first = name.filter(|name| self.first(name).is_none());
                    self.0.extend(first.map(|name| (name, value)));
                }
                Err(mistake) => outcome = outcome.and(Err(mistake)),
            }
        }
        outcome
    }

    /// The first value of a field.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| value.as_str())
    }
}

fn field(pair: &str) -> Result<(String, String), String> {
    if pair.contains(';') {
        return Err("invalid semicolon separator in query".to_owned());
    }
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    Ok((unescape(name, true)?, unescape(value, true)?))
}

/// Takes the escapes out of a text; in a form, `+` is a blank. What is not UTF-8 then is refused: JSON could not show it.
pub(super) fn unescape(text: &str, form: bool) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let digits = bytes.get(at + 1..at + 3);
                let Some(escaped) = digits.and_then(|d| Some(hex(d[0])? << 4 | hex(d[1])?)) else {
                    let shown = &bytes[at..bytes.len().min(at + 3)];
                    let shown = String::from_utf8_lossy(shown);
                    return Err(format!("invalid URL escape {shown:?}"));
                };
                out.push(escaped);
                at += 3;
                continue;
            }
            b'+' if form => out.push(b' '),
            other => out.push(other),
        }
        at += 1;
    }
    String::from_utf8(out).map_err(|_| format!("{text:?} is not UTF-8"))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_comes_first() {
        let query = "value=c&wait&prevValue=%c3%b6&x=y";
        let form = Form::of(Some("value=a+b%2B&ttl="), query).expect("a form");
        assert_eq!(form.first("value"), Some("a b+"));
        assert_eq!(form.first("ttl"), Some(""));
        assert_eq!(form.first("wait"), Some(""));
        assert_eq!(form.first("prevValue"), Some("ö"));
        assert_eq!((form.first("x"), form.first("dir")), (None, None));
        let form = Form::of(None, "").expect("an empty form");
        assert_eq!(form.first("value"), None);
    }

    #[test]
    fn the_first_mistake_counts() {
        let mistake = |body, query| Form::of(body, query).expect_err("a mistake");
        assert_eq!(mistake(None, "a=%zz"), r#"invalid URL escape "%zz""#);
        assert_eq!(mistake(None, "value=%ff"), r#""%ff" is not UTF-8"#);
        assert_eq!(mistake(None, "a=%4"), r#"invalid URL escape "%4""#);
        assert_eq!(mistake(None, "a=%"), r#"invalid URL escape "%""#);
        assert_eq!(mistake(None, "a=%zzz&b;c"), r#"invalid URL escape "%zz""#);
        let semicolon = "invalid semicolon separator in query";
        assert_eq!(mistake(Some("a;b"), "a=%zz"), semicolon);
        assert_eq!(mistake(Some("a=b"), "a=b;c"), semicolon);
    }

    #[test]
    fn a_path_keeps_its_plus() {
        assert_eq!(unescape("/a+b%20c%2fd", false).as_deref(), Ok("/a+b c/d"));
    }
}
