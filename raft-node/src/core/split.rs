//! Appends that are too long for one message.
//!
//! The crate merges all appends to a peer that it makes in one round. For a peer that comes back
//! that is everything it lacks and may have in flight, hundreds of megabytes: nobody could send
//! that within a deadline, and the receiver would have to hold it at once.

use retcd_proto::raftpb::{Entry, Message, MessageType};

use super::MAX_SIZE_PER_MSG;

/// Adds the message to `out`; an append as several that follow each other, each with at most
/// [`MAX_SIZE_PER_MSG`] of entries, or with one entry.
pub(super) fn split(mut message: Message, out: &mut Vec<Message>) {
    let long = message.r#type() == MessageType::MsgApp
        && message.entries.iter().map(size).sum::<u64>() > MAX_SIZE_PER_MSG;
    if !long {
        out.push(message);
        return;
    }
    let entries = std::mem::take(&mut message.entries);
    let mut bytes = 0;
    let mut piece = message.clone();
    for entry in entries {
        bytes += size(&entry);
        if bytes > MAX_SIZE_PER_MSG
            && let Some(last) = piece.entries.last()
        {
            let next = Message {
                index: last.index,
                log_term: last.term,
                ..message.clone()
            };
            out.push(std::mem::replace(&mut piece, next));
            bytes = size(&entry);
        }
        piece.entries.push(entry);
    }
    out.push(piece);
}

fn size(entry: &Entry) -> u64 {
    entry.data.as_ref().map_or(0, |data| data.len() as u64)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn append(sizes: &[usize]) -> Message {
        let entries = sizes.iter().zip(8..).map(|(size, index)| Entry {
            r#type: None,
            term: Some(index / 4),
            index: Some(index),
            data: Some(vec![0; *size].into()),
        });
        Message {
            r#type: Some(MessageType::MsgApp as i32),
            term: Some(9),
            index: Some(7),
            log_term: Some(1),
            commit: Some(12),
            entries: entries.collect(),
            ..Message::default()
        }
    }

    #[test]
    fn a_long_append_becomes_several_that_follow_each_other() {
        let limit = MAX_SIZE_PER_MSG as usize;
        let cases: [(&[usize], &[usize]); 5] = [
            (&[], &[0]),
            (&[limit], &[1]),
            (&[limit / 2, limit / 2, 1], &[2, 1]),
            (&[3 * limit, 1, 2 * limit, limit], &[1, 1, 1, 1]),
            (&[limit / 4; 11], &[4, 4, 3]),
        ];
        for (sizes, counts) in cases {
            let whole = append(sizes);
            let mut out = Vec::new();
            split(whole.clone(), &mut out);
            let found: Vec<usize> = out.iter().map(|m| m.entries.len()).collect();
            assert_eq!(found, counts);
            let mut before = (whole.index, whole.log_term);
            for piece in &out {
                assert_eq!((piece.index, piece.log_term), before);
                assert_eq!((piece.term, piece.commit), (whole.term, whole.commit));
                if let Some(last) = piece.entries.last() {
                    before = (last.index, last.term);
                }
            }
            let all: Vec<Entry> = out.into_iter().flat_map(|m| m.entries).collect();
            assert_eq!(all, whole.entries);
        }
    }

    #[test]
    fn other_messages_stay_whole() {
        let proposal = Message {
            r#type: Some(MessageType::MsgProp as i32),
            entries: vec![
                Entry {
                    data: Some(Bytes::from(vec![0; MAX_SIZE_PER_MSG as usize])),
                    ..Entry::default()
                };
                3
            ],
            ..Message::default()
        };
        let mut out = Vec::new();
        split(proposal.clone(), &mut out);
        assert_eq!(out, [proposal]);
    }
}
