//! Device firmware from directories and packages.
