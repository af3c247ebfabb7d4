//! Lists of blocks and of ranges: one task each.

use std::ffi::c_void;
use std::fmt;
use std::ptr::NonNull;

use anyhow::Result;

use super::batches::with_options;
use super::{BatchID, OpcodeEnum, SubmitOptions, TransferEngine};
use crate::error::{check, code, EngineError};
use crate::ffi;

/// Two arrays of blocks of one size, here and at the target, such as one layer of a KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct BlockRegion {
    /// Where block 0 begins here.
    pub source: *mut c_void,
    /// Where block 0 begins at the target; read as that of a request.
    pub target_offset: u64,
    /// Bytes.
    pub block_size: u64,
}

// SAFETY: an address and numbers. Who submits them answers for the memory, on any thread.
unsafe impl Send for BlockRegion {}
// SAFETY: as above.
unsafe impl Sync for BlockRegion {}

const _: () = {
    type Native = ffi::block_region_t;
    assert!(std::mem::size_of::<BlockRegion>() == std::mem::size_of::<Native>());
    assert!(std::mem::align_of::<BlockRegion>() == std::mem::align_of::<Native>());
};

/// READs or WRITEs of whole blocks, as one task: in each region, block `source_blocks[i]` here and
/// block `target_blocks[i]` at the target. Blocks that follow each other at both ends are moved
/// together.
#[derive(Debug, Clone, Copy)]
pub struct BlockList<'a> {
    /// The direction.
    pub opcode: OpcodeEnum,
    /// The target, as [`open_segment`](TransferEngine::open_segment) numbered it.
    pub target_id: i32,
    /// Such as the layers of a KV cache.
    pub regions: &'a [BlockRegion],
    /// The numbers of blocks here.
    pub source_blocks: &'a [u64],
    /// The numbers of blocks at the target, as many.
    pub target_blocks: &'a [u64],
}

/// READs or WRITEs of ranges, as one task. Ranges that follow each other at both ends are moved
/// together. The slices have the same length.
#[derive(Debug, Clone, Copy)]
pub struct AddressList<'a> {
    /// The direction.
    pub opcode: OpcodeEnum,
    /// The target, as [`open_segment`](TransferEngine::open_segment) numbered it.
    pub target_id: i32,
    /// Addresses here.
    pub sources: &'a [u64],
    /// Where the ranges begin at the target; read as those of requests.
    pub target_offsets: &'a [u64],
    /// Bytes.
    pub lengths: &'a [u64],
}

impl BlockList<'_> {
    fn native(&self) -> Result<ffi::block_list_t> {
        same_length("source_blocks", self.source_blocks, "target_blocks", self.target_blocks)?;
        Ok(ffi::block_list_t {
            opcode: self.opcode as i32,
            target_id: self.target_id,
            regions: self.regions.as_ptr().cast(),
            region_count: self.regions.len(),
            source_blocks: self.source_blocks.as_ptr(),
            target_blocks: self.target_blocks.as_ptr(),
            block_count: self.source_blocks.len(),
        })
    }
}

impl AddressList<'_> {
    fn native(&self) -> Result<ffi::address_list_t> {
        same_length("sources", self.sources, "target_offsets", self.target_offsets)?;
        same_length("sources", self.sources, "lengths", self.lengths)?;
        Ok(ffi::address_list_t {
            opcode: self.opcode as i32,
            target_id: self.target_id,
            sources: self.sources.as_ptr(),
            target_offsets: self.target_offsets.as_ptr(),
            lengths: self.lengths.as_ptr(),
            count: self.sources.len(),
        })
    }
}

fn same_length(one: &str, a: &[u64], other: &str, b: &[u64]) -> Result<()> {
    if a.len() == b.len() {
        return Ok(());
    }
    let message = format!("{} {one} and {} {other}: give one of each", a.len(), b.len());
    Err(EngineError::new(code::INVALID_ARGUMENT, "a list", message).into())
}

/// A list that is checked, with its ranges merged, to be submitted many times. What it names is
/// looked up again in each submission, so a peer may register its memory again, or restart, in
/// between.
pub struct PreparedList {
    handle: NonNull<c_void>,
}

// SAFETY: never changed once made.
unsafe impl Send for PreparedList {}
// SAFETY: as above.
unsafe impl Sync for PreparedList {}

impl fmt::Debug for PreparedList {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PreparedList").field("handle", &self.handle).finish()
    }
}

impl Drop for PreparedList {
    fn drop(&mut self) {
        // SAFETY: what a prepare call gave, once.
        unsafe { ffi::freePreparedList(self.handle.as_ptr()) }
    }
}

impl TransferEngine {
    /// Submits one task with all ranges of the list: it completes when all of them have. Nothing of
    /// the list is used after the call; the sources must stay valid until the task is terminal.
    ///
    /// # Errors
    /// A range leaves its buffer at either end, the local buffers are of different kinds of memory,
    /// or there are more than 4,194,304 ranges after merging.
    pub fn submit_blocks(
        &self,
        batch_id: BatchID,
        list: &BlockList<'_>,
        options: &SubmitOptions<'_>,
    ) -> Result<()> {
        let native = list.native()?;
        let answer = with_options("submit_blocks", options, |options| {
            // SAFETY: a live handle, and arrays that live through the call; the caller vouches for
            // the sources.
            unsafe { ffi::submitBlocks(self.raw(), batch_id, &native, options) }
        })?;
        let (blocks, regions) = (list.source_blocks.len(), list.regions.len());
        let call =
            || format!("submit_blocks(batch {batch_id:#x}, {regions} regions, {blocks} blocks)");
        check(answer, call).map(drop)
    }

    /// As [`submit_blocks`](Self::submit_blocks), for ranges of any length.
    pub fn submit_addresses(
        &self,
        batch_id: BatchID,
        list: &AddressList<'_>,
        options: &SubmitOptions<'_>,
    ) -> Result<()> {
        let native = list.native()?;
        let answer = with_options("submit_addresses", options, |options| {
            // SAFETY: as in submit_blocks().
            unsafe { ffi::submitAddresses(self.raw(), batch_id, &native, options) }
        })?;
        let count = list.sources.len();
        check(answer, || format!("submit_addresses(batch {batch_id:#x}, {count} ranges)")).map(drop)
    }

    /// Checks a list as its submission does, and merges its ranges.
    ///
    /// # Errors
    /// As for [`submit_blocks`](Self::submit_blocks).
    pub fn prepare_blocks(&self, list: &BlockList<'_>) -> Result<PreparedList> {
        let native = list.native()?;
        // SAFETY: a live handle, and arrays that live through the call.
        prepared(unsafe { ffi::prepareBlocks(self.raw(), &native) }, "prepare_blocks")
    }

    /// As [`prepare_blocks`](Self::prepare_blocks), for ranges of any length.
    pub fn prepare_addresses(&self, list: &AddressList<'_>) -> Result<PreparedList> {
        let native = list.native()?;
        // SAFETY: as in prepare_blocks().
        prepared(unsafe { ffi::prepareAddresses(self.raw(), &native) }, "prepare_addresses")
    }

    /// As [`submit_blocks`](Self::submit_blocks), for a list that was prepared by this engine.
    pub fn submit_prepared(
        &self,
        batch_id: BatchID,
        list: &PreparedList,
        options: &SubmitOptions<'_>,
    ) -> Result<()> {
        let answer = with_options("submit_prepared", options, |options| {
            // SAFETY: live handles; the caller vouches for the sources.
            unsafe { ffi::submitPreparedList(self.raw(), batch_id, list.handle.as_ptr(), options) }
        })?;
        check(answer, || format!("submit_prepared(batch {batch_id:#x})")).map(drop)
    }
}

fn prepared(handle: *mut c_void, call: &str) -> Result<PreparedList> {
    match NonNull::new(handle) {
        Some(handle) => Ok(PreparedList { handle }),
        None => Err(EngineError::last(None, call.to_string()).into()),
    }
}
