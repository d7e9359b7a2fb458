//! The stage *cluster*: k3s on this node.

pub(in crate::node) mod files;
