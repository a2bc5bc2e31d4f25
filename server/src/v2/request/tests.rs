use super::*;

const NOW: i64 = 1_500_000_000_000_000_000;

fn read(method: Method, path: &str, fields: &str) -> Result<What, (Code, String)> {
    let form = Form::of(Some(fields), "").expect("a form");
    match parse(&method, path, &form, NOW) {
        Ok(request) => Ok(request.what),
        Err(refusal) => {
            assert_eq!(refusal.index, 0);
            Err((refusal.code, refusal.cause))
        }
    }
}

fn write(method: Method, fields: &str) -> Write {
    match read(method, "/a", fields) {
        Ok(What::Write { write, .. }) => write,
        other => panic!("{fields}: {other:?}"),
    }
}

fn content(value: &str, dir: bool, expires: i64) -> Content {
    let value = value.to_owned();
    Content {
        value,
        dir,
        expires,
    }
}

#[test]
fn reads() {
    for (method, fields, recursive, quorum) in [
        (Method::GET, "", false, false),
        (Method::GET, "recursive=true&sorted=true", true, false),
        (Method::GET, "quorum=1", false, true),
        (Method::GET, "wait=true&quorum=true", false, true),
        (Method::HEAD, "quorum=1&recursive=T", true, false),
    ] {
        let expected = What::Get { recursive, quorum };
        assert_eq!(read(method, "/a", fields), Ok(expected), "{fields}");
    }
    let what = read(Method::GET, "/a", "wait=true&waitIndex=7&stream=true");
    let wait = What::Wait {
        since: 7,
        recursive: false,
        stream: true,
    };
    assert_eq!(what, Ok(wait));
}

#[test]
fn writes() {
    let expected = |value: &str, index| Expected {
        value: value.to_owned(),
        index,
    };
    let (text, ends) = (content("x", false, 0), NOW + 5_000_000_000);
    let set = Write::Set {
        content: content("x", false, ends),
        refresh: false,
    };
    assert_eq!(write(Method::PUT, "value=x&ttl=5"), set);
    let kept = Write::Set {
        content: content("", true, 0),
        refresh: false,
    };
    assert_eq!(write(Method::PUT, "dir=true&ttl="), kept);
    let refresh = Write::Set {
        content: content("", false, ends),
        refresh: true,
    };
    assert_eq!(write(Method::PUT, "refresh=true&ttl=5"), refresh);
    let create = Write::Create(text.clone());
    assert_eq!(write(Method::PUT, "value=x&prevExist=false"), create);
    // As in etcd, what it would have to be does not count then.
    assert_eq!(
        write(Method::PUT, "value=x&prevExist=false&prevIndex=3"),
        create
    );
    let update = Write::Update {
        content: text.clone(),
        refresh: false,
    };
    assert_eq!(write(Method::PUT, "value=x&prevExist=true"), update);
    for (fields, value, index) in [
        ("value=x&prevValue=y", "y", 0),
        ("value=x&prevIndex=3", "", 3),
        ("value=x&prevIndex=3&prevValue=y&prevExist=true", "y", 3),
    ] {
        let swap = Write::Swap {
            expected: expected(value, index),
            content: text.clone(),
            refresh: false,
        };
        assert_eq!(write(Method::PUT, fields), swap, "{fields}");
    }
    assert_eq!(
        write(Method::POST, "value=x&prevIndex=3"),
        Write::Append(text)
    );
    let delete = |dir, recursive| Write::Delete { dir, recursive };
    assert_eq!(write(Method::DELETE, ""), delete(false, false));
    assert_eq!(
        write(Method::DELETE, "dir=true&recursive=true"),
        delete(true, true)
    );
    let deleted = Write::DeleteExpected(expected("y", 0));
    assert_eq!(write(Method::DELETE, "prevValue=y"), deleted);
}

#[test]
fn deadlines_that_cannot_be_told_never_come() {
    assert_eq!(deadline(NOW, 0), NOW);
    assert_eq!(deadline(0, 0), 1);
    for seconds in [u64::MAX, 1 << 62, 9_000_000_000] {
        assert_eq!(deadline(NOW, seconds), 0, "{seconds}");
    }
}

#[test]
fn mistakes() {
    let refused = |method, fields: &str| read(method, "/a", fields).expect_err("a mistake");
    for (fields, code, cause) in [
        (
            "prevIndex=x",
            Code::IndexNaN,
            r#"invalid value for "prevIndex""#,
        ),
        (
            "prevIndex=-1",
            Code::IndexNaN,
            r#"invalid value for "prevIndex""#,
        ),
        (
            "prevIndex=",
            Code::IndexNaN,
            r#"invalid value for "prevIndex""#,
        ),
        (
            "waitIndex=1.5",
            Code::IndexNaN,
            r#"invalid value for "waitIndex""#,
        ),
        (
            "recursive",
            Code::InvalidField,
            r#"invalid value for "recursive""#,
        ),
        (
            "sorted=yes",
            Code::InvalidField,
            r#"invalid value for "sorted""#,
        ),
        ("dir=2", Code::InvalidField, r#"invalid value for "dir""#),
        (
            "stream=x",
            Code::InvalidField,
            r#"invalid value for "stream""#,
        ),
        (
            "wait=true",
            Code::InvalidField,
            r#""wait" can only be used with GET requests"#,
        ),
        (
            "prevValue=",
            Code::PrevValueRequired,
            r#""prevValue" cannot be empty"#,
        ),
        ("ttl=x", Code::TtlNaN, r#"invalid value for "ttl""#),
        ("ttl=-1", Code::TtlNaN, r#"invalid value for "ttl""#),
        (
            "prevExist=x",
            Code::InvalidField,
            "invalid value for prevExist",
        ),
        ("refresh=", Code::InvalidField, "invalid value for refresh"),
        (
            "refresh=true&value=x&ttl=5",
            Code::RefreshValue,
            "A value was provided on a refresh",
        ),
        ("refresh=true", Code::RefreshTtlRequired, "No TTL value set"),
    ] {
        let expected = (code, cause.to_owned());
        assert_eq!(refused(Method::PUT, fields), expected, "{fields}");
    }
    let deep = format!("/{}", vec!["x"; MAX_DEPTH + 1].join("/"));
    let (code, cause) = read(Method::GET, &deep, "").expect_err("too deep");
    assert_eq!(code, Code::InvalidField);
    assert_eq!(cause, "the key has 257 levels, 256 is the most");
    let long = format!("/{}", "x".repeat(MAX_LENGTH));
    let (code, cause) = read(Method::GET, &long, "").expect_err("too long");
    assert_eq!(code, Code::InvalidField);
    assert_eq!(cause, "the key has 16385 bytes, 16384 is the most");
}
