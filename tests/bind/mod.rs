//! A real BIND 9 of the test's own, on a free port of the loopback, that ends with the test.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reprise::{
    api::dns_zone::TsigAlgorithm,
    traffic::{Provider, resolve::Resolve, rfc2136::Settings},
};
use tempfile::TempDir;

/// The zone that it serves.
pub const ZONE: &str = "demo.example";
/// The secret of `reprise-key`, which may change the zone.
pub const SECRET: &str = "dGhlIHNlY3JldCBvZiB0aGUgdGVzdCwgMzIgYnl0ZXMhIQ==";

/// A running server.
pub struct Bind {
    child: Child,
    directory: TempDir,
    /// Where it listens, for UDP and TCP.
    pub address: SocketAddr,
}

impl Bind {
    /// Starts it, and waits until it answers.
    pub fn start() -> Self {
        let directory = TempDir::new().expect("a directory for the server");
        let address = free_address();
        fs::write(directory.path().join("named.conf"), config(&directory, address.port())).unwrap();
        fs::write(directory.path().join("demo.db"), DEMO).unwrap();
        fs::write(directory.path().join("fixed.db"), FIXED).unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new("named")
            .args(["-g", "-n", "1", "-c"])
            .arg(directory.path().join("named.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("BIND 9's `named` must be in PATH: apt-get install bind9 bind9-dnsutils");
        let mut it = Self { child, directory, address };
        let end = Instant::now() + Duration::from_secs(30);
        while !it.log().contains("running") || TcpStream::connect(address).is_err() {
            let ended = it.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "named does not run:\n{}", it.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        it
    }

    /// What it said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// Settings that work.
    pub fn settings(&self) -> Settings {
        Settings {
            zone: ZONE.into(),
            server: self.address.to_string(),
            key_name: "reprise-key".into(),
            algorithm: TsigAlgorithm::HmacSha256,
            secret: SECRET.into(),
        }
    }

    /// A provider with settings that work.
    pub fn provider(&self) -> Provider {
        provider(&self.settings())
    }

    /// What `dig +short` says to a question, one line each, sorted.
    pub fn dig(&self, question: &[&str]) -> Vec<String> {
        let port = self.address.port().to_string();
        let out = Command::new("dig")
            .args(["@127.0.0.1", "-p", &port, "+short", "+tcp", "+tries=1", "+time=5"])
            .args(question)
            .output()
            .expect("`dig` must be in PATH: apt-get install bind9-dnsutils");
        let mut lines: Vec<_> = String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The serial of the zone: it rises with each change.
    pub fn serial(&self) -> String {
        self.dig(&[ZONE, "SOA"])[0].split(' ').nth(2).unwrap().to_owned()
    }

    /// Changes the zone as a person would, with `nsupdate`.
    pub fn nsupdate(&self, lines: &[&str]) {
        let script = self.directory.path().join("update");
        let text = format!("server 127.0.0.1 {}\nzone {ZONE}\n{}\nsend\n", self.address.port(), lines.join("\n"));
        fs::write(&script, text).unwrap();
        let done = Command::new("nsupdate")
            .args(["-v", "-y", &format!("hmac-sha256:reprise-key:{SECRET}")])
            .arg(&script)
            .status()
            .expect("`nsupdate` must be in PATH: apt-get install bind9-dnsutils");
        assert!(done.success());
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A provider with these settings. It looks names up nowhere.
pub fn provider(settings: &Settings) -> Provider {
    let resolve = Resolve::with_servers(&[free_address()]).unwrap();
    Provider::rfc2136(settings, resolve).unwrap()
}

/// An address of the loopback at which nobody listens.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn config(directory: &TempDir, port: u16) -> String {
    let at = directory.path().display();
    format!(
        r#"
options {{
    directory "{at}"; pid-file "{at}/pid"; session-keyfile "{at}/session"; lock-file none;
    listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
    recursion no; allow-transfer {{ 127.0.0.1; }}; notify no; dnssec-validation no;
}};
controls {{ }};
key reprise-key {{ algorithm hmac-sha256; secret "{SECRET}"; }};
key other-key {{ algorithm hmac-sha256; secret "{SECRET}"; }};
key strong-key {{ algorithm hmac-sha512; secret "{SECRET}"; }};
zone "{ZONE}" {{
    type primary; file "{at}/demo.db";
    update-policy {{ grant reprise-key zonesub ANY; grant strong-key zonesub A AAAA CNAME TXT; }};
}};
zone "fixed.example" {{ type primary; file "{at}/fixed.db"; }};
"#
    )
}

const DEMO: &str = r#"$TTL 60
@          IN SOA ns1 hostmaster 1 60 60 60 60
           IN NS ns1
ns1        IN A 127.0.0.1
hand       IN A 192.0.2.99
theirs     IN A 192.0.2.98
_reprise.theirs IN TXT "heritage=reprise,owner=other/shop/web,region=east,epoch=1"
spf        IN A 192.0.2.97
_reprise.spf IN TXT "v=spf1 -all"
mail       IN MX 10 ns1
*.wild     IN A 192.0.2.96
*.wild     IN TXT "any"
*.wild     IN MX 10 ns1
child      IN NS ns.elsewhere.example.
"#;

const FIXED: &str = "$TTL 60\n@ IN SOA ns1 hostmaster 1 60 60 60 60\n IN NS ns1\nns1 IN A 127.0.0.1\n";
