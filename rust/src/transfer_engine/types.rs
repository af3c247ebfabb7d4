//! The plain types of the API. Their numbers and layouts are those of the C API.

use std::ffi::c_void;
use std::fmt;
use std::os::raw::c_int;
use std::time::Duration;

use crate::ffi;

/// Whether [`allocate_memory`](super::TransferEngine::allocate_memory) takes huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(i32)]
pub enum HugePages {
    /// Normal pages.
    #[default]
    No = 0,
    /// Huge ones if there are enough, otherwise normal ones.
    Prefer = 1,
    /// Huge ones, or an error.
    Require = 2,
}

/// The number of a batch, from [`allocate_batch_id`](super::TransferEngine::allocate_batch_id).
pub type BatchID = u64;

/// The number of a task in its batch, from 0: an integer of any of these types. A number
/// that is not that of a task, such as -1, makes the call fail.
pub trait TaskId: sealed::Integer + Copy + fmt::Display {
    /// The number for the C API; `usize::MAX`, which no task has, if it is out of range.
    fn index(self) -> usize;
}

mod sealed {
    pub trait Integer {}
}

macro_rules! task_ids {
    ($($integer:ty),*) => {$(
        impl sealed::Integer for $integer {}
        impl TaskId for $integer {
            fn index(self) -> usize {
                usize::try_from(self).unwrap_or(usize::MAX)
            }
        }
    )*};
}
task_ids!(u64, usize, u32, i32, i64);

/// The direction of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum OpcodeEnum {
    /// From the target into `source`.
    Read = 0,
    /// From `source` to the target.
    Write = 1,
}

impl fmt::Display for OpcodeEnum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
        })
    }
}

/// The status of a task. Its `i32` is that of
/// [`get_transfer_status`](super::TransferEngine::get_transfer_status).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum TransferStatusEnum {
    /// Not submitted yet.
    Waiting = 0,
    /// In flight.
    Pending = 1,
    /// The request was not valid.
    Invalid = 2,
    /// Cancelled by the caller, or because the engine ends.
    Canceled = 3,
    /// Written: in place at the target. Read: in the source buffer.
    Completed = 4,
    /// Its deadline passed first.
    Timeout = 5,
    /// Failed for good; the error text of the task has the reason.
    Failed = 6,
}

impl TransferStatusEnum {
    /// Whether the task is terminal: nothing touches its local memory any more.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Waiting | Self::Pending)
    }
}

impl fmt::Display for TransferStatusEnum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Waiting => "WAITING",
            Self::Pending => "PENDING",
            Self::Invalid => "INVALID",
            Self::Canceled => "CANCELED",
            Self::Completed => "COMPLETED",
            Self::Timeout => "TIMEOUT",
            Self::Failed => "FAILED",
        })
    }
}

/// A number that is not a [`TransferStatusEnum`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no transfer status; they go from 0 (WAITING) to 6 (FAILED)")]
pub struct UnknownStatus(pub i32);

impl TryFrom<i32> for TransferStatusEnum {
    type Error = UnknownStatus;

    fn try_from(status: i32) -> Result<Self, UnknownStatus> {
        Ok(match status {
            0 => Self::Waiting,
            1 => Self::Pending,
            2 => Self::Invalid,
            3 => Self::Canceled,
            4 => Self::Completed,
            5 => Self::Timeout,
            6 => Self::Failed,
            other => return Err(UnknownStatus(other)),
        })
    }
}

impl From<TransferStatusEnum> for i32 {
    fn from(status: TransferStatusEnum) -> i32 {
        status as i32
    }
}

/// One READ or WRITE of one contiguous range.
///
/// `source` must lie in one registered buffer and stay valid until the task is terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct TransferRequest {
    /// The direction.
    pub opcode: OpcodeEnum,
    /// Local memory: a WRITE sends it, a READ fills it.
    pub source: *mut c_void,
    /// The target, as [`open_segment`](super::TransferEngine::open_segment) numbered it.
    pub target_id: i32,
    /// Bytes from the start of the target segment, unless another [`Addressing`] is set.
    pub target_offset: u64,
    /// Bytes to transfer.
    pub length: u64,
}

// A submission hands the caller's requests to C where they lie.
const _: () = {
    type Native = ffi::transfer_request_t;
    assert!(std::mem::size_of::<TransferRequest>() == std::mem::size_of::<Native>());
    assert!(std::mem::align_of::<TransferRequest>() == std::mem::align_of::<Native>());
    assert!(std::mem::size_of::<OpcodeEnum>() == std::mem::size_of::<c_int>());
    assert!(OpcodeEnum::Read as u32 == ffi::OPCODE_READ);
    assert!(OpcodeEnum::Write as u32 == ffi::OPCODE_WRITE);
};

// SAFETY: an address and numbers. Who submits the request answers for the memory, on any thread.
unsafe impl Send for TransferRequest {}
// SAFETY: as above.
unsafe impl Sync for TransferRequest {}

/// A range of memory, for registration in batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferEntry {
    /// Where it begins.
    pub addr: *mut c_void,
    /// Bytes.
    pub length: u64,
}

// SAFETY: an address and a number. Who registers it answers for the memory, on any thread.
unsafe impl Send for BufferEntry {}
// SAFETY: as above.
unsafe impl Sync for BufferEntry {}

/// How [`TransferRequest::target_offset`] is read.
///
/// A number may be both: buffers may lie at low addresses below the end of a large segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(i32)]
pub enum Addressing {
    /// The mode of the engine: [`Addressing::Offset`] unless it was set.
    #[default]
    Default = 0,
    /// Whichever fits; refused if both ever fitted.
    Auto = 1,
    /// Bytes from the start of the segment.
    Offset = 2,
    /// An address in the target's process.
    Address = 3,
}

const _: () = {
    assert!(Addressing::Default as u32 == ffi::ADDRESSING_DEFAULT);
    assert!(Addressing::Auto as u32 == ffi::ADDRESSING_AUTO);
    assert!(Addressing::Offset as u32 == ffi::ADDRESSING_OFFSET);
    assert!(Addressing::Address as u32 == ffi::ADDRESSING_ADDRESS);
};

/// Options of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubmitOptions<'a> {
    /// How the requests' `target_offset` is read.
    pub addressing: Addressing,
    /// Tasks that are not complete after it end in [`TransferStatusEnum::Timeout`]. `None`: the
    /// engine's `transfer_timeout_ms`.
    pub timeout: Option<Duration>,
    /// Delivered to the target's queue, at most once, after every request of the submission has
    /// completed.
    pub notification: Option<&'a Notification>,
    /// Work of GPUs that must end before anything touches the local memory. See [`After`].
    pub after: After,
}

/// Work of GPUs that a submission follows, such as kernels that write the source. The call does not
/// wait: the tasks are pending until the work has ended, and end at their deadline and when they
/// are cancelled as others do. They fail if the work fails.
///
/// Neither handle is used after the call: the event may be recorded again, or destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    event: *mut c_void,
    stream: *mut c_void,
}

// SAFETY: handles, which the driver takes from any thread.
unsafe impl Send for After {}
// SAFETY: as above.
unsafe impl Sync for After {}

impl Default for After {
    fn default() -> Self {
        Self { event: std::ptr::null_mut(), stream: std::ptr::null_mut() }
    }
}

impl After {
    /// What the event follows, as it was recorded last.
    ///
    /// # Safety
    ///
    /// `event` is a `CUevent` (`cudaEvent_t`) that lives until the submission has returned.
    pub unsafe fn event(event: *mut c_void) -> Self {
        Self { event, ..Self::default() }
    }

    /// What is in the stream at the time of the submission.
    ///
    /// # Safety
    ///
    /// `stream` is a `CUstream` (`cudaStream_t`) that lives until the submission has returned.
    /// `CU_STREAM_LEGACY` (1) is the default stream.
    pub unsafe fn stream(stream: *mut c_void) -> Self {
        Self { stream, ..Self::default() }
    }

    pub(super) fn handles(self) -> (*mut c_void, *mut c_void) {
        (self.event, self.stream)
    }
}

/// What peers may do to a registered buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(i32)]
pub enum Access {
    /// Nothing: local use only.
    None = 0,
    /// READ and WRITE, as far as the memory allows: only READ for memory that is mapped read-only.
    #[default]
    Default = 1,
    /// READ only.
    Read = 2,
    /// WRITE only.
    Write = 3,
    /// READ and WRITE, or an error.
    ReadWrite = 4,
}

const _: () = {
    assert!(Access::None as u32 == ffi::REMOTE_ACCESS_NONE);
    assert!(Access::Default as u32 == ffi::REMOTE_ACCESS_DEFAULT);
    assert!(Access::Read as u32 == ffi::REMOTE_ACCESS_READ);
    assert!(Access::Write as u32 == ffi::REMOTE_ACCESS_WRITE);
    assert!(Access::ReadWrite as u32 == ffi::REMOTE_ACCESS_READ_WRITE);
};

/// One buffer of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentBuffer {
    /// Its address in the target's process.
    pub address: u64,
    /// Where it begins in the segment, as [`TransferRequest::target_offset`] counts.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Where the memory is, such as `cpu:0` or `cuda:1`, by the target's numbers.
    pub location: String,
    /// Whether peers may read or write it.
    pub remote_accessible: bool,
    /// Which of the two; never [`Access::Default`].
    pub access: Access,
    /// What it is made of.
    pub kind: MemoryKind,
}

/// What memory is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum MemoryKind {
    /// Host memory.
    #[default]
    Host,
    /// Memory of an NVIDIA GPU.
    Cuda,
    /// Memory of a file.
    File,
    /// A kind of a newer peer.
    Other(i32),
}

/// A batch of the completion queue, and its status over all tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// The batch.
    pub batch_id: BatchID,
    /// The worst status of its tasks.
    pub status: TransferStatusEnum,
    /// The sum of the bytes.
    pub transferred_bytes: u64,
}

/// A message from engine to engine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Notification {
    /// What it is about: at most 262,144 bytes, no NUL.
    pub name: String,
    /// Bytes of any kind, at most 524,288.
    pub message: Vec<u8>,
}

impl Notification {
    /// A message, such as `Notification::new("done", "layer 3")`.
    pub fn new(name: impl Into<String>, message: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), message: message.into() }
    }
}

/// Load of one NIC, or of one transport without NICs.
#[derive(Debug, Clone, PartialEq)]
pub struct NicLoad {
    /// The device.
    pub device_name: String,
    /// Bytes in flight.
    pub inflight_bytes: u64,
    /// Bits per second, a moving average.
    pub ewma_bandwidth_bps: f64,
}
