//! A client of RFC 6455 that is a few lines long.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// An open websocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
    /// What the server said when it opened.
    pub head: String,
}

impl WebSocket {
    /// Opens a websocket on a loopback port; `headers` are whole lines.
    ///
    /// # Errors
    /// If the connection fails, or the server does not want one: with its answer.
    pub fn open(port: u16, path: &str, headers: &[&str]) -> io::Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for header in headers {
            request += &format!("{header}\r\n");
        }
        request += "\r\n";
        stream.write_all(request.as_bytes())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        if head.starts_with("HTTP/1.1 101") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
            return Ok(Self { stream, head });
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, head))
    }

    /// Sends a message of text.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        self.frame(1, text.as_bytes())
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn close(&mut self) -> io::Result<()> {
        self.frame(8, &1000_u16.to_be_bytes())
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        const MASK: [u8; 4] = [0x5a, 0, 0xff, 0x17];
        let mut frame = vec![0x80 | kind];
        match u16::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)? {
            length @ 0..126 => frame.push(0x80 | length.to_be_bytes()[1]),
            length => {
                frame.push(0x80 | 126);
                frame.extend(length.to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame)
    }

    /// The next message of text; `None` when the server has said goodbye or is gone.
    ///
    /// # Errors
    /// If nothing comes for a minute, or something that is no frame.
    pub fn receive(&mut self) -> io::Result<Option<String>> {
        loop {
            let mut head = [0; 2];
            match self.stream.read_exact(&mut head) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(e),
                Err(_) => return Ok(None),
                Ok(()) => {}
            }
            let length = match head[1] {
                126 => u64::from(u16::from_be_bytes(self.bytes()?)),
                127 => u64::from_be_bytes(self.bytes()?),
                length => u64::from(length),
            };
            let mut payload = vec![0; usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?];
            self.stream.read_exact(&mut payload)?;
            match head[0] {
                0x81 => return Ok(Some(String::from_utf8_lossy(&payload).into_owned())),
                0x88 => return Ok(None),
                0x89 => self.frame(10, &payload)?,
                0x8a => {}
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{head:x?}"))),
            }
        }
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
