//! For the fuzz targets.

use prost::Message as _;
use retcd_proto::raftpb;

use super::bounds::MAX_ENTRIES;
use super::{
    AppendDecoder, AppendEncoder, Decoder, Encoder, Frame, MessageDecoder, Out, Way, check,
};

/// Bytes of a hostile peer, in pieces of `step` bytes: whatever they are, both decoders give
/// messages or an error, the same ones for every `step`, and what they give can be sent on.
///
/// # Panics
/// Where that is not so.
#[doc(hidden)]
pub fn fuzz_streams(bytes: &[u8], step: usize) {
    let message = || Decoder::Message(MessageDecoder::new());
    let append = || Decoder::Append(AppendDecoder::new(1, 2));
    for new in [&message as &dyn Fn() -> Decoder, &append] {
        let (frames, error) = decode(new(), bytes, bytes.len().max(1));
        let again = decode(new(), bytes, step.max(1));
        assert_eq!((&frames, &error), (&again.0, &again.1));
        let messages: Vec<_> = frames
            .into_iter()
            .filter_map(|frame| match frame {
                Frame::Message(message) => Some(message),
                Frame::Heartbeat => None,
            })
            .collect();
        for m in &messages {
            assert!(m.entries.len() <= MAX_ENTRIES && m.responses.is_empty());
            // Either is fine.
            let _ = check(m, Way::Alone).or(check(m, Way::WithDatabase));
        }
        resend(&messages);
    }
}

fn decode(
    mut decoder: Decoder,
    bytes: &[u8],
    step: usize,
) -> (Vec<Frame>, Option<super::DecodeError>) {
    let mut frames = Vec::new();
    for mut piece in bytes.chunks(step) {
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(piece.is_empty(), "bytes are left");
    }
    (frames, None)
}

fn resend(messages: &[raftpb::Message]) {
    let mut out = Out::default();
    for m in messages {
        Encoder::Message.encode(m, &mut out);
    }
    let mut bytes = Vec::new();
    while let Some(piece) = out.pop() {
        bytes.extend_from_slice(&piece);
    }
    let (frames, error) = decode(
        Decoder::Message(MessageDecoder::new()),
        &bytes,
        bytes.len().max(1),
    );
    assert_eq!(error, None);
    let sent = messages.iter().cloned().map(Frame::Message);
    assert!(frames.into_iter().eq(sent), "another message arrived");
    // Entries on their own, in their own encoding.
    let mut encoder = AppendEncoder::default();
    for m in messages {
        encoder.encode(m, &mut out);
        for entry in &m.entries {
            let mut one = Out::default();
            one.put_entry(entry);
            let mut bytes = Vec::new();
            while let Some(piece) = one.pop() {
                bytes.extend_from_slice(&piece);
            }
            assert_eq!(&bytes[8..], entry.encode_to_vec(), "an entry");
            assert_eq!(bytes[..8], (bytes.len() as u64 - 8).to_be_bytes());
        }
    }
}
