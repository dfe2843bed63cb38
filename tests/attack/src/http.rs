//! An HTTP/1.1 client that sends exactly the headers it is given: one connection for each request.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::broken::{Broken, Outcome};

/// No response takes this long; one that does fails the attack.
pub(crate) const RESPONSE_CUT_OFF: Duration = Duration::from_secs(60);

/// A response, read whole.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Response {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .next()
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn json(&self) -> Outcome<Value> {
        serde_json::from_str(&self.body)
            .map_err(|error| Broken::new(format!("{error} in the response {} {}", self.status, self.body)))
    }
}

/// A request, with the headers that every caller sends unless it replaces them.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// Several `host` headers are sent as they are; without one the address is the host.
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    pub(crate) body: &'a str,
}

impl<'a> Request<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Self {
            method: "GET",
            path,
            headers: Vec::new(),
            body: "",
        }
    }

    pub(crate) fn post(path: &'a str, body: &'a str) -> Self {
        Self {
            method: "POST",
            path,
            headers: vec![("content-type", "application/json")],
            body,
        }
    }

    pub(crate) fn header(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sends the request and reads the response.
    ///
    /// # Errors
    /// When the server does not answer: whether it did what was asked is then unknown.
    pub(crate) fn send(&self, address: SocketAddr) -> io::Result<Response> {
        let mut bytes = Vec::new();
        self.open(address)?.read_to_end(&mut bytes)?;
        parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the response was cut off"))
    }

    /// Sends the request and returns the connection, for a response that does not end by itself.
    pub(crate) fn open(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(RESPONSE_CUT_OFF))?;
        stream.set_write_timeout(Some(RESPONSE_CUT_OFF))?;
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            head += &format!("host: {address}\r\n");
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\nconnection: close\r\n\r\n", self.body.len());
        stream.write_all((head + self.body).as_bytes())?;
        Ok(stream)
    }
}

fn parse(bytes: &[u8]) -> Option<Response> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut response = Response {
        status,
        head,
        body: String::new(),
    };
    let rest = &bytes[end + 4..];
    let body = match response.header("transfer-encoding") {
        Some(_) => unchunked(rest)?,
        None => {
            let length = response
                .header("content-length")
                .and_then(|text| text.parse().ok());
            rest.get(..length.unwrap_or(rest.len()))?.to_vec()
        }
    };
    response.body = String::from_utf8_lossy(&body).into_owned();
    Some(response)
}

/// The body of a response in chunks; `None` when its last chunk is missing.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(line + 2..line + 2 + length)?);
        rest = rest.get(line + 4 + length..)?;
    }
}
