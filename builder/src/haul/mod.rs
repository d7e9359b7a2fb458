//! haul.
