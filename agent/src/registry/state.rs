//! What every request sees.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::access::Access;
use super::index::Index;
use super::integrity::Integrity;
use super::layout::{Layout, LayoutError};
use super::logs::LogSource;
use super::medium::Medium;
use super::page::Lists;
use super::room::Room;
use super::status::StatusSource;

/// The registry: an index and where its bytes lie.
#[derive(Debug)]
pub(super) struct Registry {
    /// What can be asked for.
    pub(super) index: Index,
    /// Where the blobs are; none where no haul was found, and then the index is empty.
    pub(super) layout: Arc<Option<Layout>>,
    /// How blobs are read.
    pub(super) medium: Arc<Medium>,
    /// Which blobs are damaged, as far as is known.
    pub(super) integrity: Arc<Integrity>,
    /// What `/status` says.
    pub(super) status: StatusSource,
    /// What `/logs/` serves; none where the registry is no node's.
    pub(super) logs: Option<LogSource>,
    /// Parts of the page that never change, made when the first person looks.
    lists: OnceLock<Lists>,
    /// Who may read.
    pub(super) access: Arc<Access>,
    /// For answers that are made for a request.
    pub(super) room: Room,
}

impl Registry {
    /// Indexes a layout; also says how long that took.
    pub(super) fn over(
        layout: Layout,
        status: StatusSource,
    ) -> Result<(Registry, Duration), LayoutError> {
        let started = Instant::now();
        let catalog = layout.catalog()?;
        let index = Index::build(catalog, &layout);
        let registry = Registry {
            index,
            layout: Arc::new(Some(layout)),
            medium: Arc::default(),
            integrity: Arc::default(),
            status,
            logs: None,
            lists: OnceLock::new(),
            access: Arc::default(),
            room: Room::default(),
        };
        Ok((registry, started.elapsed()))
    }

    /// A registry without a haul: it answers, so that a person can look what is wrong.
    pub(super) fn empty(status: StatusSource, why: String) -> Registry {
        Registry {
            index: Index::of_nothing(why),
            layout: Arc::new(None),
            medium: Arc::default(),
            integrity: Arc::default(),
            status,
            logs: None,
            lists: OnceLock::new(),
            access: Arc::default(),
            room: Room::default(),
        }
    }

    /// Parts of the page that never change.
    pub(super) fn lists(&self) -> &Lists {
        self.lists.get_or_init(|| Lists::of(&self.index))
    }
}
