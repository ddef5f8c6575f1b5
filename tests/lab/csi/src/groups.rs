//! Group snapshots. A member is a snapshot like others, called GROUP.VOLUME; nothing else is kept of a group.
//!
//! The members are taken one right after the other, after a sync that leaves little to be written between them: btrfs has no
//! instant for several subvolumes. Each tells its own time, so that nobody takes it for one.
use std::{collections::BTreeSet, fs};
use tonic::{Request, Response, Status};
use crate::{Driver, Reply, csi::{group_controller_server::GroupController, *}, internal};

/// The group that a snapshot is a member of.
pub fn group_of(snapshot: &str) -> Option<&str> { snapshot.split_once('.').map(|(group, _)| group) }

impl Driver {
    fn members(&self, group: &str) -> Vec<Snapshot> {
        self.snapshots(&ListSnapshotsRequest::default()).into_iter().filter(|s| s.group_snapshot_id == group).collect()
    }

    /// Its members, which must be those that the caller knows of.
    fn known(&self, group: &str, ids: &[String]) -> Result<Vec<Snapshot>, Status> {
        if group.is_empty() { return Err(Status::invalid_argument("the group's id is missing")); }
        let members = self.members(group);
        let there: BTreeSet<&str> = members.iter().map(|s| s.snapshot_id.as_str()).collect();
        let known: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
        if !there.is_subset(&known) { return Err(Status::invalid_argument(format!("{group} has the members {there:?}, and not {known:?}"))); }
        Ok(members)
    }
}

fn whole(group: &str, snapshots: Vec<Snapshot>) -> Option<VolumeGroupSnapshot> {
    let first = snapshots.iter().filter_map(|s| s.creation_time).min_by_key(|t| (t.seconds, t.nanos));
    Some(VolumeGroupSnapshot { group_snapshot_id: group.into(), creation_time: first, ready_to_use: true, snapshots })
}

#[tonic::async_trait]
impl GroupController for Driver {
    async fn group_controller_get_capabilities(&self, _: Request<GroupControllerGetCapabilitiesRequest>) -> Reply<GroupControllerGetCapabilitiesResponse> {
        use group_controller_service_capability::{Rpc, Type, rpc::Type as T};
        let groups = self.snapshots.then(|| GroupControllerServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: T::CreateDeleteGetVolumeGroupSnapshot as i32 })) });
        Ok(Response::new(GroupControllerGetCapabilitiesResponse { capabilities: groups.into_iter().collect() }))
    }

    async fn create_volume_group_snapshot(&self, r: Request<CreateVolumeGroupSnapshotRequest>) -> Reply<CreateVolumeGroupSnapshotResponse> {
        let (r, _one) = (r.into_inner(), self.one_at_a_time.lock().await);
        if !self.snapshots { return Err(Status::unimplemented("this driver takes no snapshots")); }
        if r.source_volume_ids.is_empty() { return Err(Status::invalid_argument("source volumes are missing")); }
        if r.name.contains('.') { return Err(Status::invalid_argument(format!("not a usable name: {:?}", r.name))); }
        let volumes = r.source_volume_ids.iter().map(|id| self.volume(id)).collect::<Result<Vec<_>, _>>()?;
        let there: BTreeSet<_> = self.members(&r.name).into_iter().map(|s| s.source_volume_id).collect();
        let wanted: BTreeSet<_> = r.source_volume_ids.iter().cloned().collect();
        if !there.is_subset(&wanted) { return Err(Status::already_exists(format!("{} is of the volumes {there:?}", r.name))); }
        // A half-made one is made anew: what it has is of another time.
        if there != wanted {
            let mut sources = Vec::new();
            for volume in volumes {
                let snapshot = self.snapshot(&format!("{}.{}", r.name, volume.id))?;
                snapshot.remove().await?;
                sources.push((snapshot, volume.existing()?.bytes, volume));
            }
            let root = fs::File::open(&self.root).map_err(internal("the volumes"))?;
            tokio::task::spawn_blocking(move || rustix::fs::syncfs(root)).await.map_err(|e| Status::internal(e.to_string()))?
                .map_err(|e| internal("the volumes")(e.into()))?;
            for (snapshot, bytes, volume) in sources {
                snapshot.make(Some(&volume.data), true, false, bytes, &volume.id).await?;
            }
        }
        Ok(Response::new(CreateVolumeGroupSnapshotResponse { group_snapshot: whole(&r.name, self.members(&r.name)) }))
    }

    async fn delete_volume_group_snapshot(&self, r: Request<DeleteVolumeGroupSnapshotRequest>) -> Reply<DeleteVolumeGroupSnapshotResponse> {
        let (r, _one) = (r.into_inner(), self.one_at_a_time.lock().await);
        self.known(&r.group_snapshot_id, &r.snapshot_ids)?;
        // Not only those that are listed: a caller that gave up waiting left one half removed.
        for id in r.snapshot_ids.iter().filter(|id| group_of(id) == Some(&r.group_snapshot_id)) { self.snapshot(id)?.remove().await?; }
        Ok(Response::new(Default::default()))
    }

    async fn get_volume_group_snapshot(&self, r: Request<GetVolumeGroupSnapshotRequest>) -> Reply<GetVolumeGroupSnapshotResponse> {
        let r = r.into_inner();
        let members = self.known(&r.group_snapshot_id, &r.snapshot_ids)?;
        if members.is_empty() { return Err(Status::not_found(format!("no such group snapshot: {}", r.group_snapshot_id))); }
        Ok(Response::new(GetVolumeGroupSnapshotResponse { group_snapshot: whole(&r.group_snapshot_id, members) }))
    }
}
