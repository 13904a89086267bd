//! A TCP proxy that does what networks do: it delays, cuts, falls silent, and loses answers to requests
//! that have arrived.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::wait::let_pass;

/// How often a connection looks whether the fault is another one.
const LOOK: Duration = Duration::from_millis(20);

/// A side that takes nothing for this long is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(60);

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: bytes pass.
    None,
    /// What the server sends comes later by this.
    Delay(Duration),
    /// Connections are closed, and new ones too.
    Cut,
    /// Connections stay open, and nothing passes either way. It passes when the fault ends.
    HalfOpen,
    /// Requests pass; in place of an answer the connection is closed.
    DropAnswers,
}

/// A running proxy. It ends with this value.
#[derive(Debug)]
pub struct Proxy {
    /// `host:port` to connect to.
    pub endpoint: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    fault: Mutex<Fault>,
    ended: AtomicBool,
    answers_dropped: AtomicU64,
}

impl Proxy {
    /// A proxy before the server at `host:port`.
    pub fn start(upstream: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            fault: Mutex::new(Fault::None),
            ended: AtomicBool::new(false),
            answers_dropped: AtomicU64::new(0),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.ended.load(Ordering::Relaxed) {
                    return;
                }
                accepting.connect(client.unwrap());
            }
        });
        Proxy { endpoint, shared }
    }

    /// From now on this happens to all connections.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// Answers that were dropped so far.
    pub fn answers_dropped(&self) -> u64 {
        self.shared.answers_dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(&self.endpoint));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Request,
    Answer,
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    /// `None` once nothing passes any more.
    fn wait_while_silent(&self) -> Option<()> {
        while !self.ended.load(Ordering::Relaxed) {
            match self.fault() {
                Fault::HalfOpen => let_pass(LOOK),
                Fault::Cut => return None,
                Fault::None | Fault::Delay(_) | Fault::DropAnswers => return Some(()),
            }
        }
        None
    }

    fn connect(self: &Arc<Self>, client: TcpStream) {
        if self.fault() == Fault::Cut {
            return;
        }
        let Ok(server) = TcpStream::connect(&self.upstream) else { return };
        for socket in [&client, &server] {
            socket.set_nodelay(true).unwrap();
            socket.set_read_timeout(Some(LOOK)).unwrap();
            socket.set_write_timeout(Some(WRITE_LIMIT)).unwrap();
        }
        let (to_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let (requests, answers) = (self.clone(), self.clone());
        thread::spawn(move || requests.pass(client, to_server, Way::Request));
        thread::spawn(move || answers.pass(server, to_client, Way::Answer));
    }

    /// Passes bytes on until one side ends, or a fault does.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, way: Way) {
        let mut bytes = vec![0; 64 * 1024];
        while let Some(()) = self.wait_while_silent() {
            let read = match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    continue;
                }
                Err(_) => break,
            };
            // What was read just when a silence began waits like the rest.
            let Some(()) = self.wait_while_silent() else { break };
            match self.fault() {
                Fault::Delay(span) if way == Way::Answer => let_pass(span),
                Fault::DropAnswers if way == Way::Answer => {
                    self.answers_dropped.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                _ => {}
            }
            if to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        // Either side may be gone already.
        for socket in [&from, &to] {
            _ = socket.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a socket's time is real")]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Echoes each line.
    fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                thread::spawn(move || {
                    let mut bytes = [0; 64];
                    while let Ok(read) = client.read(&mut bytes) {
                        if read == 0 || client.write_all(&bytes[..read]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        endpoint
    }

    fn ask(socket: &mut TcpStream) -> std::io::Result<usize> {
        socket.write_all(b"hello")?;
        socket.read(&mut [0; 64])
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let socket = TcpStream::connect(&proxy.endpoint).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    #[test]
    fn bytes_pass_late_or_not_at_all() {
        let proxy = Proxy::start(&echo());
        let mut socket = connect(&proxy);
        assert_eq!(ask(&mut socket).unwrap(), 5);

        let started = Instant::now();
        proxy.set(Fault::Delay(Duration::from_millis(100)));
        assert_eq!(ask(&mut socket).unwrap(), 5);
        assert!(started.elapsed() >= Duration::from_millis(100));

        proxy.set(Fault::HalfOpen);
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(ask(&mut socket).is_err(), "silence");
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        proxy.set(Fault::None);
        assert_eq!(socket.read(&mut [0; 64]).unwrap(), 5, "the connection has lasted");

        proxy.set(Fault::DropAnswers);
        assert_eq!(ask(&mut socket).unwrap_or(0), 0, "closed in place of the answer");
        assert_eq!(proxy.answers_dropped(), 1);

        proxy.set(Fault::Cut);
        assert_eq!(ask(&mut connect(&proxy)).unwrap_or(0), 0);
    }
}
