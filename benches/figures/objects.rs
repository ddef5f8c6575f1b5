//! Objects: capture against a bare list, restore against bare creates; and what one of many costs against one of few.
//!
//! `REPRISE_BENCH_OBJECTS=10000,100000,300000` says how many mixed objects there are each time. 300,000 take a quarter of
//! an hour, and are not among those that are taken by themselves.
//!
//! Each run is a process of its own, this program with another task, so that its memory is its own; the task says
//! itself how long it took, without the start of the process and the first connection.

use std::{
    fs::File,
    ops::ControlFlow,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Client,
    api::{ListParams, PostParams},
    core::Request,
};
use reprise::capture::{
    apply::{self, Options},
    bundle::Bundle,
    collect::{self, Limits},
    select::Selection,
};
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, client},
    process::{Run, measure},
    report::{Figure, Runs},
    volumes::Noise,
};

/// How often each is run.
const ROUNDS: usize = 3;
/// Objects.
const COUNT: usize = 10_000;
/// Creates that are on their way at once: as many as a restore's.
const IN_FLIGHT: usize = 32;
/// How many mixed objects there are, unless `REPRISE_BENCH_OBJECTS` says otherwise.
const MIXED: &str = "10000,100000";
/// The first argument of a process that does a task.
const TASK: &str = "task";

/// Measures everything about objects.
///
/// # Errors
/// When something cannot be run, or is not as it should be.
pub async fn measure_all(folder: &Path) -> Result<Vec<Figure>> {
    let cluster = Cluster::start(folder).await?;
    let bundle = folder.join("bundle");
    let config = cluster.of_bench();
    let run = async |task: &str, namespace: &str| -> Result<(f64, Run)> {
        let program = std::env::current_exe().context("our own path")?;
        let command = [
            program.as_os_str(),
            TASK.as_ref(),
            task.as_ref(),
            config.as_os_str(),
            namespace.as_ref(),
            bundle.as_os_str(),
        ];
        let run = measure(folder, &command, vec![]).await?;
        let seconds: f64 = run.output.trim().parse().with_context(|| format!("{task} said {:?}", run.output))?;
        eprintln!("objects: {task} {namespace}: {seconds:.2} s, peak {:.0} MiB", run.peak_mib);
        Ok((seconds, run))
    };
    let [mut creates, mut lists, mut captures, mut restores] = [(); 4].map(|()| Runs::default());
    let bare = |round: usize| format!("bare-{round}");
    let pair = |runs: &mut Runs, (seconds, run): (f64, Run)| runs.add(seconds, Some(run.peak_mib));
    // The first creates make what is captured.
    let first = bare(0);
    pair(&mut creates, run("create", &first).await?);
    for round in 0..ROUNDS {
        pair(&mut lists, run("list", &first).await?);
        pair(&mut captures, run("capture", &first).await?);
        pair(&mut restores, run("restore", &format!("restored-{round}")).await?);
        if round > 0 {
            pair(&mut creates, run("create", &bare(round)).await?);
        }
    }
    let many = measure_many(&run).await?;
    cluster.stop().await;
    let what = "10,000 ConfigMaps of 1 KiB";
    let mut figures = vec![
        Figure::new(
            format!("objects: capture of {what}"),
            "s",
            &captures,
            "a bare list of them in pages of 500",
            &lists,
        ),
        Figure::new(format!("objects: restore of {what}"), "s", &restores, "bare creates, 32 in flight", &creates),
    ];
    figures.extend(many);
    Ok(figures)
}

/// Mixed objects, more each time: what one of them takes should stay the same.
async fn measure_many(run: &impl AsyncFn(&str, &str) -> Result<(f64, Run)>) -> Result<Vec<Figure>> {
    let sizes = std::env::var("REPRISE_BENCH_OBJECTS").unwrap_or_else(|_| MIXED.to_owned());
    let sizes: Vec<u32> = sizes
        .split(',')
        .map(|it| it.trim().parse().with_context(|| format!("REPRISE_BENCH_OBJECTS: {it:?} is no number")))
        .collect::<Result<_>>()?;
    let (mut figures, mut least) = (Vec::new(), None);
    for size in sizes {
        let namespace = format!("mixed-{size}");
        let created = run(&format!("create-mixed:{size}"), &namespace).await?;
        let captured = run(&format!("capture:{size}"), &namespace).await?;
        let restored = run(&format!("restore:{size}"), &format!("{namespace}-restored")).await?;
        let each = |(seconds, run): (f64, Run)| Runs::one(seconds * 1e6 / f64::from(size), Some(run.peak_mib));
        let (created, captured, restored) = (each(created), each(captured), each(restored));
        let (first, of_first_captured, of_first_restored) =
            least.get_or_insert_with(|| (size, captured.clone(), restored.clone()));
        let peer = format!("one of {first}");
        let name = |what: &str| format!("objects: {what} of {size} mixed objects, each");
        figures.push(Figure::new(name("capture"), "\u{b5}s", &captured, &peer, of_first_captured));
        figures.push(Figure::new(name("restore"), "\u{b5}s", &restored, &peer, of_first_restored));
        // The API server itself takes longer for each of more objects.
        let bare = format!("a bare create of one of {size}");
        figures.push(Figure::new(name("restore"), "\u{b5}s", &restored, &bare, &created));
    }
    Ok(figures)
}

/// Does a task when the arguments name one, and says whether they did.
///
/// # Errors
/// When the task fails.
pub async fn task(arguments: &[String]) -> Result<bool> {
    let [word, task, config, namespace, bundle] = arguments else { return Ok(false) };
    if word != TASK {
        return Ok(false);
    }
    let (client, bundle) = (client(config.as_ref()).await?, Path::new(bundle));
    // The connection is there before the clock runs.
    client.apiserver_version().await.context("ask the API server")?;
    let (task, count) = match task.split_once(':') {
        Some((task, count)) => (task, count.parse().context("a number of objects")?),
        None => (task.as_str(), COUNT),
    };
    let took = match task {
        "create" => create(&client, namespace, objects().into_iter()).await?,
        "create-mixed" => create(&client, namespace, (0..count).map(mixed)).await?,
        "list" => list(&client, namespace).await?,
        "capture" => capture(&client, namespace, bundle, count).await?,
        "restore" => restore(&client, namespace, bundle, count).await?,
        other => anyhow::bail!("no such task: {other}"),
    };
    println!("{}", took.as_secs_f64());
    Ok(true)
}

/// An object by its kind's name in addresses, and the body of its create.
type Body = (&'static str, Vec<u8>);

/// One of many different objects: of ten, four `ConfigMap`s, two Secrets, and workloads, Services and accounts.
fn mixed(at: usize) -> Body {
    let meta = json!({"name": format!("object-{at:06}"), "labels": {"app": format!("app-{}", at % 50)}});
    let labels = json!({"app": format!("app-{at}")});
    let text = format!("{at:x}-").repeat(60);
    let (path, object) = match at % 10 {
        0..4 => (
            "api/v1 configmaps",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"key": text}}),
        ),
        4 | 5 => (
            "api/v1 secrets",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"key": text}}),
        ),
        6 => ("api/v1 serviceaccounts", json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})),
        7 => (
            "api/v1 services",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": meta,
            "spec": {"clusterIP": "None", "selector": labels, "ports": [{"port": 80}]}}),
        ),
        _ => (
            "apis/apps/v1 deployments",
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta,
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
                "spec": {"serviceAccountName": format!("object-{:06}", at - at % 10 + 6), "containers": [{"name": "main",
                    "image": "example.com/app:1", "envFrom": [{"configMapRef": {"name": format!("object-{:06}", at - at % 10)}}]}]}}}}),
        ),
    };
    (path, object.to_string().into_bytes())
}

/// The objects of one kind, each as the body of its create.
fn objects() -> Vec<Body> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut noise = Noise(7);
    let letter = |it: u64| char::from(LETTERS[usize::try_from(it >> 58).expect("six bits")]);
    let object = |at| {
        let data: String = std::iter::repeat_with(|| letter(noise.next())).take(1024).collect();
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("config-{at:05}")}, "data": {"key": data}});
        ("api/v1 configmaps", object.to_string().into_bytes())
    };
    (0..COUNT).map(object).collect()
}

/// Makes the namespace and the objects, and does not look at the answers but for errors.
async fn create(client: &Client, namespace: &str, bodies: impl Iterator<Item = Body>) -> Result<Duration> {
    let start = Instant::now();
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}).to_string();
    let made = Request::new("/api/v1/namespaces").create(&PostParams::default(), body.into_bytes())?;
    client.request_text(made).await.context("make a namespace")?;
    let requests = bodies.map(|(path, body)| {
        let (root, plural) = path.split_once(' ').unwrap_or_default();
        Request::new(format!("/{root}/namespaces/{namespace}/{plural}")).create(&PostParams::default(), body)
    });
    stream::iter(requests)
        .map(|request| async { anyhow::Ok(client.request_text(request?).await?) })
        .buffer_unordered(IN_FLIGHT)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await
        .context("make an object")?;
    Ok(start.elapsed())
}

/// Lists the objects, and reads of each page no more than where the next one is.
async fn list(client: &Client, namespace: &str) -> Result<Duration> {
    let start = Instant::now();
    let path = Request::new(format!("/api/v1/namespaces/{namespace}/configmaps"));
    let (mut at, mut bytes) = (Some(String::new()), 0);
    while let Some(token) = at {
        let page = ListParams { limit: Some(500), continue_token: Some(token), ..ListParams::default() };
        let mut request = path.list(&page)?;
        // A capture asks for it uncompressed, too: that costs the server less.
        request.headers_mut().insert("accept-encoding", http::HeaderValue::from_static("identity"));
        let text = client.request_text(request).await.context("list the objects")?;
        bytes += text.len();
        let head = text.find(",\"items\"").context("a page has items")?;
        let head: Value = serde_json::from_str(&format!("{}}}", &text[..head])).context("the head of a page")?;
        at = head["metadata"]["continue"].as_str().map(str::to_owned).filter(|it| !it.is_empty());
    }
    ensure!(bytes > COUNT * 1024, "the list has only {bytes} bytes");
    Ok(start.elapsed())
}

async fn capture(client: &Client, namespace: &str, to: &Path, count: usize) -> Result<Duration> {
    let start = Instant::now();
    let captured =
        collect::capture(client, namespace, &Selection::default(), Limits::default()).await.context("capture")?;
    let took = start.elapsed();
    ensure!(
        captured.failed.is_empty() && captured.count == count as u64,
        "captured {}: {:?}",
        captured.count,
        captured.failed
    );
    std::io::copy(&mut captured.bundle.reader(), &mut File::create(to).context("keep the bundle")?)
        .context("keep the bundle")?;
    Ok(took)
}

async fn restore(client: &Client, namespace: &str, from: &Path, count: usize) -> Result<Duration> {
    let bundle = Bundle::from_reader(File::open(from).context("open the bundle")?).context("read the bundle")?;
    let mut found = 0_usize;
    bundle
        .visit(
            |_| true,
            |_| {
                found += 1;
                ControlFlow::Continue(())
            },
        )
        .context("read the bundle")?;
    ensure!(found == count, "the bundle has {found} objects");
    let start = Instant::now();
    let restored = apply::restore(client, namespace, &bundle, &Options::default()).await.context("restore")?;
    let took = start.elapsed();
    ensure!(restored.created == count as u64, "restored {restored:?}");
    Ok(took)
}
