//! Registered memory with an owner: dropping the last handle unregisters it, then frees it.
//!
//! Peers and transfers access the memory without Rust's knowledge. So it is not lent as a slice,
//! but copied in and out. A copy into it excludes all other copies. A copy may still see part of a
//! WRITE that a peer makes at the same time, as with any one-sided write.

use std::ffi::c_void;
use std::fmt;
use std::mem;
use std::ops::{Bound, RangeBounds};
use std::ptr::{self, NonNull};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Result;

use crate::error::{code, EngineError};
use crate::transfer_engine::{HugePages, TransferEngine};

/// Memory that is registered with an engine for as long as a handle to it lives.
///
/// A handle is cheap to clone, and is held by every slice of the buffer and by every transfer that
/// uses one, until that transfer is terminal.
#[derive(Clone)]
pub struct RegisteredBuffer {
    region: Arc<Region>,
}

struct Region {
    engine: Arc<TransferEngine>,
    // From Box::into_raw: a Box would claim that nobody else touches the memory. Or the engine's.
    bytes: NonNull<[u8]>,
    engines_own: bool,
    open_to_peers: bool,
    // Copies into the memory take it exclusively, copies out of it together.
    copies: RwLock<()>,
}

// SAFETY: the memory is owned, and this process touches it under `copies` or by a sole handle.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        // No empty memory is registered: into_inner() gave the bytes back.
        if self.len() == 0 {
            return;
        }
        if self.engines_own {
            // Where that fails the memory stays until the engine's end.
            drop(self.engine.free_memory(self.addr()));
            return;
        }
        let result = self.engine.unregister_local_memory(self.addr());
        if is_unregistered(&result) {
            // SAFETY: from Box::into_raw, and not registered any more: nothing else touches it.
            drop(unsafe { Box::from_raw(self.bytes.as_ptr()) });
        }
        // Else the engine may still touch the memory: to leak it is safe, to free it is not.
    }
}

impl Region {
    fn addr(&self) -> *mut c_void {
        self.bytes.as_ptr().cast()
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }
}

fn is_unregistered(result: &Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            error.downcast_ref::<EngineError>().map_or(false, |error| error.code == code::NOT_FOUND)
        }
    }
}

impl RegisteredBuffer {
    /// Registers `memory`: a `Vec<u8>`, a `Box<[u8]>`. Peers may read and write it. `location`:
    /// `cpu:N`, or `*` (found out by the engine).
    pub fn new(
        engine: &Arc<TransferEngine>,
        memory: impl Into<Box<[u8]>>,
        location: &str,
    ) -> Result<Self> {
        Self::register(engine, memory.into(), location, true)
    }

    /// As [`new`](Self::new), but without access for peers: only requests of this engine use it.
    pub fn private(
        engine: &Arc<TransferEngine>,
        memory: impl Into<Box<[u8]>>,
        location: &str,
    ) -> Result<Self> {
        Self::register(engine, memory.into(), location, false)
    }

    fn register(
        engine: &Arc<TransferEngine>,
        memory: Box<[u8]>,
        location: &str,
        open_to_peers: bool,
    ) -> Result<Self> {
        let length = memory.len();
        let bytes = Box::into_raw(memory);
        let addr = bytes.cast::<c_void>();
        let registered = if open_to_peers {
            engine.register_local_memory(addr, length, location)
        } else {
            engine.register_private_memory(addr, length, location)
        };
        if let Err(error) = registered {
            // SAFETY: from Box::into_raw just above; the engine refused it.
            drop(unsafe { Box::from_raw(bytes) });
            return Err(error);
        }
        // SAFETY: Box::into_raw never gives null.
        let bytes = unsafe { NonNull::new_unchecked(bytes) };
        Ok(Self::of(engine, bytes, false, open_to_peers))
    }

    /// Zeroed memory that the engine allocates. Peers may read and write it; those on this host map
    /// it, so that transfers to and from it are plain copies.
    pub fn allocate(
        engine: &Arc<TransferEngine>,
        length: usize,
        location: &str,
        huge_pages: HugePages,
    ) -> Result<Self> {
        let addr = engine.allocate_memory(length, location, huge_pages)?;
        let bytes = ptr::slice_from_raw_parts_mut(addr.cast::<u8>(), length);
        let bytes = NonNull::new(bytes).expect("allocate_memory() never gives null");
        Ok(Self::of(engine, bytes, true, true))
    }

    fn of(
        engine: &Arc<TransferEngine>,
        bytes: NonNull<[u8]>,
        engines_own: bool,
        open_to_peers: bool,
    ) -> Self {
        let engine = Arc::clone(engine);
        let copies = RwLock::new(());
        Self { region: Arc::new(Region { engine, bytes, engines_own, open_to_peers, copies }) }
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.region.len()
    }

    /// Whether there are no bytes. Always false, because the engine registers no empty memory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The address of the memory, for `source` of a raw
    /// [`TransferRequest`](crate::transfer_engine::TransferRequest).
    pub fn addr(&self) -> *mut c_void {
        self.region.addr()
    }

    /// A part of the buffer, for requests.
    ///
    /// # Errors
    /// [`code::OUT_OF_RANGE`] if the range leaves the buffer.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Result<BufferSlice> {
        let (begin, end) = self.bounds("slice", range)?;
        Ok(BufferSlice { region: Arc::clone(&self.region), offset: begin, length: end - begin })
    }

    /// Copies `bytes` into the buffer, from `offset` on.
    pub fn copy_from(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        let (begin, _) = self.bounds("copy_from", offset..offset.saturating_add(bytes.len()))?;
        let _exclusive = self.region.copies.write().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: in range; `bytes` is not of this buffer, of which no slice is out: get_mut()
        // needs the only handle, exclusively.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.byte(begin), bytes.len()) };
        Ok(())
    }

    /// Copies out of the buffer, from `offset` on, until `bytes` is full.
    pub fn copy_to(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        let (begin, _) = self.bounds("copy_to", offset..offset.saturating_add(bytes.len()))?;
        let _shared = self.region.copies.read().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: as in copy_from().
        unsafe { ptr::copy_nonoverlapping(self.byte(begin), bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    /// A copy of all bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        self.copy_to(0, &mut bytes).expect("all of a buffer lies in it");
        bytes
    }

    /// The bytes themselves, if nothing else can touch them: the buffer is
    /// [`private`](Self::private), and neither another handle nor a transfer holds it.
    pub fn get_mut(&mut self) -> Option<&mut [u8]> {
        let region = Arc::get_mut(&mut self.region)?;
        if region.open_to_peers {
            return None;
        }
        // SAFETY: owned memory; the sole handle is borrowed exclusively, transfers hold handles,
        // and peers are kept out.
        Some(unsafe { region.bytes.as_mut() })
    }

    /// Unregisters the memory and returns it.
    ///
    /// # Errors
    /// [`code::BUSY`] while another handle, a slice or a transfer holds the buffer, which then
    /// stays registered. [`code::INVALID_ARGUMENT`] for memory that the engine allocated.
    pub fn into_inner(self) -> Result<Box<[u8]>> {
        if self.region.engines_own {
            let message = "the engine allocated this memory, and frees it";
            return Err(EngineError::new(code::INVALID_ARGUMENT, "into_inner", message).into());
        }
        let mut region = Arc::try_unwrap(self.region).map_err(|_| {
            let message = "another handle, a slice or a transfer in flight holds the buffer";
            EngineError::new(code::BUSY, "into_inner", message)
        })?;
        region.engine.unregister_local_memory(region.addr())?;
        let nothing = NonNull::from(Box::leak(Box::<[u8]>::default()));
        let bytes = mem::replace(&mut region.bytes, nothing);
        // SAFETY: from Box::into_raw, unregistered, and of the sole handle, which forgot it.
        Ok(unsafe { Box::from_raw(bytes.as_ptr()) })
    }

    fn byte(&self, offset: usize) -> *mut u8 {
        // SAFETY: callers checked the offset against the length.
        unsafe { self.region.bytes.as_ptr().cast::<u8>().add(offset) }
    }

    fn bounds(&self, call: &str, range: impl RangeBounds<usize>) -> Result<(usize, usize)> {
        let begin = match range.start_bound() {
            Bound::Included(&begin) => begin,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => self.len(),
        };
        if begin > end || end > self.len() {
            let message = format!("{begin}..{end} leaves the buffer of {} bytes", self.len());
            return Err(EngineError::new(code::OUT_OF_RANGE, call, message).into());
        }
        Ok((begin, end))
    }
}

impl fmt::Debug for RegisteredBuffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RegisteredBuffer")
            .field("addr", &self.addr())
            .field("len", &self.len())
            .field("open_to_peers", &self.region.open_to_peers)
            .finish()
    }
}

/// A part of a [`RegisteredBuffer`], which it keeps alive and registered.
#[derive(Clone)]
pub struct BufferSlice {
    region: Arc<Region>,
    offset: usize,
    length: usize,
}

impl BufferSlice {
    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn engine(&self) -> &Arc<TransferEngine> {
        &self.region.engine
    }

    pub(crate) fn addr(&self) -> *mut c_void {
        // SAFETY: the offset was checked when the slice was made.
        unsafe { self.region.bytes.as_ptr().cast::<u8>().add(self.offset).cast() }
    }
}

impl fmt::Debug for BufferSlice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BufferSlice({:p}+{})", self.addr(), self.length)
    }
}
