//! bootpack.
