//! An HTTP proxy that does harm to one request in so many, as a seed says: one connection, one request.
//!
//! What is drawn for the n-th request follows from the seed alone; which request is the n-th may differ between two runs,
//! since a client sends several at a time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The answer is late.
    Late,
    /// The connection breaks, and nothing was done.
    Reset,
    /// The connection breaks in the middle of the request.
    CutRequest,
    /// The request is carried out, and the answer is lost.
    LostReply,
    /// The connection breaks in the middle of the answer.
    CutReply,
    /// 500, and nothing was done.
    Failed,
    /// 503 `SlowDown`, with `Retry-After` or without.
    SlowDown,
    /// 429.
    TooMany,
    /// 507: the disk is full.
    Full,
    /// 200 to a read, and something that no one wrote.
    Rubbish,
    /// One bit of the answer's body is another.
    Flip,
}

const FAULTS: [Fault; 11] = [
    Fault::Late,
    Fault::Reset,
    Fault::CutRequest,
    Fault::LostReply,
    Fault::CutReply,
    Fault::Failed,
    Fault::SlowDown,
    Fault::TooMany,
    Fault::Full,
    Fault::Rubbish,
    Fault::Flip,
];

/// What is to go wrong.
#[derive(Clone, Debug)]
pub struct Plan {
    /// From which everything is drawn.
    pub seed: u64,
    /// How many of a thousand requests.
    pub permille: u32,
    /// What may happen to them.
    pub faults: Vec<Fault>,
}

impl Plan {
    /// Draws a plan: how often, and between one and all kinds of faults.
    pub fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let permille = [20, 60, 150, 300][rng.random_range(0..4)];
        let kinds = rng.random_range(1..=FAULTS.len());
        let faults = (0..kinds).map(|_| FAULTS[rng.random_range(0..FAULTS.len())]).collect();
        Self { seed, permille, faults }
    }
}

/// The proxy. It ends with this value.
pub struct Proxy {
    pub address: SocketAddr,
    done: Arc<Mutex<BTreeMap<Fault, u32>>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub async fn start(server: SocketAddr, plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let done = Arc::new(Mutex::new(BTreeMap::new()));
        let counted = done.clone();
        let task = tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(plan.seed ^ 0x5eed);
            while let Ok((client, _)) = listener.accept().await {
                let hit = !plan.faults.is_empty() && rng.random_range(0..1000) < plan.permille;
                let fault = hit.then(|| plan.faults[rng.random_range(0..plan.faults.len())]);
                if let Some(fault) = fault {
                    *counted.lock().unwrap().entry(fault).or_default() += 1;
                }
                tokio::spawn(pass(client, server, fault, rng.random()));
            }
        });
        Self { address, done, task }
    }

    /// What was done so far, and how often.
    pub fn done(&self) -> BTreeMap<Fault, u32> {
        self.done.lock().unwrap().clone()
    }
}

/// Passes one request on. Whoever goes away ends it.
async fn pass(mut client: TcpStream, server: SocketAddr, fault: Option<Fault>, luck: u32) -> Option<()> {
    let request = read_request(&mut client).await?;
    let answer = match fault {
        Some(Fault::Reset) => return None,
        Some(Fault::Late) => {
            tokio::time::sleep(Duration::from_millis(u64::from(luck % 1500))).await;
            ask(server, &request).await?
        }
        Some(Fault::CutRequest) => {
            let mut upstream = TcpStream::connect(server).await.ok()?;
            upstream.write_all(&request[..request.len() / 2]).await.ok()?;
            return None;
        }
        Some(Fault::LostReply) => {
            ask(server, &request).await?;
            return None;
        }
        Some(Fault::CutReply) => {
            let answer = ask(server, &request).await?;
            answer[..answer.len() * 2 / 3].to_vec()
        }
        Some(Fault::Failed) => error(500, "InternalError", ""),
        Some(Fault::SlowDown) => error(503, "SlowDown", if luck.is_multiple_of(2) { "Retry-After: 1\r\n" } else { "" }),
        Some(Fault::TooMany) => error(429, "TooManyRequests", "Retry-After: 1\r\n"),
        Some(Fault::Full) => error(507, "XMinioStorageFull", ""),
        // A server that says that it stored what it threw away is beyond all help.
        Some(Fault::Rubbish) if !request.starts_with(b"GET ") => ask(server, &request).await?,
        Some(Fault::Rubbish) => {
            let body = "\u{1}rubbish <not/> {\"json\": ".repeat(1 + luck as usize % 40);
            let tag = format!("ETag: \"{luck:x}\"\r\nLast-Modified: Wed, 21 Oct 2026 07:28:00 GMT\r\n");
            format!("HTTP/1.1 200 OK\r\n{tag}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
        }
        Some(Fault::Flip) => {
            let mut answer = ask(server, &request).await?;
            let body = body_of(&answer)?;
            let length = answer.len() - body;
            if length > 0 {
                answer[body + luck as usize % length] ^= 1;
            }
            answer
        }
        None => ask(server, &request).await?,
    };
    client.write_all(&answer).await.ok()?;
    client.shutdown().await.ok()
}

fn error(status: u16, code: &str, headers: &str) -> Vec<u8> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>");
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}").into()
}

/// Where the body begins.
fn body_of(message: &[u8]) -> Option<usize> {
    message.windows(4).position(|it| it == b"\r\n\r\n").map(|at| at + 4)
}

/// A whole request, changed so that the server closes the connection after it.
async fn read_request(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let body = loop {
        if let Some(at) = body_of(&message) {
            break at;
        }
        if client.read_buf(&mut message).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&message[..body]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    while message.len() < body + length.unwrap_or(0) {
        if client.read_buf(&mut message).await.ok()? == 0 {
            return None;
        }
    }
    let (closing, end) = (b"Connection: close\r\n", body - 2);
    message.splice(end..end, closing.iter().copied());
    Some(message)
}

/// The server's whole answer, up to its end.
async fn ask(server: SocketAddr, request: &[u8]) -> Option<Vec<u8>> {
    let mut upstream = TcpStream::connect(server).await.ok()?;
    upstream.write_all(request).await.ok()?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).await.ok()?;
    Some(answer)
}
