//! Information about an engine and its peers.

use crate::Access;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::raw::c_char;

use anyhow::Result;

use super::{MemoryKind, NicLoad, SegmentBuffer, TransferEngine};
use crate::error::{check, code, filled_text};
use crate::ffi;

/// The version of the native library.
pub fn version() -> &'static str {
    // SAFETY: a constant of the library, which is loaded as long as this crate is.
    let text: &'static CStr = unsafe { CStr::from_ptr(ffi::transferEngineVersion()) };
    text.to_str().unwrap_or("unknown")
}

impl TransferEngine {
    /// `host:port` as peers should use it. With `P2PHANDSHAKE` this is the segment's name.
    pub fn get_local_ip_and_port(&self) -> Result<String> {
        filled_text("get_local_ip_and_port", |text, room| {
            // SAFETY: a live handle and that much room.
            unsafe { ffi::getLocalIpAndPort(self.raw(), text, room) }
        })
    }

    /// What [`discover_topology`](Self::discover_topology) found, as JSON: memory nodes, GPUs, NICs
    /// and their distances.
    pub fn topology(&self) -> Result<String> {
        filled_text("topology", |text, room| {
            // SAFETY: a live handle and that much room.
            unsafe { ffi::getTopology(self.raw(), text, room) }
        })
    }

    /// Which NICs serve which location, as the JSON that
    /// [`install_transport_with_matrix`](Self::install_transport_with_matrix) accepts.
    pub fn nic_priority_matrix(&self) -> Result<String> {
        filled_text("nic_priority_matrix", |text, room| {
            // SAFETY: a live handle and that much room.
            unsafe { ffi::getNicPriorityMatrix(self.raw(), text, room) }
        })
    }

    /// The effective configuration, as JSON.
    pub fn effective_config(&self) -> Result<String> {
        filled_text("effective_config", |text, room| {
            // SAFETY: a live handle and that much room.
            unsafe { ffi::getEffectiveConfig(self.raw(), text, room) }
        })
    }

    /// The paths to each open segment, as text to read, or as JSON.
    pub fn show_links(&self, json: bool) -> Result<String> {
        filled_text("show_links", |text, room| {
            // SAFETY: a live handle and that much room.
            unsafe { ffi::showLinks(self.raw(), text, room, i32::from(json)) }
        })
    }

    /// The buffers of an open segment, or of [`LOCAL_SEGMENT`](super::LOCAL_SEGMENT).
    pub fn describe_segment(&self, segment_id: i32) -> Result<Vec<SegmentBuffer>> {
        let mut capacity = 64;
        loop {
            let mut buffers: Vec<MaybeUninit<ffi::segment_buffer_t>> = Vec::with_capacity(capacity);
            let mut count = capacity;
            // SAFETY: a live handle and room for that many.
            let answer = unsafe {
                let first = buffers.as_mut_ptr().cast();
                ffi::describeSegment(self.raw(), segment_id, first, &mut count)
            };
            // More may be registered between two calls.
            if answer == code::NO_SPACE && count > capacity {
                capacity = count + count / 4;
                continue;
            }
            check(answer, || format!("describe_segment({segment_id})"))?;
            // SAFETY: the engine filled the first `count`, which are not more than fit.
            unsafe { buffers.set_len(count.min(capacity)) };
            return Ok(buffers
                .iter()
                // SAFETY: as above.
                .map(|buffer| segment_buffer(unsafe { buffer.assume_init_ref() }))
                .collect());
        }
    }

    /// The load of each NIC, or of each transport without NICs.
    pub fn nic_load_stats(&self) -> Result<Vec<NicLoad>> {
        const DEVICES_MAX: usize = 1 << 16;
        let mut capacity = 16;
        loop {
            let mut stats: Vec<MaybeUninit<ffi::nic_load_stat_t>> = Vec::with_capacity(capacity);
            let mut count = capacity;
            // SAFETY: a live handle and room for that many.
            let answer =
                unsafe { ffi::getNicLoadStats(self.raw(), stats.as_mut_ptr().cast(), &mut count) };
            // A full answer may be a cut one.
            let cut = (answer == 0 && count >= capacity) || answer == code::NO_SPACE;
            if cut && capacity < DEVICES_MAX {
                capacity *= 4;
                continue;
            }
            check(answer, || "nic_load_stats")?;
            // SAFETY: the engine filled the first `count`, which are not more than fit.
            unsafe { stats.set_len(count.min(capacity)) };
            return Ok(stats
                .iter()
                // SAFETY: as above.
                .map(|stat| nic_load(unsafe { stat.assume_init_ref() }))
                .collect());
        }
    }
}

fn segment_buffer(native: &ffi::segment_buffer_t) -> SegmentBuffer {
    SegmentBuffer {
        address: native.address,
        offset: native.offset,
        length: native.length,
        location: array_text(&native.location),
        remote_accessible: native.remote_accessible != 0,
        access: match native.remote_accessible {
            0 => Access::None,
            2 => Access::Read,
            3 => Access::Write,
            _ => Access::ReadWrite,
        },
        kind: match native.memory_kind as u32 {
            ffi::MEMORY_HOST => MemoryKind::Host,
            ffi::MEMORY_CUDA => MemoryKind::Cuda,
            ffi::MEMORY_FILE => MemoryKind::File,
            _ => MemoryKind::Other(native.memory_kind),
        },
    }
}

fn nic_load(native: &ffi::nic_load_stat_t) -> NicLoad {
    NicLoad {
        device_name: array_text(&native.device_name),
        inflight_bytes: native.inflight_bytes,
        ewma_bandwidth_bps: native.ewma_bandwidth_bps,
    }
}

/// The text in a fixed array: up to its NUL, or all of it.
fn array_text(array: &[c_char]) -> String {
    let bytes: Vec<u8> =
        array.iter().map(|&unit| unit as u8).take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_an_array_needs_no_nul() {
        let full: Vec<c_char> = b"cpu:".iter().map(|&byte| byte as c_char).collect();
        let short: Vec<c_char> = b"cu\0a".iter().map(|&byte| byte as c_char).collect();
        assert_eq!(array_text(&full), "cpu:");
        assert_eq!(array_text(&short), "cu");
    }
}
