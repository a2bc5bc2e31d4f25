//! HTTP/1.1 by hand: what goes out is exactly what a test wrote.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, without chunk lines.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// All values of a header, joined as HTTP does.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }
}

/// Sends a `GET` and reads the answer.
///
/// # Errors
/// If the connection fails or the answer is not HTTP.
pub fn get(port: u16, path: &str) -> io::Result<Answer> {
    request(port, "GET", path, &[], b"")
}

/// Sends a request and reads the answer.
///
/// # Errors
/// If the connection fails or the answer is not HTTP.
pub fn request(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head += &format!("Host: 127.0.0.1:{port}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || method == "POST" || method == "PUT" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    head += "Connection: close\r\n\r\n";
    let bytes = exchange(port, &[head.as_bytes(), body].concat())?;
    parse(&bytes, method == "HEAD").ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {:?}", String::from_utf8_lossy(&bytes)))
    })
}

/// Sends bytes and reads until the other side closes. A reset after the answer counts as the end.
///
/// # Errors
/// If the connection fails, or stays open and silent for a minute.
pub fn exchange(port: u16, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    // The server may answer and close before it has read everything.
    let sent = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(e) if answer.is_empty() => Err(sent.err().unwrap_or(e)),
        _ => Ok(answer),
    }
}

/// An answer that is read line by line, as it comes.
#[derive(Debug)]
pub struct Lines {
    stream: BufReader<TcpStream>,
    /// Of the head: status, headers, and no body.
    pub head: Answer,
    chunked: bool,
    /// Of the chunk that is being read.
    left: usize,
}

/// Sends a `POST` and reads the head of the answer. Its body is still to come.
///
/// # Errors
/// If the connection fails, stays silent for a minute, or the answer is not HTTP.
pub fn stream(port: u16, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Lines> {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    socket.write_all(&[head.as_bytes(), body].concat())?;
    let mut stream = BufReader::new(socket);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let head = parse(&head, true).ok_or(io::ErrorKind::InvalidData)?;
    let chunked = head.header("transfer-encoding").as_deref() == Some("chunked");
    let length = head.header("content-length").and_then(|n| n.parse().ok());
    Ok(Lines { stream, chunked, left: length.unwrap_or(0), head })
}

impl Lines {
    /// The next line, without its end; `None` at the end of the body.
    ///
    /// # Errors
    /// If the connection fails or stays silent for a minute.
    pub fn next_line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        while let Some(byte) = self.byte()? {
            match byte {
                b'\n' => return Ok(Some(String::from_utf8_lossy(&line).into_owned())),
                byte => line.push(byte),
            }
        }
        Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()))
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        if self.left == 0 && self.chunked {
            let mut size = String::new();
            while size.trim().is_empty() {
                if self.stream.read_line(&mut size)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            self.left = usize::from_str_radix(size.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
            if self.left == 0 {
                self.chunked = false;
            }
        }
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(Some(byte[0]))
    }
}

fn parse(bytes: &[u8], no_body: bool) -> Option<Answer> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: bytes[end + 4..].to_vec() };
    if answer.header("transfer-encoding").as_deref() == Some("chunked") && !no_body {
        answer.body = unchunk(&answer.body)?;
    }
    Some(answer)
}

fn unchunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(line + 2..line + 2 + size)?);
        bytes = bytes.get(line + 4 + size..)?;
    }
}
