//! The lab's `MinIO` on a loopback port, with one bucket, as long as this value lives.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

pub const USER: &str = "labadmin";
pub const PASSWORD: &str = "labsecret123";

pub struct Minio {
    pub address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Drop for Minio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Minio {
    pub fn start() -> Self {
        let program = std::env::var("REPRISE_TEST_MINIO").expect("REPRISE_TEST_MINIO is the path of a MinIO binary");
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("bucket")).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(program)
            .args(["server", "--quiet", "--address", &address.to_string()])
            .arg(folder.path())
            .envs([("MINIO_ROOT_USER", USER), ("MINIO_ROOT_PASSWORD", PASSWORD)])
            .envs([("MINIO_BROWSER", "off"), ("MINIO_UPDATE", "off")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let minio = Self { address, child, _folder: folder };
        for _ in 0..150 {
            if TcpStream::connect(address).is_ok() {
                std::thread::sleep(Duration::from_secs(1));
                return minio;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("MinIO does not start");
    }
}
