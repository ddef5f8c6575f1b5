//! Dumps made and loaded by a mover, through a real API server.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

use super::lab::{End, Lab};
use crate::{
    core::mover_task::{Command, FAILED, Task},
    exec::{self, Place, Streams},
};

/// A namespace with one pod in a real cluster, and a vault in a directory.
struct Site {
    lab: Lab,
    client: Client,
    namespace: String,
    kubeconfig: PathBuf,
}

impl Drop for Site {
    fn drop(&mut self) {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let _ = self.lab.runtime.block_on(namespaces.delete(&self.namespace, &DeleteParams::default()));
    }
}

impl Site {
    fn new() -> Self {
        let lab = Lab::new();
        let kubeconfig: PathBuf = std::env::var("KUBECONFIG_A").expect("KUBECONFIG_A names a cluster for tests").into();
        let namespace = format!("dumps-{}", ulid::Ulid::generate().to_string().to_lowercase());
        let client = lab.runtime.block_on(async {
            let file = Kubeconfig::read_from(&kubeconfig).unwrap();
            let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
            let client = Client::try_from(config).unwrap();
            let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
            Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
            run_pod(&client, &namespace).await;
            client
        });
        Self { lab, client, namespace, kubeconfig }
    }

    fn command(script: &str) -> Command {
        Command {
            pods: [("app".to_owned(), "db".to_owned())].into(),
            container: None,
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            timeout_seconds: 20,
        }
    }

    fn dump(&self, script: &str) -> Task {
        Task::Dump {
            namespace: self.namespace.clone(),
            application: "db".to_owned(),
            host: "east".to_owned(),
            name: "orders".to_owned(),
            point: "1".to_owned(),
            command: Self::command(script),
            max_bytes: Some(100_000_000),
        }
    }

    fn load(&self, snapshot: &str, script: &str) -> Task {
        Task::Load {
            namespace: self.namespace.clone(),
            application: "db".to_owned(),
            snapshot: snapshot.to_owned(),
            into: self.namespace.clone(),
            command: Self::command(script),
            point: "1".to_owned(),
        }
    }

    fn run(&self, task: &Task) -> End {
        self.lab.run(task, |command| {
            command.env("KUBECONFIG", &self.kubeconfig);
        })
    }

    /// What a script in the pod writes.
    fn told(&self, script: &str) -> String {
        self.lab.runtime.block_on(async {
            let command = Self::command(script);
            let place = Place { namespace: &self.namespace, pods: &command.pods, container: None };
            let seat = exec::ready(&self.client, &place).await.unwrap();
            let session = exec::start(&self.client, &self.namespace, &seat, &command.command, Streams::Output).await;
            let (mut session, mut all, mut buffer) = (session.unwrap(), Vec::new(), [0; 1000]);
            loop {
                match session.read(&mut buffer).await.unwrap() {
                    0 => return String::from_utf8(all).unwrap(),
                    count => all.extend(&buffer[..count]),
                }
            }
        })
    }
}

async fn run_pod(client: &Client, namespace: &str) {
    let pod = json!({
        "metadata": {"name": "db", "labels": {"app": "db"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "db", "image": "localhost/busybox:lab", "imagePullPolicy": "Never", "command": ["sleep", "600"],
        }]},
    });
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let end = Instant::now() + Duration::from_mins(1);
    // The namespace's service account is made by a controller.
    while let Err(error) = pods.create(&PostParams::default(), &pod).await {
        assert!(Instant::now() < end, "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let labels = [("app".to_owned(), "db".to_owned())].into();
    while exec::ready(client, &Place { namespace, pods: &labels, container: None }).await.is_err() {
        assert!(Instant::now() < end, "the pod is not ready");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Passes connections on to the cluster, and cuts each off once it has brought so many bytes. The kubeconfig for it.
fn cutting(site: &Site, after: usize) -> PathBuf {
    let mut file: serde_json::Value =
        serde_yaml::from_str(&fs::read_to_string(&site.kubeconfig).unwrap()).expect("a kubeconfig");
    let cluster = &mut file["clusters"][0]["cluster"];
    let server = cluster["server"].as_str().unwrap().trim_start_matches("https://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    cluster["server"] = format!("https://{}", listener.local_addr().unwrap()).into();
    cluster["tls-server-name"] = server.rsplit_once(':').unwrap().0.into();
    let path = site.lab.folder.path().join("cutting.yaml");
    fs::write(&path, serde_json::to_string(&file).unwrap()).unwrap();
    thread::spawn(move || {
        for mut near in listener.incoming().flatten() {
            let mut far = TcpStream::connect(&server).unwrap();
            let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            thread::spawn(move || {
                let (mut buffer, mut left) = (vec![0; 64 * 1024], after);
                while let Ok(count @ 1..) = far.read(&mut buffer) {
                    let count = count.min(left);
                    left -= count;
                    if near.write_all(&buffer[..count]).is_err() || left == 0 {
                        break;
                    }
                }
                let _ = near.shutdown(std::net::Shutdown::Both);
                let _ = far.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    path
}

#[test]
#[ignore = "needs a cluster: KUBECONFIG_A=path cargo test --lib dump_in_a_pod -- --ignored"]
fn a_dump_in_a_pod_comes_back_as_it_was_and_only_a_good_one_is_kept() {
    let site = Site::new();
    site.told("head -c 60000000 /dev/urandom > /tmp/data");
    let sum = |file: &str| site.told(&format!("sha256sum < {file}"));

    let made = site.run(&site.dump("echo all is well >&2; cat /tmp/data")).done();
    let ran = made.command.clone().unwrap();
    assert_eq!((made.bytes, ran.exit_code, ran.stderr.as_str()), (60_000_000, Some(0), "all is well"));
    assert_eq!((ran.pod.as_str(), ran.started_at.is_some()), ("db", true));
    let snapshot = made.snapshot.clone().unwrap();
    // The command writes much beside, which nobody reads.
    let loaded = site
        .run(&site.load(&snapshot, "yes | head -c 9000000; dd bs=64k of=/tmp/back 2>/dev/null; echo done >&2"))
        .done();
    assert_eq!((loaded.bytes, loaded.command.unwrap().stderr.as_str()), (60_000_000, "done"));
    assert_eq!(sum("/tmp/back"), sum("/tmp/data"));
    let again = site.run(&site.dump("cat /tmp/data")).done();
    site.run(&site.load(again.snapshot.as_ref().unwrap(), "dd bs=64k of=/tmp/back 2>/dev/null")).done();
    assert_eq!((again.bytes, sum("/tmp/back")), (60_000_000, sum("/tmp/data")));
    assert!(again.added_bytes < 200_000, "what is stored already is not stored again: {}", again.added_bytes);

    let bad = |task: &Task, words: &str, code: Option<i32>| {
        let end = site.run(task);
        let ran = end.report.command.clone().unwrap_or_default();
        assert_eq!((end.code, &end.report.snapshot, ran.exit_code), (Some(FAILED.into()), &None, code), "{end:?}");
        assert!(end.report.error.as_ref().unwrap().contains(words), "{words}: {:?}", end.report);
    };
    bad(&site.dump("head -c 5000000 /tmp/data; echo no space >&2; exit 3"), "ended with 3: no space", Some(3));
    bad(&site.dump("sleep 60"), "was not done within 20 s", None);
    bad(&site.dump("cat /tmp/data /tmp/data"), "more than maxBytes", None);
    bad(&site.load(&snapshot, "head -c 1000 > /dev/null; echo full >&2; exit 4"), "ended with 4: full", Some(4));
    // One that reads nothing and ends with 0: the connection says so at once, or never.
    let end = site.run(&site.load(&snapshot, "exit 0"));
    let said = end.report.error.clone().unwrap_or_default();
    assert_eq!(end.code, Some(FAILED.into()), "{end:?}");
    assert!(said.contains("before it had") || said.contains("was not done within 20 s"), "{said}");
    let mut task = site.dump("true");
    let Task::Dump { command, .. } = &mut task else { panic!() };
    command.command = vec!["no-such-program".to_owned()];
    bad(&task, "no-such-program: not found", Some(127));
    let Task::Dump { command, .. } = &mut task else { panic!() };
    command.pods = [("app".to_owned(), "nothing".to_owned())].into();
    bad(&task, "app=nothing is running and ready", None);
}

#[test]
#[ignore = "needs a cluster: KUBECONFIG_A=path cargo test --lib dump_in_a_pod -- --ignored"]
fn a_dump_in_a_pod_whose_connection_is_cut_is_never_a_good_one() {
    let site = Site::new();
    site.told("head -c 20000000 /dev/urandom > /tmp/data");
    for (after, script) in [(3_000_000, "cat /tmp/data"), (100_000, "head -c 200000 /tmp/data; sleep 10")] {
        let kubeconfig = cutting(&site, after);
        let end = site.lab.run(&site.dump(script), |command| {
            command.env("KUBECONFIG", kubeconfig);
        });
        assert_eq!((end.code, &end.report.snapshot), (Some(FAILED.into()), &None), "{end:?}");
        assert!(
            end.report.error.as_ref().unwrap().contains("the connection to the command in pod db broke off"),
            "{:?}",
            end.report
        );
    }
}
