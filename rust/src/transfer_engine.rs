//! The API of the C header, call by call.
//!
//! The caller is responsible for pointers and batch numbers. Registered memory must stay valid
//! until it is unregistered, and the source of a request until its task is terminal. Memory that a
//! transfer reads or fills must not be aliased in ways that Rust forbids. The types at the root of
//! the crate enforce these rules.

mod batches;
mod inspect;
mod lists;
mod types;

use std::env;
use std::ffi::{c_void, CString};
use std::fmt;
use std::os::raw::c_int;
use std::ptr::{self, NonNull};

use anyhow::Result;

use crate::error::{c_string, check, code, EngineError};
use crate::ffi;

pub use inspect::version;
pub use lists::{AddressList, BlockList, BlockRegion, PreparedList};
pub use types::{
    Access, Addressing, After, BatchID, BufferEntry, Completion, HugePages, MemoryKind, NicLoad,
    Notification, OpcodeEnum, SegmentBuffer, SubmitOptions, TaskId, TransferRequest,
    TransferStatusEnum, UnknownStatus,
};

/// The number of the caller's own segment.
pub const LOCAL_SEGMENT: i32 = ffi::LOCAL_SEGMENT as i32;

/// An engine: exposes memory of this process, and accesses memory that others expose.
///
/// Every method may be called from any thread. Dropping it cancels transfers in flight and
/// withdraws the segment, as [`close`](Self::close) does.
///
/// ```no_run
/// use std::ffi::c_void;
/// use transfer_engine_rust::transfer_engine::{OpcodeEnum, TransferEngine, TransferRequest};
///
/// # fn main() -> anyhow::Result<()> {
/// let engine = TransferEngine::new("P2PHANDSHAKE", "127.0.0.1", 0)?;
/// let mut buffer = vec![0u8; 4096];
/// engine.register_local_memory(buffer.as_mut_ptr() as *mut c_void, buffer.len(), "cpu:0")?;
///
/// let segment = engine.open_segment("10.0.0.2:12345".to_string())?;
/// let batch = engine.allocate_batch_id(1)?;
/// let request = TransferRequest {
///     opcode: OpcodeEnum::Read,
///     source: buffer.as_mut_ptr() as *mut c_void,
///     target_id: segment,
///     target_offset: 0,
///     length: 4096,
/// };
/// engine.submit_transfer(batch, &[request])?;
/// engine.wait_batch(batch, None)?;
/// let (status, bytes) = engine.get_transfer_status(batch, 0)?;
/// # let _ = (status, bytes);
/// engine.free_batch_id(batch)?;
/// engine.unregister_local_memory(buffer.as_mut_ptr() as *mut c_void)?;
/// # Ok(())
/// # }
/// ```
pub struct TransferEngine {
    /// None: closed. The C API then refuses every call, since its engine is null.
    handle: Option<NonNull<c_void>>,
}

// SAFETY: the C API lets any thread call any function on an engine, several at a time. The one
// exception, destruction, has the engine for itself in drop().
unsafe impl Send for TransferEngine {}
// SAFETY: as above.
unsafe impl Sync for TransferEngine {}

impl fmt::Debug for TransferEngine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TransferEngine").field("handle", &self.handle).finish()
    }
}

impl Drop for TransferEngine {
    fn drop(&mut self) {
        self.destroy();
    }
}

impl TransferEngine {
    /// Starts an engine that listens on `rpc_port` and publishes `local_server_name`.
    ///
    /// * `metadata_uri`: `P2PHANDSHAKE` (no server), `etcd://host:port` or a bare `host:port`,
    ///   `redis://host:port`, `http://host:port/path`; with TLS `etcds://`, `rediss://`, `https://`.
    /// * `local_server_name`: the segment's name; if it is an address, the one that peers should
    ///   use.
    /// * `rpc_port`: 0 means any free port.
    ///
    /// # Errors
    /// The port or the name is taken, the metadata server cannot be reached, or a text has a NUL.
    pub fn new(metadata_uri: &str, local_server_name: &str, rpc_port: u64) -> Result<Self> {
        Self::with_address(metadata_uri, local_server_name, local_server_name, rpc_port)
    }

    /// As [`new`](Self::new), with a separate address that peers should use: one of this machine,
    /// or a name that resolves to one. If it is empty, the engine chooses one.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and if the address is not one of this machine. The setting
    /// `advertise_address` allows such addresses.
    pub fn with_address(
        metadata_uri: &str,
        local_server_name: &str,
        ip_or_host_name: &str,
        rpc_port: u64,
    ) -> Result<Self> {
        Self::with_settings(metadata_uri, local_server_name, ip_or_host_name, rpc_port, &[])
    }

    /// As [`with_address`](Self::with_address), with settings for this engine by name and value, as
    /// `te info` lists them. They override the environment.
    ///
    /// # Errors
    /// As for [`with_address`](Self::with_address), and for an unknown name or a value that the
    /// setting does not accept.
    pub fn with_settings(
        metadata_uri: &str,
        local_server_name: &str,
        ip_or_host_name: &str,
        rpc_port: u64,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let uri = c_string("new", "metadata_uri", metadata_uri)?;
        let name = c_string("new", "local_server_name", local_server_name)?;
        let host = c_string("new", "ip_or_host_name", ip_or_host_name)?;
        let mut texts = Vec::with_capacity(settings.len());
        for (setting, value) in settings {
            texts.push((c_string("new", "setting", setting)?, c_string("new", setting, value)?));
        }
        let native: Vec<_> = texts
            .iter()
            .map(|(name, value)| ffi::engine_setting_t {
                name: name.as_ptr(),
                value: value.as_ptr(),
            })
            .collect();
        // SAFETY: C strings, and a list of them, that live through the call.
        let handle = unsafe {
            let no_discovery = 0;
            ffi::createTransferEngineWithSettings(
                uri.as_ptr(),
                name.as_ptr(),
                host.as_ptr(),
                rpc_port,
                no_discovery,
                native.as_ptr(),
                native.len(),
            )
        };
        match NonNull::new(handle) {
            handle @ Some(_) => {
                let engine = Self { handle };
                // The environment's word, and the caller's, count more.
                if env::var_os("TRANSFER_ENGINE_ADDRESSING").is_none()
                    && !settings.iter().any(|(name, _)| *name == "addressing")
                {
                    engine.set_addressing(Addressing::Offset)?;
                }
                Ok(engine)
            }
            None => {
                let uri = without_password(metadata_uri);
                let call = format!("new({uri:?}, {local_server_name:?}, {rpc_port})");
                Err(EngineError::last(None, call).into())
            }
        }
    }

    /// Ends the engine before it is dropped: cancels transfers in flight, withdraws the segment,
    /// and releases every connection and registration. Later calls are errors, except this one and
    /// the drop, which do nothing.
    ///
    /// # Errors
    /// None today.
    pub fn close(&mut self) -> Result<()> {
        self.destroy();
        Ok(())
    }

    /// Sets how `target_offset` is read unless a submission states it. The default is an offset
    /// ([`Addressing::Offset`]), or the value of the variable `TRANSFER_ENGINE_ADDRESSING`.
    ///
    /// # Errors
    /// [`Addressing::Default`] is not a mode of an engine.
    pub fn set_addressing(&self, addressing: Addressing) -> Result<()> {
        // SAFETY: a live handle.
        let answer = unsafe { ffi::setAddressing(self.raw(), addressing as c_int) };
        check(answer, || format!("set_addressing({addressing:?})")).map(drop)
    }

    /// Finds this machine's NICs, memory nodes and accelerators.
    pub fn discover_topology(&self) -> Result<()> {
        // SAFETY: a live handle.
        let answer = unsafe { ffi::discoverTopology(self.raw()) };
        check(answer, || "discover_topology").map(drop)
    }

    /// Installs a transport by name, such as `tcp`. An engine without an installed transport serves
    /// tcp and shm. The first install replaces both: after `tcp` alone there is no shm.
    ///
    /// # Errors
    /// There is no such transport, or this machine lacks what it needs. The text says what.
    pub fn install_transport(&self, proto: &str) -> Result<()> {
        self.install(proto, None)
    }

    /// As [`install_transport`](Self::install_transport), with a NIC priority matrix as JSON.
    pub fn install_transport_with_matrix(&self, proto: &str, matrix: &str) -> Result<()> {
        self.install(proto, Some(c_string("install_transport", "matrix", matrix)?))
    }

    fn install(&self, proto: &str, matrix: Option<CString>) -> Result<()> {
        let name = c_string("install_transport", "proto", proto)?;
        let mut first = matrix.as_ref().map(|text| text.as_ptr() as *mut c_void);
        let args = first.as_mut().map_or(ptr::null_mut(), |first| first as *mut *mut c_void);
        // SAFETY: a live handle and a C string; no arguments, or one C string.
        let transport = unsafe { ffi::installTransport(self.raw(), name.as_ptr(), args) };
        if transport.is_null() {
            return Err(EngineError::last(None, format!("install_transport({proto:?})")).into());
        }
        Ok(())
    }

    /// Removes a transport. Its transfers move to other transports, or fail if there is none.
    pub fn uninstall_transport(&self, proto: &str) -> Result<()> {
        let name = c_string("uninstall_transport", "proto", proto)?;
        // SAFETY: a live handle and a C string.
        let answer = unsafe { ffi::uninstallTransport(self.raw(), name.as_ptr()) };
        check(answer, || format!("uninstall_transport({proto:?})")).map(drop)
    }

    /// Registers memory: this engine's requests may use it, and peers may read and write it, as far
    /// as the memory allows ([`Access::Default`]).
    ///
    /// It must stay valid until it is unregistered. A range that is registered already, with the
    /// same location and access, is counted: unregister it as often. `location`: `cpu:N`, `cuda:N`,
    /// or `*` (found out by the engine).
    ///
    /// # Errors
    /// The range is empty or overlaps another one, or the location is not known.
    pub fn register_local_memory(
        &self,
        addr: *mut c_void,
        length: usize,
        location: &str,
    ) -> Result<()> {
        self.register_local_memory_with_access(addr, length, location, Access::Default)
    }

    /// As [`register_local_memory`](Self::register_local_memory); `access` is what peers may do.
    ///
    /// # Errors
    /// Also if the memory does not allow the stated access.
    // Safe to call, as register_local_memory() is: nothing reads through the address here.
    #[allow(clippy::not_unsafe_ptr_arg_deref)]
    pub fn register_local_memory_with_access(
        &self,
        addr: *mut c_void,
        length: usize,
        location: &str,
        access: Access,
    ) -> Result<()> {
        let place = c_string("register_local_memory", "location", location)?;
        // SAFETY: a live handle and a C string; the caller vouches for the memory.
        let answer = unsafe {
            ffi::registerLocalMemory(self.raw(), addr, length, place.as_ptr(), access as c_int)
        };
        let call =
            || format!("register_local_memory({addr:p}, {length}, {location:?}, {access:?})");
        check(answer, call).map(drop)
    }

    /// As [`register_local_memory`](Self::register_local_memory), but without access for peers.
    pub fn register_private_memory(
        &self,
        addr: *mut c_void,
        length: usize,
        location: &str,
    ) -> Result<()> {
        self.register_local_memory_with_access(addr, length, location, Access::None)
    }

    /// Unregisters memory; returns when nothing touches it any more.
    ///
    /// # Errors
    /// [`code::BUSY`](crate::code::BUSY): a stopped process of this host has been in the
    /// middle of a copy for longer than the setting `unregister_timeout_ms`. The memory must then
    /// stay valid. Call again to continue waiting.
    // The address is a key: nothing reads through it.
    #[allow(clippy::not_unsafe_ptr_arg_deref)]
    pub fn unregister_local_memory(&self, addr: *mut c_void) -> Result<()> {
        // SAFETY: a live handle; any address is allowed.
        let answer = unsafe { ffi::unregisterLocalMemory(self.raw(), addr) };
        check(answer, || format!("unregister_local_memory({addr:p})")).map(drop)
    }

    /// Registers all of the buffers or none. An empty list does nothing.
    pub fn register_local_memory_batch(
        &self,
        buffer_list: &[BufferEntry],
        location: &str,
    ) -> Result<()> {
        self.register_local_memory_batch_with_access(buffer_list, location, Access::Default)
    }

    /// As [`register_local_memory_batch`](Self::register_local_memory_batch); `access` is what
    /// peers may do.
    pub fn register_local_memory_batch_with_access(
        &self,
        buffer_list: &[BufferEntry],
        location: &str,
        access: Access,
    ) -> Result<()> {
        let call = || format!("register_local_memory_batch({}, {location:?})", listed(buffer_list));
        let place = c_string("register_local_memory_batch", "location", location)?;
        if buffer_list.is_empty() {
            return Ok(());
        }
        let mut entries = Vec::with_capacity(buffer_list.len());
        for buffer in buffer_list {
            let length = usize::try_from(buffer.length).map_err(|_| {
                let message = format!("{} bytes are more than memory has", buffer.length);
                EngineError::new(code::INVALID_ARGUMENT, call(), message)
            })?;
            entries.push(ffi::buffer_entry_t { addr: buffer.addr, length });
        }
        // SAFETY: a live handle, an array of that length and a C string; the caller vouches for the
        // memory that the entries name.
        let answer = unsafe {
            let (first, count) = (entries.as_mut_ptr(), entries.len());
            let access = access as c_int;
            let place = place.as_ptr();
            ffi::registerLocalMemoryBatchWithAccess(self.raw(), first, count, place, access)
        };
        check(answer, call).map(drop)
    }

    /// Unregisters all of the buffers, and ignores their lengths. An empty list does nothing.
    pub fn unregister_local_memory_batch(&self, buffer_list: &[BufferEntry]) -> Result<()> {
        if buffer_list.is_empty() {
            return Ok(());
        }
        let mut addrs: Vec<_> = buffer_list.iter().map(|buffer| buffer.addr).collect();
        // SAFETY: a live handle and an array of that length; addresses are keys here.
        let answer =
            unsafe { ffi::unregisterLocalMemoryBatch(self.raw(), addrs.as_mut_ptr(), addrs.len()) };
        check(answer, || format!("unregister_local_memory_batch({})", listed(buffer_list)))
            .map(drop)
    }

    /// Allocates zeroed memory that is registered, for peers too, until it is freed or the engine
    /// ends. Peers on this host map it, so that transfers to and from it are plain copies.
    ///
    /// # Errors
    /// There is not enough memory, there are not enough huge pages although they are
    /// required, or the location is not known.
    pub fn allocate_memory(
        &self,
        length: usize,
        location: &str,
        huge_pages: HugePages,
    ) -> Result<*mut c_void> {
        let place = c_string("allocate_memory", "location", location)?;
        // SAFETY: a live handle and a C string.
        let addr =
            unsafe { ffi::allocateMemory(self.raw(), length, place.as_ptr(), huge_pages as c_int) };
        if addr.is_null() {
            let call = format!("allocate_memory({length}, {location:?}, {huge_pages:?})");
            return Err(EngineError::last(None, call).into());
        }
        Ok(addr)
    }

    /// Frees memory from [`allocate_memory`](Self::allocate_memory), once nothing touches it any
    /// more. No reference into it may remain.
    // The address is a key: nothing reads through it.
    #[allow(clippy::not_unsafe_ptr_arg_deref)]
    pub fn free_memory(&self, addr: *mut c_void) -> Result<()> {
        // SAFETY: a live handle; any address is allowed.
        let answer = unsafe { ffi::freeMemory(self.raw(), addr) };
        check(answer, || format!("free_memory({addr:p})")).map(drop)
    }

    /// Opens a segment by name: resolves it, connects, and fetches its buffers. Blocks meanwhile.
    ///
    /// The same name has the same number until it is closed as often as opened.
    pub fn open_segment(&self, name: String) -> Result<i32> {
        let segment_name = c_string("open_segment", "name", &name)?;
        // SAFETY: a live handle and a C string.
        let id = unsafe { ffi::openSegment(self.raw(), segment_name.as_ptr()) };
        check(id, || format!("open_segment({name:?})"))
    }

    /// As [`open_segment`](Self::open_segment), but always asks the engine behind the segment.
    pub fn open_segment_no_cache(&self, name: String) -> Result<i32> {
        let segment_name = c_string("open_segment_no_cache", "name", &name)?;
        // SAFETY: a live handle and a C string.
        let id = unsafe { ffi::openSegmentNoCache(self.raw(), segment_name.as_ptr()) };
        check(id, || format!("open_segment_no_cache({name:?})"))
    }

    /// Closes a segment. Transfers in flight to it go on; new ones are refused.
    pub fn close_segment(&self, segment_id: i32) -> Result<()> {
        // SAFETY: a live handle; any number is allowed.
        let answer = unsafe { ffi::closeSegment(self.raw(), segment_id) };
        check(answer, || format!("close_segment({segment_id})")).map(drop)
    }

    /// Connects everything that transfers to this segment will use, so that the first one does not
    /// wait for it. Does nothing on transports that need no warm-up.
    pub fn warmup_efa_segment(&self, name: &str) -> Result<()> {
        let segment_name = c_string("warmup_efa_segment", "name", name)?;
        // SAFETY: a live handle and a C string.
        let answer = unsafe { ffi::warmupEfaSegment(self.raw(), segment_name.as_ptr()) };
        check(answer, || format!("warmup_efa_segment({name:?})")).map(drop)
    }

    /// Withdraws the published segment; `name` must be its name.
    pub fn remove_local_segment(&self, name: &str) -> Result<()> {
        let segment_name = c_string("remove_local_segment", "name", name)?;
        // SAFETY: a live handle and a C string.
        let answer = unsafe { ffi::removeLocalSegment(self.raw(), segment_name.as_ptr()) };
        check(answer, || format!("remove_local_segment({name:?})")).map(drop)
    }

    /// Fetches the description of every open segment again.
    pub fn sync_segment_cache(&self) -> Result<()> {
        // SAFETY: a live handle.
        let answer = unsafe { ffi::syncSegmentCache(self.raw()) };
        check(answer, || "sync_segment_cache").map(drop)
    }

    /// From now on SIGINT, SIGTERM and `exit` withdraw the segment before the process ends. That
    /// takes at most 1.5 s if the metadata server does not answer. Signals that the application
    /// ignores or handles are not changed.
    pub fn enable_graceful_shutdown(&self) {
        // SAFETY: a live handle.
        unsafe { ffi::enableGracefulShutdown(self.raw()) }
    }

    fn destroy(&mut self) {
        if let Some(handle) = self.handle.take() {
            // SAFETY: a live handle, which nobody else uses: this is the only reference.
            unsafe { ffi::destroyTransferEngine(handle.as_ptr()) }
        }
    }

    /// The handle for C, or null once the engine is closed.
    fn raw(&self) -> ffi::transfer_engine_t {
        self.handle.map_or(ptr::null_mut(), NonNull::as_ptr)
    }
}

/// A list of buffers for an error: the first, and how many there are.
fn listed(buffers: &[BufferEntry]) -> String {
    match buffers.first() {
        Some(first) => format!("[{:p}+{}, … {} in all]", first.addr, first.length, buffers.len()),
        None => "[]".to_string(),
    }
}

/// The address of a metadata server as an error may show it: `redis://:secret@host` has a password.
fn without_password(uri: &str) -> String {
    match (uri.find("://"), uri.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}***{}", &uri[..scheme + 3], &uri[at..])
        }
        _ => uri.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn errors_show_no_password() {
        assert_eq!(without_password("redis://:secret@h:1/2"), "redis://***@h:1/2");
        assert_eq!(without_password("h:2379"), "h:2379");
        assert_eq!(without_password("etcd://h:2379"), "etcd://h:2379");
    }
}
