//! YAML as etcd's library reads it: scalars resolved by the rules of YAML 1.1, so that `yes` is true and `012` is ten;
//! of several documents the first; the last of equal keys.
//!
//! Source: observed of etcd 3.7.1 (`sigs.k8s.io/yaml`), config-and-ops 4.

use std::collections::HashMap;
use std::rc::Rc;

use yaml_rust2::parser::{Event, Parser, Tag};
use yaml_rust2::scanner::{ScanError, TScalarStyle};

/// Lists and maps within each other, through anchors too; a configuration needs five.
const DEPTH: usize = 64;

/// Keys that maps get from others by `<<`, in a whole file.
const MERGED: usize = 100_000;

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    /// From 1.
    pub(super) line: usize,
    pub(super) value: Value,
    /// Lists and maps within each other, itself counted; of a scalar none.
    depth: usize,
}

impl Node {
    fn scalar(line: usize, value: Value) -> Self {
        Self {
            line,
            value,
            depth: 0,
        }
    }
}

#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// As JSON spells it.
    Number(String),
    Text(String),
    List(Vec<Rc<Node>>),
    Map(Map),
}

/// Sorted by key; its order in the file is lost on etcd, too.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) entries: std::collections::BTreeMap<String, Rc<Node>>,
    /// Keys given more than once, with the line that counts.
    pub(super) repeated: Vec<(String, usize)>,
}

/// Why a text is no YAML that means anything; as etcd says it.
#[derive(Debug, thiserror::Error)]
pub(super) enum YamlError {
    #[error("yaml: line {line}: {what}")]
    Syntax { line: usize, what: String },
    #[error("yaml: invalid map key: line {line}")]
    Key { line: usize },
    #[error("json: unsupported value: {0}")]
    NoJson(String),
    #[error("yaml: line {line}: more than {DEPTH} lists or maps within each other")]
    Deep { line: usize },
    #[error("yaml: line {line}: more than {MERGED} keys are merged from other maps")]
    Merged { line: usize },
}

impl YamlError {
    /// Where, if it is known.
    pub(super) fn line(&self) -> Option<usize> {
        match self {
            Self::Syntax { line, .. }
            | Self::Key { line }
            | Self::Deep { line }
            | Self::Merged { line } => Some(*line),
            Self::NoJson(_) => None,
        }
    }
}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> Self {
        Self::Syntax {
            line: error.marker().line(),
            what: error.info().to_owned(),
        }
    }
}

/// What a list or map that is being read has so far.
enum Open {
    List(Vec<Rc<Node>>),
    Map {
        map: Map,
        /// Read, and its value not yet.
        key: Option<(String, usize)>,
        /// Of `<<`: they fill in what the map does not have itself.
        merged: Vec<Rc<Node>>,
    },
}

struct Level {
    open: Open,
    line: usize,
    anchor: usize,
}

/// The first document of `text`; [`Value::Null`] if there is none.
pub(super) fn parse(text: &str) -> Result<Rc<Node>, YamlError> {
    read(text).map_err(|error| match error {
        YamlError::Syntax { line, .. } => match tab(text, line) {
            Some(line) => YamlError::Syntax {
                line,
                what: "found character that cannot start any token: a tab; indent with spaces"
                    .into(),
            },
            None => error,
        },
        other => other,
    })
}

/// The line that is indented with a tab, where an error is or behind it: it may be noticed as a part of the line before.
fn tab(text: &str, line: usize) -> Option<usize> {
    let indent = |text: &str| text.len() - text.trim_start().len();
    let mut lines = text
        .lines()
        .enumerate()
        .skip(line.saturating_sub(1))
        .take(2);
    let (at, _) = lines.find(|(_, text)| text[..indent(text)].contains('\t'))?;
    Some(at + 1)
}

fn read(text: &str) -> Result<Rc<Node>, YamlError> {
    let mut parser = Parser::new_from_str(text);
    let mut levels: Vec<Level> = Vec::new();
    let mut anchors: HashMap<usize, Rc<Node>> = HashMap::new();
    let mut merged = 0;
    loop {
        let (event, mark) = parser.next_token()?;
        let line = mark.line();
        let (node, anchor) = match event {
            Event::SequenceStart(anchor, _) => {
                open(&mut levels, Open::List(Vec::new()), line, anchor)?;
                continue;
            }
            Event::MappingStart(anchor, _) => {
                let map = Open::Map {
                    map: Map::default(),
                    key: None,
                    merged: Vec::new(),
                };
                open(&mut levels, map, line, anchor)?;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match levels.pop() {
                Some(level) => {
                    let node = close(level.open, level.line, &mut merged)?;
                    (node, level.anchor)
                }
                None => continue,
            },
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(text, style, tag.as_ref())?;
                (Rc::new(Node::scalar(line, value)), anchor)
            }
            // The parser knows no anchor but those it has passed. One within itself is not closed yet.
            Event::Alias(anchor) => match anchors.get(&anchor) {
                Some(node) => (Rc::clone(node), 0),
                None => {
                    let what = "an anchor contains itself".into();
                    return Err(YamlError::Syntax { line, what });
                }
            },
            Event::DocumentEnd | Event::StreamEnd => {
                let value = Value::Null;
                return Ok(Rc::new(Node::scalar(line, value)));
            }
            Event::Nothing | Event::StreamStart | Event::DocumentStart => continue,
        };
        if levels.len() + node.depth > DEPTH {
            return Err(YamlError::Deep { line });
        }
        if anchor > 0 {
            anchors.insert(anchor, Rc::clone(&node));
        }
        match levels.last_mut() {
            Some(level) => level.open.take(node, line)?,
            None => return Ok(node),
        }
    }
}

fn open(levels: &mut Vec<Level>, open: Open, line: usize, anchor: usize) -> Result<(), YamlError> {
    if levels.len() >= DEPTH {
        return Err(YamlError::Deep { line });
    }
    levels.push(Level { open, line, anchor });
    Ok(())
}

impl Open {
    fn take(&mut self, node: Rc<Node>, line: usize) -> Result<(), YamlError> {
        match self {
            Self::List(list) => list.push(node),
            Self::Map { map, key, merged } => match key.take() {
                None => *key = Some((key_text(&node.value).ok_or(YamlError::Key { line })?, line)),
                Some((name, _)) if name == "<<" => match &node.value {
                    Value::Map(_) => merged.push(node),
                    Value::List(list) => merged.extend(list.iter().map(Rc::clone)),
                    _ => {
                        let what = "map merge requires map or sequence of maps as the value".into();
                        return Err(YamlError::Syntax { line, what });
                    }
                },
                Some((name, line)) => {
                    if map.entries.insert(name.clone(), node).is_some() {
                        map.repeated.push((name, line));
                    }
                }
            },
        }
        Ok(())
    }
}

/// `merged_keys`: so far.
fn close(open: Open, line: usize, merged_keys: &mut usize) -> Result<Rc<Node>, YamlError> {
    let value = match open {
        Open::List(list) => Value::List(list),
        Open::Map {
            mut map, merged, ..
        } => {
            for node in merged {
                let Value::Map(more) = &node.value else {
                    continue;
                };
                *merged_keys += more.entries.len();
                if *merged_keys > MERGED {
                    return Err(YamlError::Merged { line });
                }
                for (key, node) in &more.entries {
                    let entry = map.entries.entry(key.clone());
                    entry.or_insert_with(|| Rc::clone(node));
                }
            }
            Value::Map(map)
        }
    };
    let deepest = match &value {
        Value::List(list) => list.iter().map(|node| node.depth).max(),
        Value::Map(map) => map.entries.values().map(|node| node.depth).max(),
        _ => None,
    };
    let depth = 1 + deepest.unwrap_or_default();
    Ok(Rc::new(Node { line, value, depth }))
}

/// A key as JSON has it, where all are texts.
fn key_text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Text(text) | Value::Number(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::Null | Value::List(_) | Value::Map(_) => return None,
    })
}

fn scalar(text: String, style: TScalarStyle, tag: Option<&Tag>) -> Result<Value, YamlError> {
    let is_text = |tag: &Tag| tag.handle == "!" || tag.suffix == "str";
    if style != TScalarStyle::Plain || tag.is_some_and(is_text) {
        return Ok(Value::Text(text));
    }
    Ok(match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Err(YamlError::NoJson("+Inf".into()));
        }
        "-.inf" | "-.Inf" | "-.INF" => return Err(YamlError::NoJson("-Inf".into())),
        ".nan" | ".NaN" | ".NAN" => return Err(YamlError::NoJson("NaN".into())),
        _ => match number(&text) {
            Some(number) => Value::Number(number),
            None => Value::Text(text),
        },
    })
}

/// An integer with a base's prefix or underscores, or a decimal fraction; as JSON spells it.
fn number(text: &str) -> Option<String> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", plain.strip_prefix('+').unwrap_or(&plain)),
    };
    // Rust's own reader of integers takes a sign after a prefix, too.
    let signed = |digits: &str| {
        digits
            .get(2..)
            .is_some_and(|rest| rest.starts_with(['+', '-']))
    };
    let integer = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x" | "0o" | "0b") if signed(digits) => None,
        Some("0x") => u64::from_str_radix(&digits[2..], 16).ok(),
        Some("0o") => u64::from_str_radix(&digits[2..], 8).ok(),
        Some("0b") => u64::from_str_radix(&digits[2..], 2).ok(),
        _ if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(digits, 8).ok(),
        _ if digits.starts_with(|c: char| c.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    };
    if let Some(integer) = integer {
        return Some(format!("{}{integer}", if integer == 0 { "" } else { sign }));
    }
    // Rust's own reader takes the words for infinity and the like, too.
    let decimal = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    let has_digit = digits.contains(|c: char| c.is_ascii_digit());
    if !digits.chars().all(decimal) || !has_digit || digits.starts_with(['+', '-']) {
        return None;
    }
    let value: f64 = format!("{sign}{digits}").parse().ok()?;
    value.is_finite().then(|| json_float(value))
}

/// Go's spelling: an exponent for what is very large or very small.
fn json_float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((digits, power)) if !power.starts_with('-') => format!("{digits}e+{power}"),
            _ => text,
        };
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> String {
        match parse(text) {
            Ok(node) => show(&node),
            Err(error) => format!("error: {error}"),
        }
    }

    fn show(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".into(),
            Value::Bool(value) => value.to_string(),
            Value::Number(number) => number.clone(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(list) => {
                let items: Vec<_> = list.iter().map(|node| show(node)).collect();
                format!("[{}]", items.join(","))
            }
            Value::Map(map) => {
                let entries = map.entries.iter();
                let entries: Vec<_> = entries
                    .map(|(k, node)| format!("{k}:{}", show(node)))
                    .collect();
                format!("{{{}}}", entries.join(","))
            }
        }
    }

    #[test]
    fn scalars_are_those_of_yaml_1_1() {
        for (text, expected) in [
            ("yes", "true"),
            ("Off", "false"),
            ("'yes'", "\"yes\""),
            ("~", "null"),
            ("", "null"),
            ("a: ", "{a:null}"),
            ("100", "100"),
            ("0x64", "100"),
            ("0o17", "15"),
            ("012", "10"),
            ("09", "9"),
            ("1_00", "100"),
            ("-5", "-5"),
            ("+5", "5"),
            ("-0", "0"),
            ("1e0", "1"),
            (".5e3", "500"),
            ("100.0", "100"),
            ("1.5", "1.5"),
            ("99999999999999999999", "100000000000000000000"),
            ("1e30", "1e+30"),
            ("18446744073709551615", "18446744073709551615"),
            ("5s", "\"5s\""),
            ("2001-01-01", "\"2001-01-01\""),
            ("1:30", "\"1:30\""),
            ("infinity", "\"infinity\""),
            ("-", "[null]"),
            ("+-5", "\"+-5\""),
            ("!!str 5", "\"5\""),
            (".inf", "error: json: unsupported value: +Inf"),
            ("http://a:1", "\"http://a:1\""),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn structures() {
        for (text, expected) in [
            ("{\"a\": [1, \"b\"]}", "{a:[1,\"b\"]}"),
            ("a: 1\na: 2\n", "{a:2}"),
            ("a: 1\n---\nb: 2\n", "{a:1}"),
            ("5: x\nyes: y", "{5:\"x\",true:true}"),
            (
                "x: &x {a: 1, b: 2}\n<<: *x\nb: 3\n",
                "{a:1,b:3,x:{a:1,b:2}}",
            ),
            ("a: &a [1]\nb: *a\n", "{a:[1],b:[1]}"),
            ("? [a]\n: b\n", "error: yaml: invalid map key: line 1"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn errors_name_the_line() {
        for (text, line) in [
            ("a: 1\n\tb: 2\n", 2),
            ("a: [b\n", 2),
            ("a: 'b\n", 1),
            ("a: b: c\n", 1),
            ("a: @x\n", 1),
            ("x: *nope\n", 1),
            ("<<: 5\n", 1),
        ] {
            let error = parse(text).expect_err(text);
            assert!(
                error.line().is_some_and(|l| l.abs_diff(line) <= 1),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn neither_depth_nor_aliases_exhaust_the_memory() {
        // The parser has a limit of its own for this notation.
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(matches!(
            parse(&"- ".repeat(10_000)),
            Err(YamlError::Deep { .. })
        ));
        let mut laughs = String::from("a0: &a0 [x]\n");
        for n in 1..60 {
            let list = format!("*a{}, ", n - 1).repeat(9);
            laughs += &format!("a{n}: &a{n} [{list}]\n");
        }
        assert!(parse(&laughs).is_ok());
        assert!(parse("a: &a [*a]\n").is_err());
        // Each within the one before.
        let mut chain = String::from("a0: &b0 [x]\n");
        for n in 1..50_000 {
            chain += &format!("a{n}: &b{n} [*b{}]\n", n - 1);
        }
        assert!(matches!(parse(&chain), Err(YamlError::Deep { .. })));
        let keys: String = (0..2000).map(|n| format!("  k{n}: x\n")).collect();
        let merges: String = (0..2000).map(|n| format!("m{n}: {{<<: *a}}\n")).collect();
        assert!(matches!(
            parse(&format!("a: &a\n{keys}{merges}")),
            Err(YamlError::Merged { .. })
        ));
    }
}
