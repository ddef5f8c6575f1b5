//! Claims whose data is not in a point: an application that names one does not start without it.

use serde_json::json;

use super::{
    child::{Run, claim_key, volume_mode},
    effect::Effect,
    point::Skipped,
    volume_restore::Seen,
};
use crate::api::mappings::Mappings;

/// Makes the claim, empty, unless there is one: that is left as it is.
#[must_use]
pub fn make(run: &Run, skipped: &Skipped, mappings: &Mappings, seen: &Seen) -> Option<Effect> {
    if seen.tenant.is_some() {
        return None;
    }
    let mut spec = json!({
        "accessModes": skipped.access_modes,
        "volumeMode": volume_mode(skipped.block),
        "resources": {"requests": {"storage": skipped.size}},
    });
    // A class that this region does not have is replaced by the region's default.
    if let Some(class) = skipped.storage_class.as_deref().filter(|_| seen.class_present) {
        spec["storageClassName"] = json!(mappings.storage_class(class));
    }
    let key = claim_key(&run.namespace, &skipped.claim);
    let mut claim = run.object(&key, &skipped.claim, json!({"spec": spec}));
    // It is the application's: what tidies up after runs must not find it.
    claim.metadata.labels = None;
    claim.metadata.annotations = None;
    Some(Effect::Apply(Box::new(claim)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::mappings::Rename, core::volume_restore::ClaimSeen};

    #[test]
    fn a_claim_without_data_is_made_of_a_class_that_is_here_and_one_that_is_there_is_left_alone() {
        let run = Run { namespace: "shop".into(), name: "run".into(), uid: "run-1".into() };
        let skipped = Skipped {
            claim: "cache".into(),
            size: "1Gi".into(),
            storage_class: Some("fast".into()),
            access_modes: vec!["ReadWriteOnce".into()],
            block: true,
            ..Skipped::default()
        };
        let class = Rename { from: "fast".into(), to: "quick".into() };
        let mappings = Mappings { storage_classes: vec![class], ..Mappings::default() };
        let made = |seen: &Seen| match make(&run, &skipped, &mappings, seen) {
            Some(Effect::Apply(it)) => {
                assert_eq!(it.data["spec"]["volumeMode"], "Block");
                Some((it.metadata.labels, it.data["spec"]["storageClassName"].clone()))
            }
            other => other.map(|it| panic!("{it:?}")),
        };
        let here = Seen { class_present: true, ..Seen::default() };
        assert_eq!(made(&here), Some((None, json!("quick"))));
        assert_eq!(made(&Seen::default()), Some((None, serde_json::Value::Null)));
        let there = Seen { tenant: Some(ClaimSeen::default()), ..here };
        assert_eq!(made(&there), None);
    }
}
