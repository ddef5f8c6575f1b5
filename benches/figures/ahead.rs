//! Restoring ahead: from the last point to ready, in a warm standby against a cold one. By the mover alone, on the tree
//! and the storage of the volumes' figures: what the cluster takes to make pods and to bind claims is not in it.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use reprise::core::mover_task::Task;

use super::{
    report::{Figure, Runs},
    storage::Storage,
    volumes::{Pair, change, plant, size_of},
};

/// How often each is run.
const ROUNDS: usize = 3;

/// Measures it.
///
/// # Errors
/// When something cannot be run, or what is restored is not what was backed up.
pub async fn measure_all(folder: &Path) -> Result<Vec<Figure>> {
    eprintln!("ahead: making a tree of 1 GiB");
    let tree = folder.join("tree");
    plant(&tree)?;
    let (mut warm, mut same, mut cold) = (Runs::default(), Runs::default(), Runs::default());
    for _ in 0..ROUNDS {
        let folder = folder.join("round");
        fs::create_dir_all(&folder).context("make a directory")?;
        let storage = Storage::start(&folder).await?;
        let pair = Pair { folder: &folder, tree: &tree, storage: &storage, wanted: size_of(&tree)? };
        let first = backed_up(&pair, "1").await?;
        let (ahead, anew) = (folder.join("ahead"), folder.join("anew"));
        fs::create_dir(&ahead).and_then(|()| fs::create_dir(&anew)).context("make a directory to restore into")?;
        pair.move_data(&restore(&first, &ahead, &[])).await?;
        change(&tree)?;
        let last = backed_up(&pair, "2").await?;
        let (run, report) = pair.move_data(&restore(&last, &ahead, &[&first])).await?;
        eprintln!("ahead: Warm: {:.2} s, {} bytes", run.seconds, report.added_bytes);
        warm.add(run.seconds, Some(run.peak_mib));
        let (run, _) = pair.move_data(&restore(&last, &ahead, &[])).await?;
        eprintln!("ahead: all compared: {:.2} s", run.seconds);
        same.add(run.seconds, Some(run.peak_mib));
        let (run, _) = pair.move_data(&restore(&last, &anew, &[])).await?;
        eprintln!("ahead: Cold: {:.2} s", run.seconds);
        cold.add(run.seconds, Some(run.peak_mib));
        pair.check(&ahead, &ahead)?;
        pair.check(&anew, &anew)?;
        storage.stop().await;
        fs::remove_dir_all(&folder).context("remove what a round made")?;
    }
    fs::remove_dir_all(&tree).context("remove the tree")?;
    let name = "restore ahead: from the last point to ready, 1 GiB, 1 % of it new, mover alone: Warm";
    Ok(vec![
        Figure::new(name, "s", &warm, "Cold", &cold),
        Figure::new(name, "s", &warm, "the same volume when nothing is known of it", &same),
    ])
}

async fn backed_up(pair: &Pair<'_>, point: &str) -> Result<String> {
    let (_, report) = pair.move_data(&pair.backup_task(point)).await?;
    report.snapshot.context("a report of a backup names its snapshot")
}

fn restore(snapshot: &str, target: &Path, base: &[&str]) -> Task {
    Task::Restore {
        namespace: "bench".to_owned(),
        application: "tree".to_owned(),
        snapshot: snapshot.to_owned(),
        target: target.to_string_lossy().into_owned(),
        exclude: vec![],
        base: base.iter().map(|it| (*it).to_owned()).collect(),
        paths: Vec::new(),
        point: None,
    }
}
