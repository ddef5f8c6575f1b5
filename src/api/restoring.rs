//! What is said about a restore of objects, wherever one is asked for. Data only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of an object that is there already and says something else than the point. One that says the same is
/// left as it is, and one that is not there is made, whatever stands here.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// It is left as it is, and told as not restored.
    Skip,
    /// It is made to say what the point says. What the point says nothing of stays. This is what a failover does.
    #[default]
    Update,
    /// It is made to be what the point has and nothing else; where Kubernetes does not change it into that, it is deleted
    /// and made anew.
    Replace,
    /// Nothing at all is restored.
    Fail,
}
