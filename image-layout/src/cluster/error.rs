//! What can be wrong with a `cluster.yaml`.

use std::fmt;

/// A place in the file, both numbers from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a `cluster.yaml` was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ClusterError {
    /// The file is larger than [`crate::limits::CLUSTER_YAML_BYTES`].
    #[error("the file has {0} bytes; {max} are allowed", max = crate::limits::CLUSTER_YAML_BYTES)]
    TooLarge(u64),
    /// The file is not UTF-8 or UTF-16 text.
    #[error("the file is no UTF-8 text (byte {0} is not)")]
    NotText(usize),
    /// The file holds nothing but comments.
    #[error("the file has no content")]
    Empty,
    /// No YAML, an unknown key, a value of the wrong type.
    #[error("{}{message}", at(.place))]
    Syntax {
        /// Where.
        place: Option<Place>,
        /// What.
        message: String,
    },
    /// A value that is well-formed and can't be meant.
    #[error("{}{path}: {message}", at(.place))]
    Value {
        /// Where, if it can be told.
        place: Option<Place>,
        /// Which value, `nodes[1].name`.
        path: String,
        /// What.
        message: String,
    },
}

fn at(place: &Option<Place>) -> String {
    place.map_or_else(String::new, |place| format!("{place}: "))
}
