//! Questions for SRV records, and answers to them. RFC 1035, RFC 2782.

const SRV: u16 = 33;
const INTERNET: u16 = 1;
const RECURSION_DESIRED: u16 = 0x0100;
const IS_ANSWER: u16 = 0x8000;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_AVAILABLE: u16 = 0x0080;
/// Bytes of a name, with the length before each label and the last, empty one.
const MAX_NAME: usize = 255;
const MAX_LABEL: usize = 63;
/// A name has no more labels than this; neither does one of many pointers to pointers.
const MAX_LABELS: usize = 128;

/// Where a service is to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Srv {
    /// Lower ones first.
    pub(crate) priority: u16,
    /// Among equal priorities, higher ones more often.
    pub(crate) weight: u16,
    pub(crate) port: u16,
    /// Without the last dot; `None`: no host could be called so.
    pub(crate) target: Option<String>,
}

/// What a server says to a question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// 0: here it is; 3: there is no such name.
    pub(super) code: u8,
    /// There is more than fits.
    pub(super) truncated: bool,
    /// It neither knows nor finds out.
    pub(super) lame: bool,
    pub(super) records: Vec<Srv>,
}

/// A question for the SRV records of an absolute name. `None`: nothing can be called so.
pub(super) fn question(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(64);
    for word in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    message.extend_from_slice(&encode(name)?);
    message.extend_from_slice(&SRV.to_be_bytes());
    message.extend_from_slice(&INTERNET.to_be_bytes());
    Some(message)
}

/// A name, with or without its last dot, as messages have it.
pub(super) fn encode(name: &str) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok()?;
        if !(1..=MAX_LABEL).contains(&label.len()) || !label.bytes().all(is_plain) {
            return None;
        }
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= MAX_NAME).then_some(bytes)
}

/// What may be in a name that is written down without escapes.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// The answer to a question. `None`: it is none, or nonsense.
pub(super) fn answer(message: &[u8], id: u16, name: &str) -> Option<Answer> {
    let mut reader = Reader { message, at: 0 };
    let flags = match (reader.word()?, reader.word()?) {
        (its_id, flags) if its_id == id && flags & IS_ANSWER != 0 => flags,
        _ => return None,
    };
    let [questions, answers] = [reader.word()?, reader.word()?];
    reader.take(4)?; // records that nobody asked for
    if questions != 1 {
        return None;
    }
    let asked = reader.name()?;
    let same = asked
        .text()?
        .eq_ignore_ascii_case(name.strip_suffix('.').unwrap_or(name));
    if !same || reader.word()? != SRV || reader.word()? != INTERNET {
        return None;
    }
    let code = (flags & 0xf) as u8;
    let truncated = flags & TRUNCATED != 0;
    let mut answer = Answer {
        code,
        truncated,
        lame: code == 0 && flags & (AUTHORITATIVE | RECURSION_AVAILABLE) == 0 && answers == 0,
        records: Vec::new(),
    };
    // Of one that is cut off, the rest is asked for again.
    if truncated {
        return Some(answer);
    }
    for _ in 0..answers {
        reader.name()?;
        let (kind, class) = (reader.word()?, reader.word()?);
        reader.take(4)?; // how long it may be kept
        let length = reader.word()?;
        let end = reader.at.checked_add(length.into())?;
        if (kind, class) == (SRV, INTERNET) {
            let (priority, weight) = (reader.word()?, reader.word()?);
            let port = reader.word()?;
            let target = reader.name()?.text();
            if reader.at != end {
                return None;
            }
            answer.records.push(Srv {
                priority,
                weight,
                port,
                target: target.filter(|target| !target.is_empty()),
            });
        } else {
            reader.take(length.into())?;
        }
    }
    Some(answer)
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

/// Labels.
struct Name<'a>(Vec<&'a [u8]>);

impl Name<'_> {
    /// Without the last dot; `None` if some of it has to be escaped.
    fn text(&self) -> Option<String> {
        let plain = self
            .0
            .iter()
            .all(|label| label.iter().copied().all(is_plain));
        let labels = self.0.iter().map(|label| String::from_utf8_lossy(label));
        plain.then(|| labels.collect::<Vec<_>>().join("."))
    }
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.message.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn word(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A name, whose end may be that of a name before it.
    fn name(&mut self) -> Option<Name<'a>> {
        let mut labels = Vec::new();
        let mut length = 1;
        let mut after = None;
        for _ in 0..MAX_LABELS {
            let first = self.take(1)?[0];
            match first >> 6 {
                0 if first == 0 => {
                    self.at = after.unwrap_or(self.at);
                    return Some(Name(labels));
                }
                0 => {
                    length += 1 + usize::from(first);
                    if length > MAX_NAME {
                        return None;
                    }
                    labels.push(self.take(first.into())?);
                }
                3 => {
                    let pointer = self.at - 1;
                    let target = u16::from_be_bytes([first & 0x3f, self.take(1)?[0]]);
                    let target = usize::from(target);
                    // Only back, so that it ends.
                    if target >= pointer {
                        return None;
                    }
                    after.get_or_insert(self.at);
                    self.at = target;
                }
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer to `question` with these records; the names are compressed as far as that goes.
    pub(in crate::discovery) fn answer_to(
        question: &[u8],
        flags: u16,
        records: &[(u16, u16, u16, &str)],
    ) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2..4].copy_from_slice(&(IS_ANSWER | RECURSION_AVAILABLE | flags).to_be_bytes());
        message[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        for (priority, weight, port, target) in records {
            message.extend_from_slice(&[0xc0, 12]);
            let target = match target {
                &"" => vec![0],
                target => encode(target).expect("a name"),
            };
            let length = 6 + target.len() as u16;
            for word in [SRV, INTERNET, 0, 60, length, *priority, *weight, *port] {
                message.extend_from_slice(&word.to_be_bytes());
            }
            message.extend_from_slice(&target);
        }
        message
    }

    const NAME: &str = "_etcd-server._tcp.example.com";

    fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Srv {
        Srv {
            priority,
            weight,
            port,
            target: Some(target.into()),
        }
    }

    #[test]
    fn a_question_is_what_the_standard_says() {
        let message = question(0x1234, "_a._tcp.b.").expect("a name");
        assert_eq!(
            message,
            b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x02_a\x04_tcp\x01b\0\0\x21\0\x01"
        );
        for name in [
            "",
            ".",
            "a..b",
            "a b",
            "ä.b",
            &"x".repeat(64),
            &"xxx.".repeat(64),
        ] {
            assert_eq!(question(1, name), None, "{name}");
        }
        assert!(question(1, &"x".repeat(63)).is_some());
    }

    #[test]
    fn records_are_read() {
        let asked = question(7, NAME).expect("a name");
        let records = [(10, 5, 2380, "a.example.com"), (0, 0, 1, "b.example.com.")];
        let found = answer(&answer_to(&asked, 0, &records), 7, NAME).expect("an answer");
        assert_eq!(found.code, 0);
        assert_eq!(
            found.records,
            [
                srv(10, 5, 2380, "a.example.com"),
                srv(0, 0, 1, "b.example.com")
            ]
        );
        // The service is decidedly not available.
        let found = answer(&answer_to(&asked, 0, &[(0, 0, 0, "")]), 7, NAME).expect("an answer");
        assert_eq!(found.records[0].target, None);
        let found = answer(&answer_to(&asked, 3, &[]), 7, NAME).expect("an answer");
        assert_eq!((found.code, found.records.len()), (3, 0));
        let cut = answer(&answer_to(&asked, TRUNCATED, &records), 7, NAME).expect("an answer");
        assert!(cut.truncated && cut.records.is_empty());
    }

    #[test]
    fn names_may_end_as_others_do() {
        let asked = question(7, NAME).expect("a name");
        let mut message = answer_to(&asked, 0, &[(1, 2, 3, "a")]);
        // "a" and then "example.com", which is in the question.
        let example = asked.len() - 4 - 13;
        assert_eq!(&asked[example..=example + 7], b"\x07example");
        message.truncate(message.len() - 1);
        message.extend_from_slice(&[0xc0, example as u8]);
        let length = message.len() - asked.len() - 12;
        message[asked.len() + 11] = length as u8;
        let found = answer(&message, 7, NAME).expect("an answer");
        assert_eq!(found.records, [srv(1, 2, 3, "a.example.com")]);
    }

    #[test]
    fn other_records_are_passed_over() {
        let asked = question(7, NAME).expect("a name");
        let mut message = answer_to(&asked, 0, &[(1, 2, 3, "a.b")]);
        message[7] = 2;
        // An alias: name, CNAME, class, time, length, a name of two bytes.
        message.extend_from_slice(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x02\xc0\x0c");
        let found = answer(&message, 7, NAME).expect("an answer");
        assert_eq!(found.records, [srv(1, 2, 3, "a.b")]);
    }

    #[test]
    fn what_answers_another_question_is_none() {
        let asked = question(7, NAME).expect("a name");
        let good = answer_to(&asked, 0, &[(1, 2, 3, "a.b")]);
        assert!(answer(&good, 7, NAME).is_some());
        assert!(answer(&good, 7, &NAME.to_uppercase()).is_some());
        assert_eq!(answer(&good, 8, NAME), None, "another id");
        assert_eq!(answer(&good, 7, "_etcd-server._tcp.example.org"), None);
        assert_eq!(answer(&asked, 7, NAME), None, "the question itself");
        for length in 0..good.len() {
            assert_eq!(answer(&good[..length], 7, NAME), None, "{length}");
        }
    }

    #[test]
    fn pointers_lead_nowhere_but_back() {
        let asked = question(7, NAME).expect("a name");
        let good = answer_to(&asked, 0, &[(1, 2, 3, "a")]);
        for (to, what) in [(good.len() - 3, "itself"), (good.len() + 9, "beyond")] {
            let mut message = good.clone();
            message.truncate(good.len() - 3);
            message.extend_from_slice(&(0xc000 | to as u16).to_be_bytes());
            message[asked.len() + 11] = 8;
            assert_eq!(answer(&message, 7, NAME), None, "{what}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_comes_in_does_harm(
            tail in proptest::collection::vec(any::<u8>(), 0..300),
            flips in proptest::collection::vec((0..200usize, any::<u8>()), 0..6),
        ) {
            let asked = question(7, NAME).expect("a name");
            let mut message = answer_to(&asked, 0, &[(1, 2, 3, "a.b"), (4, 5, 6, "c.d")]);
            message.extend_from_slice(&tail);
            for (at, byte) in flips {
                let at = at % message.len();
                message[at] = byte;
            }
            if let Some(answer) = answer(&message, 7, NAME) {
                for record in answer.records {
                    prop_assert!(record.target.is_none_or(|target| encode(&target).is_some()));
                }
            }
            let _ = super::answer(&tail, 7, NAME);
        }
    }
}
