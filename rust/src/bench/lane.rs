//! What one thread of the initiator transfers: a batch of blocks, over and over, between its own
//! memory and its own part of the target.

use std::convert::TryFrom;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use transfer_engine_rust::transfer_engine::{
    OpcodeEnum, TransferEngine, TransferRequest, TransferStatusEnum,
};
use transfer_engine_rust::{code, EngineError, RegisteredBuffer};

use super::histogram::Histogram;
use super::verify;

/// The blocks of a lane.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub block_size: usize,
    pub batch_size: usize,
}

impl Shape {
    /// Bytes of one batch.
    pub fn bytes(self) -> usize {
        self.block_size * self.batch_size
    }
}

pub struct Lane {
    engine: Arc<TransferEngine>,
    shape: Shape,
    target_id: i32,
    target_offset: u64,
    local: RegisteredBuffer,
}

impl Lane {
    /// A lane to `shape.bytes()` of the target, from `target_offset` on.
    pub fn new(
        engine: &Arc<TransferEngine>,
        shape: Shape,
        target_id: i32,
        target_offset: u64,
    ) -> Result<Self> {
        let local = RegisteredBuffer::private(engine, vec![0; shape.bytes()], "*")?;
        Ok(Self { engine: Arc::clone(engine), shape, target_id, target_offset, local })
    }

    /// Transfers batch after batch, at least one, until `deadline` or until `stop` is set.
    pub fn run(
        &self,
        operation: OpcodeEnum,
        deadline: Instant,
        stop: &AtomicBool,
    ) -> Result<Histogram> {
        let requests = self.requests(operation);
        let mut latencies = Histogram::new();
        loop {
            let start = Instant::now();
            if self.transfer(&requests, stop)? {
                latencies.record(start.elapsed());
            }
            if stop.load(Ordering::Relaxed) || Instant::now() >= deadline {
                return Ok(latencies);
            }
        }
    }

    /// Fills the memory with `bytes`: what WRITEs send, or READs must overwrite.
    pub fn fill(&self, bytes: &[u8]) -> Result<()> {
        self.local.copy_from(0, bytes)
    }

    /// Transfers one batch; fails where it does not complete.
    pub fn transfer_once(&self, operation: OpcodeEnum) -> Result<()> {
        let never = AtomicBool::new(false);
        self.transfer(&self.requests(operation), &never).map(drop)
    }

    /// Fails unless the memory holds `expected`.
    pub fn compare(&self, expected: &[u8]) -> Result<()> {
        verify::compare(expected, &self.local.to_vec())
    }

    fn requests(&self, opcode: OpcodeEnum) -> Vec<TransferRequest> {
        let block_size = self.shape.block_size;
        let request = |at: usize| TransferRequest {
            opcode,
            source: self.local.addr().cast::<u8>().wrapping_add(at).cast::<c_void>(),
            target_id: self.target_id,
            target_offset: self.target_offset + at as u64,
            length: block_size as u64,
        };
        (0..self.shape.batch_size).map(|block| request(block * block_size)).collect()
    }

    /// Whether the batch completed; false when `stop` cancelled it.
    fn transfer(&self, requests: &[TransferRequest], stop: &AtomicBool) -> Result<bool> {
        let batch = self.engine.allocate_batch_id(requests.len())?;
        let result = self
            .engine
            .submit_transfer(batch, requests)
            .and_then(|()| self.finish(batch, requests.len(), stop));
        // Also after an error: returns when nothing touches the memory any more.
        self.engine.free_batch_id(batch)?;
        result
    }

    fn finish(&self, batch: u64, task_count: usize, stop: &AtomicBool) -> Result<bool> {
        const LOOK_AT_STOP: Duration = Duration::from_millis(100);
        while let Err(error) = self.engine.wait_batch(batch, Some(LOOK_AT_STOP)) {
            let timed_out = error
                .downcast_ref::<EngineError>()
                .map_or(false, |error| error.code == code::TIMEOUT);
            if !timed_out {
                return Err(error);
            }
            if stop.load(Ordering::Relaxed) {
                self.engine.cancel_batch(batch)?;
                self.engine.wait_batch(batch, None)?;
                break;
            }
        }
        match self.engine.get_batch_status(batch)?.0 {
            TransferStatusEnum::Completed => Ok(true),
            TransferStatusEnum::Canceled if stop.load(Ordering::Relaxed) => Ok(false),
            status => {
                let (task, reason) = self.first_failure(batch, task_count)?;
                bail!("the batch ended {status}; task {task}: {reason}")
            }
        }
    }

    fn first_failure(&self, batch: u64, task_count: usize) -> Result<(usize, String)> {
        for task in 0..task_count {
            let (status, _) = self.engine.get_transfer_status(batch, task)?;
            if TransferStatusEnum::try_from(status)? != TransferStatusEnum::Completed {
                return Ok((task, self.engine.get_transfer_error(batch, task)?));
            }
        }
        bail!("a batch of completed tasks did not complete")
    }
}
