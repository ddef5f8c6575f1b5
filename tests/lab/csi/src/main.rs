//! labcsi: a CSI driver whose volumes are btrfs subvolumes.
//!
//! `labcsi NAME SOCKET ROOT NODE [--without-snapshots]` serves Identity, Controller, GroupController, Node and the
//! kubelet's plugin registration on one unix socket, as the driver NAME. Put SOCKET in the kubelet's plugins_registry folder and no node-driver-registrar is needed. Its
//! name must hold an `@`: the kubelet sends the socket path, `/` as `%2F`, as the HTTP/2 :authority, and the http
//! crate takes a `%` only in the userinfo before an `@` (PROTOCOL_ERROR otherwise).
//! A block volume is a loop device on the file `disk` in its subvolume.
//! On disk: ROOT/{volumes,snapshots}/ID/data is the subvolume, .../ID/meta ("BYTES SOURCE") is written last,
//! so an ID without meta is a half-made one and is made again on the CO's retry.
use std::{fs, io, os::unix::fs::{FileTypeExt, MetadataExt}, path::{Path, PathBuf}, process::ExitCode, sync::Arc, time::SystemTime};
use rustix::{io::Errno, mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount}};
use tokio::{process::Command, signal::unix::{SignalKind, signal}, sync::Mutex};
use tonic::{Request, Response, Status};

#[allow(clippy::all)]
mod csi { tonic::include_proto!("csi.v1"); }
mod reg { tonic::include_proto!("pluginregistration"); }
mod groups;
use csi::{controller_server::*, group_controller_server::GroupControllerServer, identity_server::*, node_server::*, *};

const DEFAULT_BYTES: i64 = 1 << 30;
type Reply<T> = Result<Response<T>, Status>;

#[derive(Clone)]
struct Driver { name: String, snapshots: bool, root: PathBuf, node: String, one_at_a_time: Arc<Mutex<()>> }

/// A volume or a snapshot on disk.
struct Item { id: String, dir: PathBuf, data: PathBuf }
struct Meta { bytes: i64, source: String, made: SystemTime }

fn internal(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Status {
    move |e| Status::internal(format!("{what}: {e}"))
}

async fn run(program: &str, args: &[&str], path: &[&Path]) -> Result<String, Status> {
    let out = Command::new(program).args(args).args(path).output().await.map_err(internal(program))?;
    if out.status.success() { return Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned()); }
    Err(Status::internal(format!("{program} {args:?} {path:?}: {}", String::from_utf8_lossy(&out.stderr).trim())))
}

async fn btrfs(args: &[&str], path: &[&Path]) -> Result<(), Status> {
    run("btrfs", &[&["-q"], args].concat(), path).await.map(|_| ())
}

/// The loop device that was mounted over this file, if one was.
fn loop_at(target: &Path) -> Option<PathBuf> {
    let meta = fs::metadata(target).ok().filter(|m| m.file_type().is_block_device())?;
    Some(format!("/dev/loop{}", rustix::fs::minor(meta.rdev())).into())
}

impl Item {
    fn meta(&self) -> Option<Meta> {
        let file = self.dir.join("meta");
        let text = fs::read_to_string(&file).ok()?;
        let (bytes, source) = text.trim_end().split_once(' ')?;
        Some(Meta { bytes: bytes.parse().ok()?, source: source.into(), made: fs::metadata(&file).ok()?.modified().ok()? })
    }

    fn existing(&self) -> Result<Meta, Status> {
        self.meta().ok_or_else(|| Status::not_found(format!("no such volume or snapshot: {}", self.id)))
    }

    fn disk(&self) -> PathBuf { self.data.join("disk") }

    /// An empty subvolume, or a snapshot of `from`; a half-made one is thrown away first.
    async fn make(&self, from: Option<&Path>, read_only: bool, block: bool, bytes: i64, source: &str) -> Result<Meta, Status> {
        self.remove().await?;
        fs::create_dir_all(&self.dir).map_err(internal(&self.id))?;
        match (from, read_only) {
            (None, _) => btrfs(&["subvolume", "create"], &[&self.data]).await?,
            (Some(from), true) => btrfs(&["subvolume", "snapshot", "-r"], &[from, &self.data]).await?,
            (Some(from), false) => btrfs(&["subvolume", "snapshot"], &[from, &self.data]).await?,
        }
        // What the file system keeps of a full disk needs room, too.
        let limit = if block { bytes + bytes / 64 + (16 << 20) } else { bytes };
        if !read_only { btrfs(&["qgroup", "limit", &limit.to_string()], &[&self.data]).await?; }
        if block && !read_only {
            let disk = fs::OpenOptions::new().write(true).create(true).truncate(false).open(self.disk());
            disk.and_then(|d| d.set_len(bytes as u64)).map_err(internal(&self.id))?;
        }
        let (new, meta) = (self.dir.join("meta.new"), self.dir.join("meta"));
        fs::write(&new, format!("{bytes} {source}\n")).and_then(|()| fs::rename(&new, &meta)).map_err(internal(&self.id))?;
        eprintln!("made {} of {source} bytes={bytes}", self.dir.display());
        self.existing()
    }

    async fn remove(&self) -> Result<(), Status> {
        if !self.dir.exists() { return Ok(()); }
        let _ = fs::remove_file(self.dir.join("meta"));
        if self.data.exists() { btrfs(&["subvolume", "delete"], &[&self.data]).await?; }
        eprintln!("removed {}", self.dir.display());
        fs::remove_dir_all(&self.dir).map_err(internal(&self.id))
    }

    /// Whether it is mounted anywhere: field 4 of the mount table is the subvolume's path on the file system.
    fn mounted(&self) -> io::Result<bool> {
        let end = format!("/{}/data", self.id);
        Ok(fs::read_to_string("/proc/self/mountinfo")?.lines().any(|l| l.split(' ').nth(3).is_some_and(|p| p.ends_with(&end))))
    }

    fn as_snapshot(&self, m: Meta) -> Snapshot {
        Snapshot { snapshot_id: self.id.clone(), source_volume_id: m.source, size_bytes: m.bytes,
            creation_time: Some(m.made.into()), ready_to_use: true,
            group_snapshot_id: groups::group_of(&self.id).unwrap_or_default().into() }
    }
}

impl Driver {
    fn item(&self, kind: &str, id: &str) -> Result<Item, Status> {
        if id.is_empty() { return Err(Status::invalid_argument(format!("{kind}: the name or id is missing"))); }
        if id.starts_with('.') || id.len() > 200 || id.contains(['/', '\0', '\n']) {
            return Err(Status::invalid_argument(format!("{kind}: not a usable name: {id:?}")));
        }
        let dir = self.root.join(kind).join(id);
        Ok(Item { id: id.into(), data: dir.join("data"), dir })
    }
    fn volume(&self, id: &str) -> Result<Item, Status> { self.item("volumes", id) }
    fn snapshot(&self, id: &str) -> Result<Item, Status> { self.item("snapshots", id) }

    fn snapshots(&self, r: &ListSnapshotsRequest) -> Vec<Snapshot> {
        let mut ids: Vec<_> = fs::read_dir(self.root.join("snapshots")).into_iter().flatten().flatten()
            .filter_map(|e| e.file_name().into_string().ok()).collect();
        ids.sort();
        ids.iter().filter(|id| r.snapshot_id.is_empty() || r.snapshot_id == **id)
            .filter_map(|id| { let s = self.snapshot(id).ok()?; let m = s.meta()?; Some(s.as_snapshot(m)) })
            .filter(|s| r.source_volume_id.is_empty() || r.source_volume_id == s.source_volume_id).collect()
    }
}

/// Whether it is a block volume; every access mode works on a cluster of one node.
fn check(caps: &[VolumeCapability]) -> Result<bool, Status> {
    use volume_capability::AccessType::{Block, Mount};
    if caps.is_empty() { return Err(Status::invalid_argument("volume capabilities are missing")); }
    if caps.iter().all(|c| matches!(c.access_type, Some(Mount(_)))) { return Ok(false); }
    if caps.iter().all(|c| matches!(c.access_type, Some(Block(_)))) { return Ok(true); }
    Err(Status::invalid_argument("a volume is mounted or a block device, and not both"))
}

#[tonic::async_trait]
impl reg::registration_server::Registration for Driver {
    async fn get_info(&self, _: Request<reg::InfoRequest>) -> Reply<reg::PluginInfo> {
        // An empty endpoint tells the kubelet that CSI is served on the registration socket itself.
        Ok(Response::new(reg::PluginInfo { r#type: "CSIPlugin".into(), name: self.name.clone(), endpoint: String::new(),
            supported_versions: vec!["1.0.0".into()] }))
    }
    async fn notify_registration_status(&self, r: Request<reg::RegistrationStatus>) -> Reply<reg::RegistrationStatusResponse> {
        eprintln!("kubelet: {:?}", r.get_ref());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl Identity for Driver {
    async fn get_plugin_info(&self, _: Request<GetPluginInfoRequest>) -> Reply<GetPluginInfoResponse> {
        Ok(Response::new(GetPluginInfoResponse { name: self.name.clone(), vendor_version: env!("CARGO_PKG_VERSION").into(), ..Default::default() }))
    }
    async fn get_plugin_capabilities(&self, _: Request<GetPluginCapabilitiesRequest>) -> Reply<GetPluginCapabilitiesResponse> {
        use plugin_capability::{Service, Type, service};
        let services = [service::Type::ControllerService, service::Type::GroupControllerService];
        let offered = services.into_iter().filter(|s| self.snapshots || *s != service::Type::GroupControllerService);
        Ok(Response::new(GetPluginCapabilitiesResponse { capabilities: offered.map(|s|
            PluginCapability { r#type: Some(Type::Service(Service { r#type: s as i32 })) }).collect() }))
    }
    async fn probe(&self, _: Request<ProbeRequest>) -> Reply<ProbeResponse> {
        Ok(Response::new(ProbeResponse { ready: Some(self.root.join("volumes").is_dir()) }))
    }
}

#[tonic::async_trait]
impl Controller for Driver {
    async fn controller_get_capabilities(&self, _: Request<ControllerGetCapabilitiesRequest>) -> Reply<ControllerGetCapabilitiesResponse> {
        use controller_service_capability::{Rpc, Type, rpc::Type as T};
        let types = [T::CreateDeleteVolume, T::CreateDeleteSnapshot, T::ListSnapshots, T::CloneVolume, T::SingleNodeMultiWriter];
        let offered = types.into_iter().filter(|t| self.snapshots || !matches!(t, T::CreateDeleteSnapshot | T::ListSnapshots));
        Ok(Response::new(ControllerGetCapabilitiesResponse { capabilities: offered.map(|t|
            ControllerServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: t as i32 })) }).collect() }))
    }

    async fn create_volume(&self, r: Request<CreateVolumeRequest>) -> Reply<CreateVolumeResponse> {
        use volume_content_source::Type;
        let (r, _one) = (r.into_inner(), self.one_at_a_time.lock().await);
        let volume = self.volume(&r.name)?;
        let block = check(&r.volume_capabilities)?;
        let (from, source) = match r.volume_content_source.as_ref().and_then(|s| s.r#type.as_ref()) {
            None => (None, "nothing".into()),
            Some(Type::Snapshot(s)) => (Some(self.snapshot(&s.snapshot_id)?), format!("snapshot {}", s.snapshot_id)),
            Some(Type::Volume(v)) => (Some(self.volume(&v.volume_id)?), format!("volume {}", v.volume_id)),
        };
        let range = r.capacity_range.unwrap_or_default();
        let limit = if range.limit_bytes > 0 { range.limit_bytes } else { i64::MAX };
        let meta = match volume.meta() {
            Some(m) if m.source != source => return Err(Status::already_exists(format!("{} was made from {}", r.name, m.source))),
            Some(m) if m.bytes < range.required_bytes || m.bytes > limit =>
                return Err(Status::already_exists(format!("{} has {} bytes", r.name, m.bytes))),
            Some(m) => m,
            None => {
                let least = from.as_ref().map(Item::existing).transpose()?.map_or(0, |m| m.bytes).max(range.required_bytes);
                let bytes = if least > 0 { least } else { DEFAULT_BYTES.min(limit) };
                if bytes > limit { return Err(Status::out_of_range(format!("{bytes} bytes needed, limit {limit}"))); }
                volume.make(from.as_ref().map(|f| f.data.as_path()), false, block, bytes, &source).await?
            }
        };
        Ok(Response::new(CreateVolumeResponse { volume: Some(Volume { volume_id: volume.id, capacity_bytes: meta.bytes,
            content_source: r.volume_content_source, ..Default::default() }) }))
    }

    async fn delete_volume(&self, r: Request<DeleteVolumeRequest>) -> Reply<DeleteVolumeResponse> {
        let _one = self.one_at_a_time.lock().await;
        self.volume(&r.get_ref().volume_id)?.remove().await?;
        Ok(Response::new(Default::default()))
    }

    async fn validate_volume_capabilities(&self, r: Request<ValidateVolumeCapabilitiesRequest>) -> Reply<ValidateVolumeCapabilitiesResponse> {
        use validate_volume_capabilities_response::Confirmed;
        let r = r.into_inner();
        let volume = self.volume(&r.volume_id)?;
        if r.volume_capabilities.is_empty() { check(&[])?; }
        volume.existing()?;
        Ok(Response::new(match check(&r.volume_capabilities) {
            Ok(_) => ValidateVolumeCapabilitiesResponse { confirmed: Some(Confirmed { volume_context: r.volume_context,
                volume_capabilities: r.volume_capabilities, parameters: r.parameters, ..Default::default() }), ..Default::default() },
            Err(e) => ValidateVolumeCapabilitiesResponse { message: e.message().into(), ..Default::default() },
        }))
    }

    async fn create_snapshot(&self, r: Request<CreateSnapshotRequest>) -> Reply<CreateSnapshotResponse> {
        let (r, _one) = (r.into_inner(), self.one_at_a_time.lock().await);
        if !self.snapshots { return Err(Status::unimplemented("this driver takes no snapshots")); }
        let (snapshot, volume) = (self.snapshot(&r.name)?, self.volume(&r.source_volume_id)?);
        let meta = match snapshot.meta() {
            Some(m) if m.source != volume.id => return Err(Status::already_exists(format!("{} is of volume {}", r.name, m.source))),
            Some(m) => m,
            None => snapshot.make(Some(&volume.data), true, false, volume.existing()?.bytes, &volume.id).await?,
        };
        Ok(Response::new(CreateSnapshotResponse { snapshot: Some(snapshot.as_snapshot(meta)) }))
    }

    async fn delete_snapshot(&self, r: Request<DeleteSnapshotRequest>) -> Reply<DeleteSnapshotResponse> {
        let _one = self.one_at_a_time.lock().await;
        let id = &r.get_ref().snapshot_id;
        if groups::group_of(id).is_some() { return Err(Status::invalid_argument(format!("{id} goes with its group only"))); }
        self.snapshot(id)?.remove().await?;
        Ok(Response::new(Default::default()))
    }

    async fn list_snapshots(&self, r: Request<ListSnapshotsRequest>) -> Reply<ListSnapshotsResponse> {
        let r = r.into_inner();
        let from: usize = match r.starting_token.as_str() {
            "" => 0,
            t => t.parse().map_err(|_| Status::aborted("starting_token is not one of this driver's"))?,
        };
        let (all, most) = (self.snapshots(&r), if r.max_entries > 0 { r.max_entries as usize } else { usize::MAX });
        let next_token = if all.len().saturating_sub(from) > most { (from + most).to_string() } else { String::new() };
        let entries = all.into_iter().skip(from).take(most).map(|s| list_snapshots_response::Entry { snapshot: Some(s) }).collect();
        Ok(Response::new(ListSnapshotsResponse { entries, next_token }))
    }
}

#[tonic::async_trait]
impl Node for Driver {
    async fn node_get_info(&self, _: Request<NodeGetInfoRequest>) -> Reply<NodeGetInfoResponse> {
        Ok(Response::new(NodeGetInfoResponse { node_id: self.node.clone(), ..Default::default() }))
    }

    async fn node_get_capabilities(&self, _: Request<NodeGetCapabilitiesRequest>) -> Reply<NodeGetCapabilitiesResponse> {
        use node_service_capability::{Rpc, Type, rpc::Type as T};
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities: vec![NodeServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: T::SingleNodeMultiWriter as i32 })) }] }))
    }

    async fn node_publish_volume(&self, r: Request<NodePublishVolumeRequest>) -> Reply<NodePublishVolumeResponse> {
        use volume_capability::access_mode::Mode;
        let (r, _one) = (r.into_inner(), self.one_at_a_time.lock().await);
        let volume = self.volume(&r.volume_id)?;
        if r.target_path.is_empty() { return Err(Status::invalid_argument("target path is missing")); }
        let block = check(r.volume_capability.as_slice())?;
        volume.existing()?;
        let target = Path::new(&r.target_path);
        if block {
            if loop_at(target).is_some() { return Ok(Response::new(Default::default())); }
            if let Some(folder) = target.parent() { fs::create_dir_all(folder).map_err(internal(&r.target_path))?; }
            fs::OpenOptions::new().write(true).create(true).truncate(false).open(target).map_err(internal(&r.target_path))?;
            let options: &[&str] = if r.readonly { &["-r", "-f", "--show"] } else { &["-f", "--show"] };
            let device = run("losetup", options, &[&volume.disk()]).await?;
            if let Err(e) = mount_bind(&device, target) {
                run("losetup", &["-d", &device], &[]).await?;
                return Err(internal(&r.target_path)(e.into()));
            }
            return Ok(Response::new(Default::default()));
        }
        fs::create_dir_all(target).map_err(internal(&r.target_path))?;
        let inode = |p: &Path| fs::metadata(p).map(|m| (m.dev(), m.ino())).map_err(internal(p.display()));
        if inode(target)? != inode(&volume.data)? {
            let single = r.volume_capability.and_then(|c| c.access_mode).is_some_and(|m| m.mode() == Mode::SingleNodeSingleWriter);
            if single && volume.mounted().map_err(internal("mountinfo"))? {
                let _ = fs::remove_dir(target);
                return Err(Status::failed_precondition(format!("{} has its single writer", volume.id)));
            }
            let mounted = mount_bind(&volume.data, target).and_then(|()| match r.readonly {
                true => mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, ""),
                false => Ok(()),
            });
            mounted.map_err(|e| internal(&r.target_path)(e.into()))?;
        }
        Ok(Response::new(Default::default()))
    }

    async fn node_unpublish_volume(&self, r: Request<NodeUnpublishVolumeRequest>) -> Reply<NodeUnpublishVolumeResponse> {
        let (r, _one) = (r.into_inner(), self.one_at_a_time.lock().await);
        self.volume(&r.volume_id)?;
        if r.target_path.is_empty() { return Err(Status::invalid_argument("target path is missing")); }
        let device = loop_at(Path::new(&r.target_path));
        match unmount(&r.target_path, UnmountFlags::empty()) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(e) => return Err(internal(&r.target_path)(e.into())),
        }
        if let Some(device) = device { run("losetup", &["-d"], &[&device]).await?; }
        let file = fs::metadata(&r.target_path).is_ok_and(|m| m.is_file());
        match if file { fs::remove_file(&r.target_path) } else { fs::remove_dir(&r.target_path) } {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(internal(&r.target_path)(e)),
            _ => Ok(Response::new(Default::default())),
        }
    }
}

async fn serve(socket: &str, driver: Driver) -> Result<(), Box<dyn std::error::Error>> {
    btrfs(&["quota", "enable"], &[&driver.root]).await?;
    for kind in ["volumes", "snapshots"] { fs::create_dir_all(driver.root.join(kind))?; }
    let _ = fs::remove_file(socket);
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(tokio::net::UnixListener::bind(socket)?);
    let mut term = signal(SignalKind::terminate())?;
    let busy = driver.one_at_a_time.clone();
    let server = tonic::transport::Server::builder()
        .add_service(reg::registration_server::RegistrationServer::new(driver.clone()))
        .add_service(IdentityServer::new(driver.clone()))
        .add_service(ControllerServer::new(driver.clone()))
        .add_service(GroupControllerServer::new(driver.clone()))
        .add_service(NodeServer::new(driver))
        .serve_with_incoming(incoming);
    // Not tonic's graceful shutdown: that waits for ever on a peer that keeps an idle connection open.
    tokio::select! {
        ended = server => ended?,
        _ = async { term.recv().await; let _last = busy.lock_owned().await; } => {}
    }
    Ok(fs::remove_file(socket)?)
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let (snapshots, [name, socket, root, node]) = (match args.get(4).map(String::as_str) {
        None => true,
        Some("--without-snapshots") => false,
        Some(_) => return usage(),
    }, match args.get(..4) {
        Some([name, socket, root, node]) => [name, socket, root, node],
        _ => return usage(),
    });
    let driver = Driver { name: name.clone(), snapshots, root: root.into(), node: node.clone(), one_at_a_time: Arc::default() };
    match serve(socket, driver).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => { eprintln!("labcsi: {e}"); ExitCode::FAILURE }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: labcsi NAME SOCKET ROOT NODE [--without-snapshots]");
    ExitCode::from(2)
}
