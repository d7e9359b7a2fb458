//! The same small work on many things, on several threads.
//!
//! Asking a file system for ten thousand files takes as long as the kernel takes for each; a haul of
//! a thousand images is there in a fraction of that where processors share the work.

use std::num::NonZero;
use std::thread;

/// Threads at most. Beyond these a file system has locks of its own.
const THREADS: usize = 8;
/// Things for which a thread of its own is worth starting.
const WORTH: usize = 256;

/// `of` every item, in their order.
pub(super) fn map<T: Sync, R: Send>(items: &[T], of: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = processors.min(THREADS).min(items.len() / WORTH);
    if threads < 2 {
        return items.iter().map(of).collect();
    }
    let of = &of;
    thread::scope(|scope| {
        let parts: Vec<_> = items
            .chunks(items.len().div_ceil(threads))
            .map(|part| {
                let work = move || part.iter().map(of).collect::<Vec<R>>();
                (part, thread::Builder::new().spawn_scoped(scope, work))
            })
            .collect();
        let done = parts.into_iter().map(|(part, thread)| {
            let done = thread.ok().and_then(|thread| thread.join().ok());
            // no thread was to be had, or it panicked: then this one says why
            done.unwrap_or_else(|| part.iter().map(of).collect())
        });
        done.flatten().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once_and_in_order() {
        for many in [0, 1, WORTH - 1, WORTH * 2, WORTH * 9 + 7] {
            let items: Vec<usize> = (0..many).collect();
            let squares: Vec<usize> = items.iter().map(|item| item * item).collect();
            assert_eq!(map(&items, |item| item * item), squares);
        }
    }
}
