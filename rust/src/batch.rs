//! Batches that own their requests and the memory of these until nothing touches it any more.

use std::convert::TryFrom;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::buffer::BufferSlice;
use crate::error::{code, split_code, EngineError};
use crate::segment::Segment;
use crate::transfer_engine::{
    After, Notification, OpcodeEnum, SubmitOptions, TransferEngine, TransferRequest,
    TransferStatusEnum,
};

/// One READ or WRITE that owns its local memory and keeps its target open. `Send`.
#[derive(Debug, Clone)]
pub struct Request {
    opcode: OpcodeEnum,
    local: BufferSlice,
    target: Segment,
    target_offset: u64,
}

impl Request {
    /// Reads from the target into `local`, as many bytes as `local` has.
    pub fn read(local: BufferSlice, target: &Segment, target_offset: u64) -> Self {
        Self { opcode: OpcodeEnum::Read, local, target: target.clone(), target_offset }
    }

    /// Writes `local` to the target, as many bytes as `local` has.
    pub fn write(local: BufferSlice, target: &Segment, target_offset: u64) -> Self {
        Self { opcode: OpcodeEnum::Write, local, target: target.clone(), target_offset }
    }

    fn raw(&self) -> TransferRequest {
        TransferRequest {
            opcode: self.opcode,
            source: self.local.addr(),
            target_id: self.target.id(),
            target_offset: self.target_offset,
            length: self.local.len() as u64,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (length, offset) = (self.local.len(), self.target_offset);
        write!(formatter, "{} of {length} bytes, ", self.opcode)?;
        write!(formatter, "segment {:?} at offset {offset:#x}", self.target.name())
    }
}

/// The first transfer of a batch that did not complete.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task {task} ({request}) ended {status} after {transferred_bytes} bytes: {message}")]
pub struct TransferError {
    /// Its number in the batch.
    pub task: usize,
    /// What was asked for.
    pub request: String,
    /// Its final status.
    pub status: TransferStatusEnum,
    /// The number of transferred bytes.
    pub transferred_bytes: u64,
    /// The reason as one of [`code`]; 0 if the engine has none.
    pub code: i32,
    /// The text of the engine: peer, address, reason.
    pub message: String,
}

/// Requests that are submitted and completed together.
///
/// Dropping a batch cancels its tasks in flight and waits until nothing touches their memory.
pub struct Batch {
    engine: Arc<TransferEngine>,
    id: u64,
    // All that were submitted since the last wait that found every task terminal.
    in_flight: Vec<Request>,
    // Tasks that ended before those.
    settled_count: usize,
}

impl Batch {
    /// Makes room for `size` requests over the life of the batch.
    pub fn new(engine: &Arc<TransferEngine>, size: usize) -> Result<Self> {
        let id = engine.allocate_batch_id(size)?;
        Ok(Self { engine: Arc::clone(engine), id, in_flight: Vec::new(), settled_count: 0 })
    }

    /// Submits requests: all are accepted, or none. An empty list does nothing.
    pub fn submit(&mut self, requests: Vec<Request>) -> Result<()> {
        self.submit_by(requests, |engine, id, raw| engine.submit_transfer(id, raw))
    }

    /// As [`submit`](Self::submit); tasks that are not complete after `timeout` time out.
    pub fn submit_with_timeout(&mut self, requests: Vec<Request>, timeout: Duration) -> Result<()> {
        self.submit_by(requests, |engine, id, raw| {
            engine.submit_transfer_with_timeout(id, raw, timeout)
        })
    }

    /// As [`submit`](Self::submit); `notification` reaches the target's queue after all of them
    /// completed.
    pub fn submit_with_notify(
        &mut self,
        requests: Vec<Request>,
        notification: &Notification,
    ) -> Result<()> {
        self.submit_by(requests, |engine, id, raw| {
            engine.submit_transfer_with_notify(id, raw, notification)
        })
    }

    /// As [`submit`](Self::submit), once work of GPUs has ended: see [`After`].
    pub fn submit_after(&mut self, requests: Vec<Request>, after: After) -> Result<()> {
        let options = SubmitOptions { after, ..Default::default() };
        self.submit_by(requests, |engine, id, raw| {
            engine.submit_transfer_with_options(id, raw, &options)
        })
    }

    fn submit_by(
        &mut self,
        requests: Vec<Request>,
        submit: impl FnOnce(&TransferEngine, u64, &[TransferRequest]) -> Result<()>,
    ) -> Result<()> {
        let ours = |engine: &Arc<TransferEngine>| Arc::ptr_eq(engine, &self.engine);
        for request in &requests {
            if !ours(request.local.engine()) || !ours(request.target.engine()) {
                let message =
                    format!("the buffer or the segment of ({request}) is of another engine");
                return Err(EngineError::new(code::INVALID_ARGUMENT, "submit", message).into());
            }
        }
        let raw: Vec<_> = requests.iter().map(Request::raw).collect();
        submit(&self.engine, self.id, &raw)?;
        self.in_flight.extend(requests);
        Ok(())
    }

    /// The status of the batch, and the bytes transferred. A memory load.
    pub fn status(&self) -> Result<(TransferStatusEnum, u64)> {
        self.engine.get_batch_status(self.id)
    }

    /// The status of one task, and the bytes transferred. A memory load.
    pub fn task_status(&self, task: usize) -> Result<(TransferStatusEnum, u64)> {
        let (status, bytes) = self.engine.get_transfer_status(self.id, task)?;
        Ok((TransferStatusEnum::try_from(status)?, bytes))
    }

    /// Waits until every submitted task is terminal. Returns the bytes that the batch transferred.
    /// `None`: no limit besides the deadlines of the tasks. Zero: polls without sleeping.
    ///
    /// # Errors
    /// A [`TransferError`] if a transfer did not complete. An [`EngineError`] with
    /// [`code::TIMEOUT`] if `timeout` passes first: the transfers continue, and the caller may wait
    /// again.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<u64> {
        self.engine.wait_batch(self.id, timeout)?;
        self.settle()
    }

    /// As [`wait`](Self::wait), on a tokio runtime with I/O enabled.
    ///
    /// A future that is dropped early stops waiting; the batch keeps its requests.
    #[cfg(feature = "tokio")]
    pub async fn wait_async(&mut self) -> Result<u64> {
        use tokio::io::{unix::AsyncFd, Interest};

        if !self.in_flight.is_empty() && !self.status()?.0.is_terminal() {
            let fd = self.engine.batch_event_fd(self.id)?;
            let done = AsyncFd::with_interest(fd, Interest::READABLE)?;
            loop {
                let mut ready = done.readable().await?;
                if self.status()?.0.is_terminal() {
                    break;
                }
                ready.clear_ready();
            }
        }
        // Terminal: returns at once, as wait() ends.
        self.wait(None)
    }

    /// Requests the cancellation of every task in flight. Use `wait` afterwards.
    pub fn cancel(&self) -> Result<()> {
        self.engine.cancel_batch(self.id)
    }

    /// Its number, for the calls of [`TransferEngine`]. Only the batch itself frees it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Every task is terminal: lets go of their memory, and finds the first that did not complete.
    fn settle(&mut self) -> Result<u64> {
        let ended = mem::take(&mut self.in_flight);
        let first_task = self.settled_count;
        self.settled_count += ended.len();
        if ended.is_empty() {
            return Ok(0);
        }
        let (status, bytes) = self.status()?;
        if status == TransferStatusEnum::Completed {
            return Ok(bytes);
        }
        for (index, request) in ended.iter().enumerate() {
            let task = first_task + index;
            let (status, transferred_bytes) = self.task_status(task)?;
            if status != TransferStatusEnum::Completed {
                let request = request.to_string();
                let text = self.engine.get_transfer_error(self.id, task)?;
                let (code, message) = split_code(&text);
                let message = message.to_string();
                let error =
                    TransferError { task, request, status, transferred_bytes, code, message };
                return Err(error.into());
            }
        }
        // The failure is of an earlier round, and was told then.
        Ok(bytes)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if !self.in_flight.is_empty() {
            // Refused only when the batch is gone, which the next call finds too.
            let _ = self.engine.cancel_batch(self.id);
        }
        if self.engine.free_batch_id(self.id).is_err() {
            // Something may still touch the memory: to leak its handles is safe, to free it is not.
            mem::forget(mem::take(&mut self.in_flight));
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Batch({:#x}, {} in flight)", self.id, self.in_flight.len())
    }
}
