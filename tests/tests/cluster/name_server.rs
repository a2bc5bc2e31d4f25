//! A DNS server of one zone, on port 53 of a machine made of namespaces.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use retcd_tests::net::Host;

const A: u16 = 1;
const SRV: u16 = 33;

/// What the server knows. Names have no last dot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zone {
    /// Services, with the port and host of each who has it.
    pub(crate) services: Vec<(String, Vec<(u16, String)>)>,
    pub(crate) hosts: Vec<(String, Ipv4Addr)>,
}

/// The server. Ends when dropped.
pub(crate) struct NameServer {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Makes the machine ask a server on its loopback address, and starts that.
    pub(crate) fn start(host: &Host, zone: Zone) -> Self {
        let file = host.path("/etc/resolv.conf");
        // It may be a link to somewhere else.
        let _ = std::fs::remove_file(&file);
        std::fs::write(&file, "nameserver 127.0.0.1\n").expect("the machine's own file");
        let (link, stopped) = (host.link(), Arc::new(AtomicBool::new(false)));
        let stop = stopped.clone();
        let (bound, is_bound) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            link.enter();
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).expect("the port is free");
            socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
            bound.send(()).expect("somebody waits");
            let mut buffer = [0; 512];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                if let Some(answer) = answer(&buffer[..length], &zone) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        is_bound.recv().expect("it listens");
        Self { stopped, thread: Some(thread) }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(question: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    while *question.get(at)? != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(question.get(at + 1..end)?).to_lowercase());
        at = end;
    }
    let end = at + 5;
    let kind = u16::from_be_bytes(question.get(at + 1..at + 3)?.try_into().ok()?);
    let name = labels.join(".");
    let service = zone.services.iter().find(|(service, _)| *service == name);
    let host = zone.hosts.iter().find(|(host, _)| *host == name);
    let data: Vec<Vec<u8>> = match kind {
        SRV => service.into_iter().flat_map(|(_, places)| places.iter().map(srv)).collect(),
        A => host.into_iter().map(|(_, address)| address.octets().to_vec()).collect(),
        _ => Vec::new(),
    };
    let code: u16 = if service.is_some() || host.is_some() { 0 } else { 3 };
    let mut message = question.get(..2)?.to_vec();
    // An answer with authority, to a question that wants recursion, which is available.
    let count = u16::try_from(data.len()).ok()?;
    for word in [0x8580 | code, 1, count, 0, 0] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    message.extend_from_slice(question.get(12..end)?);
    for data in data {
        let length = u16::try_from(data.len()).ok()?;
        for word in [0xc00c, kind, 1, 0, 60, length] {
            message.extend_from_slice(&word.to_be_bytes());
        }
        message.extend_from_slice(&data);
    }
    Some(message)
}

/// Priority, weight, port and host.
fn srv((port, host): &(u16, String)) -> Vec<u8> {
    let mut data = vec![0, 0, 0, 0];
    data.extend_from_slice(&port.to_be_bytes());
    for label in host.split('.') {
        data.push(u8::try_from(label.len()).expect("a label"));
        data.extend_from_slice(label.as_bytes());
    }
    data.push(0);
    data
}
