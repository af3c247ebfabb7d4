//! An open segment that closes itself.

use std::fmt;
use std::sync::Arc;

use anyhow::Result;

use crate::transfer_engine::{Notification, SegmentBuffer, TransferEngine, LOCAL_SEGMENT};

/// A segment, open for as long as a handle to it lives. Cheap to clone.
#[derive(Clone)]
pub struct Segment {
    open: Arc<OpenSegment>,
}

struct OpenSegment {
    engine: Arc<TransferEngine>,
    id: i32,
    name: String,
}

impl Drop for OpenSegment {
    fn drop(&mut self) {
        if self.id != LOCAL_SEGMENT {
            // Only a segment that was closed by its number already is refused, and is closed.
            let _ = self.engine.close_segment(self.id);
        }
    }
}

impl Segment {
    /// Opens a segment by name. Blocks while it resolves and connects.
    pub fn open(engine: &Arc<TransferEngine>, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let id = engine.open_segment(name.clone())?;
        Ok(Self::from_parts(engine, id, name))
    }

    /// As [`open`](Self::open), on tokio's threads for blocking calls.
    ///
    /// A future that is dropped early stops waiting; the segment that it opens closes itself.
    #[cfg(feature = "tokio")]
    pub async fn open_async(engine: &Arc<TransferEngine>, name: impl Into<String>) -> Result<Self> {
        let (engine, name) = (Arc::clone(engine), name.into());
        tokio::task::spawn_blocking(move || Self::open(&engine, name)).await?
    }

    /// The engine's own segment.
    pub fn local(engine: &Arc<TransferEngine>) -> Self {
        Self::from_parts(engine, LOCAL_SEGMENT, "local".to_string())
    }

    fn from_parts(engine: &Arc<TransferEngine>, id: i32, name: String) -> Self {
        let engine = Arc::clone(engine);
        Self { open: Arc::new(OpenSegment { engine, id, name }) }
    }

    /// Its number, for the calls of [`TransferEngine`].
    pub fn id(&self) -> i32 {
        self.open.id
    }

    /// The name by which it was opened.
    pub fn name(&self) -> &str {
        &self.open.name
    }

    /// Its buffers.
    pub fn describe(&self) -> Result<Vec<SegmentBuffer>> {
        self.open.engine.describe_segment(self.id())
    }

    /// Sends a message. Returns when the message is in the queue of the segment.
    pub fn notify(&self, notification: &Notification) -> Result<()> {
        self.open.engine.notify(self.id(), notification)
    }

    pub(crate) fn engine(&self) -> &Arc<TransferEngine> {
        &self.open.engine
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Segment({}, {:?})", self.id(), self.name())
    }
}
