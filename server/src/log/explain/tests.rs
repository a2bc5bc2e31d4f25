//! The table agrees with the code and with the documentation.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// What our code does not write itself.
const FROM_ELSEWHERE: [(&str, &str); 6] = [
    // Of the system, as Rust and Go show it.
    ("permission denied", "errno 13"),
    ("no such file or directory", "errno 2"),
    ("address already in use", "errno 98"),
    ("cannot assign requested address", "errno 99"),
    ("refused", "errno 111, connection refused"),
    // Of Go's raft.
    ("is out of range [lastIndex(", "go.etcd.io/raft, log.go"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All Rust code that runs in a member, without tests, and without the table itself.
fn sources() -> Vec<(PathBuf, String)> {
    fn gather(dir: &Path, out: &mut Vec<(PathBuf, String)>) {
        let mut entries: Vec<_> = fs::read_dir(dir)
            .expect("readable")
            .map(|entry| entry.expect("entry").path())
            .collect();
        entries.sort();
        for path in entries {
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                if name != "tests" {
                    gather(&path, out);
                }
            } else if name.ends_with(".rs") && name != "tests.rs" && name != "explain.rs" {
                let text = fs::read_to_string(&path).expect("UTF-8");
                let text = text
                    .split("\n#[cfg(test)]\nmod tests {")
                    .next()
                    .unwrap_or_default();
                out.push((path, text.to_owned()));
            }
        }
    }
    let mut out = Vec::new();
    for part in ["server/src", "raft-node/src", "storage/src", "tls/src"] {
        gather(&root().join(part), &mut out);
    }
    assert!(out.len() > 200, "{} files", out.len());
    out
}

/// The string literals of Rust code, as they are at run time.
fn literals(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\'', '/', 'r']) {
        rest = &rest[at..];
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            let end = raw.find("\"#").unwrap_or(raw.len());
            out.push(raw[..end].to_owned());
            (3 + end + 2).min(rest.len())
        } else if let Some(quoted) = rest.strip_prefix('"') {
            let (literal, length) = literal(quoted);
            out.push(literal);
            (1 + length).min(rest.len())
        } else if rest.starts_with("'\\") {
            // A character; its own quote may be escaped.
            rest[3..].find('\'').map_or(rest.len(), |end| 3 + end + 1)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            1
        };
        rest = &rest[skipped..];
    }
    out
}

/// The text up to the closing quote, and its length in the code.
fn literal(code: &str) -> (String, usize) {
    let mut text = String::new();
    let mut chars = code.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (text, at + 1),
            '\\' => match chars.next() {
                // The rest of the line and the begin of the next one are no part of it.
                Some((_, '\n')) => while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {},
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, other)) => text.push(other),
                None => {}
            },
            other => text.push(other),
        }
    }
    (text, code.len())
}

fn all_literals() -> Vec<String> {
    sources()
        .iter()
        .flat_map(|(_, text)| literals(text))
        .collect()
}

#[test]
fn literals_are_found() {
    let text = [
        r#"let a = "one"; // "no""#,
        r#"let b = format!("two \"#,
        r#"    words {}", '"', '\'', b"\"x\n");"#,
    ];
    let found = literals(&text.join("\n"));
    assert_eq!(found, ["one", "two words {}", "\"x\n"]);
}

#[test]
fn every_entry_is_about_a_line_that_is_written() {
    let literals = all_literals();
    let written = |part: &str| {
        part.is_empty()
            || literals.iter().any(|literal| literal.contains(part))
            || FROM_ELSEWHERE.iter().any(|(text, _)| *text == part)
    };
    for entry in ENTRIES {
        assert!(written(entry.message), "no code writes {:?}", entry.message);
        assert!(written(entry.error), "no code writes {:?}", entry.error);
    }
    for (text, _) in FROM_ELSEWHERE {
        let used = ENTRIES.iter().any(|e| e.message == text || e.error == text);
        assert!(used, "{text:?} is in no entry");
    }
}

#[test]
fn no_entry_hides_another() {
    for entry in ENTRIES {
        assert_eq!(
            explain(entry.message, entry.error),
            Some(entry.text),
            "{entry:?}"
        );
        assert!(
            entry.text.ends_with('.') && entry.text.len() < 500,
            "{entry:?}"
        );
        let next = [
            "Next",
            "Nothing to do",
            "by itself",
            "If ",
            "To let it join",
            "No discovery",
        ];
        assert!(
            next.iter().any(|words| entry.text.contains(words)),
            "{entry:?}"
        );
    }
}

/// The error lines of the tutorials (research/ecosystem 0.6), as this release writes them.
#[test]
fn the_error_lines_of_the_tutorials_are_explained() {
    for (message, error) in [
        ("ignoring peer auto TLS since certs given", ""),
        (
            "failed to get cluster response",
            "Get \"https://h:2380/members\": EOF",
        ),
        (
            "discovery failed",
            "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs",
        ),
        (
            "rejected connection on peer endpoint",
            "tls: failed to verify certificate: x509: certificate is valid for 127.0.0.1, not 10.0.0.4",
        ),
        (
            "bootstrap failed",
            "error validating peerURLs {...}: member count is unequal",
        ),
        ("server has already been initialized", ""),
        (
            "bootstrap failed",
            "member 5bbe42788a239cc6 has already been bootstrapped",
        ),
        (
            "bootstrap failed",
            "couldn't find local name \"etcd4\" in the initial cluster configuration",
        ),
        ("request cluster ID mismatch", ""),
        ("request sent was ignored due to cluster ID mismatch", ""),
        ("ignored streaming request; ID mismatch", ""),
        ("failed to find remote peer in cluster", ""),
        (
            "rejected connection on client endpoint",
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        ),
        (
            "rejected connection on client endpoint",
            "remote error: tls: bad certificate",
        ),
        (
            "rejected connection on client endpoint",
            "tls: client didn't provide a certificate",
        ),
        (
            "rejected connection on peer endpoint",
            "tls: first record does not look like a TLS handshake",
        ),
        ("rejected connection on peer endpoint", "EOF"),
        (
            "rejected connection on peer endpoint",
            "remote error: tls: bad certificate",
        ),
        (
            "rejecting member add request; not enough healthy members",
            "",
        ),
        (
            "creating peer listener failed",
            "open /etc/etcd/etcd4-peer-key.pem: permission denied",
        ),
        (
            "server error",
            "the member has been permanently removed from the cluster",
        ),
        ("data-dir used by this member must be removed", ""),
        (
            "rejected connection on client endpoint",
            "tls: failed to verify certificate: x509: certificate specifies an incompatible key usage",
        ),
        (
            "tocommit(14) is out of range [lastIndex(0)]. Was the raft log corrupted, truncated, or lost?",
            "",
        ),
    ] {
        assert!(explain(message, error).is_some(), "{message:?}, {error:?}");
    }
    assert_eq!(explain("ready to serve client requests", ""), None);
}

/// Lines of a level that the code writes: the first literal in each call.
fn lines_of(macros: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    for (_, text) in sources() {
        for name in macros {
            for (at, _) in text.match_indices(name) {
                // Not the end of a longer name, and no import.
                let before = text[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    continue;
                }
                let call = &text[at + name.len()..];
                let end = call.find(");\n").unwrap_or(call.len());
                let message = literals(&call[..end]).into_iter().next();
                out.extend(message.filter(|message| message.chars().any(char::is_alphabetic)));
            }
        }
    }
    out.sort();
    out.dedup();
    out
}

#[test]
fn every_error_line_is_in_the_documentation() {
    let page = fs::read_to_string(root().join("docs/logs.md")).expect("docs/logs.md");
    let errors = lines_of(&["error!(", "crit!(", "Level::Error,", "Level::Critical,"]);
    assert!(errors.len() > 10, "{errors:?}");
    for message in errors {
        // What a placeholder stands for differs.
        let parts = message
            .split('{')
            .map(|part| part.split_once('}').map_or(part, |(_, rest)| rest).trim());
        let part = parts.max_by_key(|part| part.len()).unwrap_or_default();
        let part: String = part.chars().take(50).collect();
        assert!(
            page.contains(&part),
            "docs/logs.md does not explain {message:?}"
        );
    }
    for entry in ENTRIES {
        assert!(
            page.contains(entry.message),
            "docs/logs.md does not have {:?}",
            entry.message
        );
    }
}
