//! A stand-in for Google Cloud Storage's XML API, in this process: put, get and delete of objects with generations,
//! and nothing else. No emulator speaks that API; what the service itself does, this cannot prove.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running stub. Its objects are in memory, and it ends with the test program.
#[derive(Debug)]
pub struct GcsStub {
    /// `host:port`, by plain HTTP.
    pub endpoint: String,
}

/// Objects by path, each with its generation.
#[derive(Debug, Default)]
struct Objects {
    by_path: HashMap<String, (u64, Vec<u8>)>,
    last_generation: u64,
    ignores_conditions: bool,
}

struct Request {
    method: String,
    path: String,
    /// Zero: only if there is none.
    if_generation: Option<u64>,
    body: Vec<u8>,
}

struct Answer {
    status: &'static str,
    generation: Option<u64>,
    body: Vec<u8>,
}

impl GcsStub {
    /// Keeps the conditions of writes, as the service promises.
    pub fn start() -> GcsStub {
        Self::serve(Objects::default())
    }

    /// Writes whatever it is told to, as some gateway might.
    pub fn start_without_conditions() -> GcsStub {
        Self::serve(Objects { ignores_conditions: true, ..Objects::default() })
    }

    fn serve(objects: Objects) -> GcsStub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let objects = Arc::new(Mutex::new(objects));
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let objects = objects.clone();
                thread::spawn(move || converse(connection, &objects));
            }
        });
        GcsStub { endpoint }
    }
}

impl Objects {
    fn answer(&mut self, request: Request) -> Answer {
        let present = self.by_path.get(&request.path);
        let answer = |status, generation| Answer { status, generation, body: Vec::new() };
        match (request.method.as_str(), present) {
            ("PUT", present) => {
                let found = present.map_or(0, |(generation, _)| *generation);
                let holds = request.if_generation.is_none_or(|expected| expected == found);
                if !holds && !self.ignores_conditions {
                    return answer("412 Precondition Failed", None);
                }
                self.last_generation += 1;
                self.by_path.insert(request.path, (self.last_generation, request.body));
                answer("200 OK", Some(self.last_generation))
            }
            ("GET" | "HEAD", Some((generation, body))) => {
                Answer { status: "200 OK", generation: Some(*generation), body: body.clone() }
            }
            ("DELETE", Some(_)) => {
                self.by_path.remove(&request.path);
                answer("204 No Content", None)
            }
            ("GET" | "HEAD" | "DELETE", None) => answer("404 Not Found", None),
            _ => answer("501 Not Implemented", None),
        }
    }
}

/// Answers the requests of one connection until the client closes it.
fn converse(mut connection: TcpStream, objects: &Mutex<Objects>) {
    connection.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    while let Some(request) = read_request(&mut reader) {
        let is_head = request.method == "HEAD";
        let answer = objects.lock().unwrap().answer(request);
        let mut head = format!("HTTP/1.1 {}\r\n", answer.status);
        if let Some(generation) = answer.generation {
            let tags = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT";
            write!(head, "ETag: \"{generation}\"\r\nx-goog-generation: {generation}\r\n{tags}\r\n")
                .unwrap();
        }
        if !answer.status.starts_with("204") {
            write!(head, "Content-Length: {}\r\n", answer.body.len()).unwrap();
        }
        let mut bytes = format!("{head}\r\n").into_bytes();
        if !is_head {
            bytes.extend(answer.body);
        }
        if connection.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |wanted: &str| {
        let headers = lines[1..].iter().filter_map(|line| line.split_once(':'));
        let mut found = headers.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.next().map(|(_, value)| value.trim().parse::<u64>().unwrap())
    };
    let mut words = lines[0].split(' ').map(str::to_owned);
    let mut body = vec![0; header("content-length").unwrap_or(0) as usize];
    reader.read_exact(&mut body).ok()?;
    let if_generation = header("x-goog-if-generation-match");
    Some(Request { method: words.next()?, path: words.next()?, if_generation, body })
}
