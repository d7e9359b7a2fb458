//! Room for answers that are made anew for each request: lists are as long as a haul wants them,
//! and a client that takes none of one keeps it in memory for as long as it is waited for.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answers::Made;
use super::limits;

/// Bytes that one permit stands for.
const UNIT: u64 = 1 << 10;

/// What is left of [`limits::MADE_BYTES`], and whose turn it is.
#[derive(Clone, Debug)]
pub(super) struct Room {
    left: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Room {
        Room {
            left: Arc::new(Semaphore::new(units(limits::MADE_BYTES) as usize)),
            turns: Arc::new(Semaphore::new(limits::MADE_AT_ONCE)),
        }
    }
}

/// A turn to make an answer; how large it gets is known only when it is there.
pub(super) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

/// There is no room; the answer is gone, and the client may ask again.
#[derive(Debug)]
pub(super) struct NoRoom;

/// Bytes, and the room that they take until the network has them.
struct Held {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Room {
    /// Waits for a turn to make an answer that may be long. To be kept until it is
    /// [admitted](Room::admit).
    pub(super) async fn turn(&self) -> Turn {
        // it is never closed
        let _permit = Arc::clone(&self.turns).acquire_owned().await.ok();
        Turn { _permit }
    }

    /// Lets small answers through, and large ones as long as there is room for them. One that is
    /// larger than all of it takes all of it.
    pub(super) async fn admit(&self, response: Response) -> Result<Response, NoRoom> {
        let size = response.body().size_hint().lower();
        let made = response.extensions().get::<Made>().is_some();
        if !made || size <= limits::SMALL_MADE_BYTES {
            return Ok(response);
        }
        let wanted = units(size.min(limits::MADE_BYTES));
        let permit = Arc::clone(&self.left).try_acquire_many_owned(wanted);
        let _permit = permit.map_err(|_| NoRoom)?;
        let (parts, body) = response.into_parts();
        // all of it is there: nothing is waited for, and nothing copied
        let bytes = body.collect().await.map_err(|_| NoRoom)?.to_bytes();
        let held = Bytes::from_owner(Held { bytes, _permit });
        Ok(Response::from_parts(parts, Body::from(held)))
    }
}

/// Units of so many bytes, rounded up.
fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::super::answers;
    use super::*;

    fn answer(bytes: u64) -> Response {
        answers::whole(StatusCode::OK, "text/plain", vec![7; bytes as usize])
    }

    #[tokio::test]
    async fn answers_of_unknown_size_are_made_a_few_at_a_time() {
        let room = Room::default();
        let mut turns = Vec::new();
        for _ in 0..limits::MADE_AT_ONCE {
            turns.push(room.turn().await);
        }
        let next = room.turn();
        tokio::pin!(next);
        assert!(at_once(next.as_mut()).await.is_none());
        turns.pop();
        assert!(at_once(next).await.is_some());
    }

    /// What a future gives without waiting.
    async fn at_once<F: Future>(future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn large_answers_wait_outside_while_the_network_has_not_taken_others() {
        let room = Room::default();
        let half = limits::MADE_BYTES / 2;
        let first = room.admit(answer(half)).await.unwrap();
        let mut second = room.admit(answer(half)).await.unwrap();
        // its stream ends before its bytes are gone
        let bytes = second.body_mut().frame().await.unwrap().unwrap();
        drop(second);
        assert!(room.admit(answer(half)).await.is_err());
        room.admit(answer(limits::SMALL_MADE_BYTES)).await.unwrap();
        assert_eq!(bytes.into_data().unwrap().len() as u64, half);
        let third = room.admit(answer(half)).await.unwrap();
        drop((first, third));
        let whole = room.admit(answer(limits::MADE_BYTES + UNIT)).await.unwrap();
        let bytes = whole.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len() as u64, limits::MADE_BYTES + UNIT);
    }
}
