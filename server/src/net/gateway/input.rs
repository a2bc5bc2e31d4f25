//! The JSON values of a request.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::BodyExt as _;
use tonic::Code;

use crate::json::{Bad, Values};
use crate::net::grpc::Status;
use crate::net::incoming::Incoming;
use crate::net::site::Site;

/// How many times as long as a message its JSON may be. Base64 takes a third more; names, quotes and space take more
/// than that where a message has many small parts.
const EXPANSION: usize = 8;

/// The sender went away.
#[derive(Debug)]
pub(super) struct Gone;

/// What comes, in pieces.
type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Gone>> + Send>>;

/// Takes values out of what comes.
pub(super) struct Input {
    pieces: Pieces,
    values: Values,
    max: usize,
    ended: bool,
    /// Whether what comes has no end that could be waited for.
    open: bool,
}

impl Input {
    pub(super) fn of_body(body: Incoming, site: &Site) -> Self {
        let pieces = body.into_data_stream().map(|piece| piece.map_err(|_| Gone));
        Self::new(Box::pin(pieces), site)
    }

    pub(super) fn new(pieces: Pieces, site: &Site) -> Self {
        let max = max(site);
        Self {
            pieces,
            values: Values::new(max),
            max,
            ended: false,
            open: false,
        }
    }

    /// Input that ends with its connection.
    pub(super) fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// The next value; `None` at the end.
    ///
    /// # Errors
    /// It is no JSON, or too large, or its sender went away. Nothing follows then.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            let value = match self.ended {
                false => self.values.next(),
                true => self.values.finish(),
            };
            match value.map_err(|bad| self.refused(bad))? {
                None if !self.ended => match self.pieces.next().await {
                    Some(Ok(piece)) => self.values.push(&piece),
                    Some(Err(Gone)) => {
                        return Err(Status::new(Code::Cancelled, "context canceled"));
                    }
                    None => self.ended = true,
                },
                value => return Ok(value),
            }
        }
    }

    fn refused(&self, bad: Bad) -> Status {
        match bad {
            Bad::Syntax(words) => Status::new(Code::InvalidArgument, words),
            Bad::TooLarge => {
                let max = self.max;
                let words = format!("the JSON of one request is larger than max ({max} bytes)");
                Status::new(Code::ResourceExhausted, words)
            }
        }
    }

    /// Reads what is left, so that the connection can be used again; no more of it than one value may have.
    pub(super) async fn discard(mut self) {
        if self.open {
            return;
        }
        let mut left = self.max;
        while let Some(Ok(piece)) = self.pieces.next().await {
            match left.checked_sub(piece.len()) {
                Some(less) => left = less,
                None => return,
            }
        }
    }
}

/// Bytes that one value may have.
pub(super) fn max(site: &Site) -> usize {
    site.max_receive_bytes.saturating_mul(EXPANSION)
}
