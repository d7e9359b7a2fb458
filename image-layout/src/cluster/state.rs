//! Where k3s keeps its data.

use serde::{Deserialize, Serialize};

/// `state:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// `none` (RAM), `stick` (the rest of the flash drive), or a disk by model, serial number,
    /// size or path.
    #[serde(default = "none")]
    pub disk: String,
    /// Whether a disk that holds something may be overwritten.
    #[serde(default)]
    pub wipe: bool,
}

fn none() -> String {
    "none".to_owned()
}

impl Default for State {
    fn default() -> Self {
        State {
            disk: none(),
            wipe: false,
        }
    }
}
