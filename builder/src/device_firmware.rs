//! Device firmware from directories and packages.
use std::collections::BTreeMap;
use std::path::PathBuf;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct FirmwareError;
impl FirmwareError { pub fn help(&self) -> Option<String> { None } }
pub fn collect(sources: &[PathBuf]) -> Result<BTreeMap<String, Vec<u8>>, FirmwareError> { let _ = sources; Ok(BTreeMap::new()) }
