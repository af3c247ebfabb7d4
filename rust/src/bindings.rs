// Generated from transfer_engine_c.h by `./dev bindings`. Do not edit.

pub const LOCAL_SEGMENT: u32 = 0;
pub const OPCODE_READ: u32 = 0;
pub const OPCODE_WRITE: u32 = 1;
pub const ADDRESSING_DEFAULT: u32 = 0;
pub const ADDRESSING_AUTO: u32 = 1;
pub const ADDRESSING_OFFSET: u32 = 2;
pub const ADDRESSING_ADDRESS: u32 = 3;
pub const REMOTE_ACCESS_NONE: u32 = 0;
pub const REMOTE_ACCESS_DEFAULT: u32 = 1;
pub const REMOTE_ACCESS_READ: u32 = 2;
pub const REMOTE_ACCESS_WRITE: u32 = 3;
pub const REMOTE_ACCESS_READ_WRITE: u32 = 4;
pub const MEMORY_HOST: u32 = 0;
pub const MEMORY_CUDA: u32 = 1;
pub const MEMORY_FILE: u32 = 2;
pub const HUGE_PAGES_NO: u32 = 0;
pub const HUGE_PAGES_PREFER: u32 = 1;
pub const HUGE_PAGES_REQUIRE: u32 = 2;
pub const STATUS_WAITING: u32 = 0;
pub const STATUS_PENDING: u32 = 1;
pub const STATUS_INVALID: u32 = 2;
pub const STATUS_CANCELED: u32 = 3;
pub const STATUS_COMPLETED: u32 = 4;
pub const STATUS_TIMEOUT: u32 = 5;
pub const STATUS_FAILED: u32 = 6;
pub const TE_ERR_INVALID_ARGUMENT: i32 = -1;
pub const TE_ERR_NOT_FOUND: i32 = -2;
pub const TE_ERR_ALREADY_EXISTS: i32 = -3;
pub const TE_ERR_OUT_OF_RANGE: i32 = -4;
pub const TE_ERR_PERMISSION: i32 = -5;
pub const TE_ERR_UNAVAILABLE: i32 = -6;
pub const TE_ERR_TIMEOUT: i32 = -7;
pub const TE_ERR_CANCELLED: i32 = -8;
pub const TE_ERR_STALE: i32 = -9;
pub const TE_ERR_BUSY: i32 = -10;
pub const TE_ERR_UNSUPPORTED: i32 = -11;
pub const TE_ERR_PROTOCOL: i32 = -12;
pub const TE_ERR_NO_SPACE: i32 = -13;
pub const TE_ERR_RESOURCE: i32 = -14;
pub const TE_ERR_INTERNAL: i32 = -15;
pub type transfer_engine_t = *mut ::std::os::raw::c_void;
pub type prepared_list_t = *mut ::std::os::raw::c_void;
pub type transport_t = *mut ::std::os::raw::c_void;
pub type segment_handle_t = i32;
pub type segment_id_t = i32;
pub type batch_id_t = u64;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct transfer_request {
    pub opcode: ::std::os::raw::c_int,
    pub source: *mut ::std::os::raw::c_void,
    pub target_id: segment_id_t,
    pub target_offset: u64,
    pub length: u64,
}
pub type transfer_request_t = transfer_request;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct transfer_status {
    pub status: ::std::os::raw::c_int,
    pub transferred_bytes: u64,
}
pub type transfer_status_t = transfer_status;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct buffer_entry {
    pub addr: *mut ::std::os::raw::c_void,
    pub length: usize,
}
pub type buffer_entry_t = buffer_entry;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct block_region {
    pub source: *mut ::std::os::raw::c_void,
    pub target_offset: u64,
    pub block_size: u64,
}
pub type block_region_t = block_region;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct block_list {
    pub opcode: ::std::os::raw::c_int,
    pub target_id: segment_id_t,
    pub regions: *const block_region_t,
    pub region_count: usize,
    pub source_blocks: *const u64,
    pub target_blocks: *const u64,
    pub block_count: usize,
}
pub type block_list_t = block_list;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct address_list {
    pub opcode: ::std::os::raw::c_int,
    pub target_id: segment_id_t,
    pub sources: *const u64,
    pub target_offsets: *const u64,
    pub lengths: *const u64,
    pub count: usize,
}
pub type address_list_t = address_list;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct engine_setting {
    pub name: *const ::std::os::raw::c_char,
    pub value: *const ::std::os::raw::c_char,
}
pub type engine_setting_t = engine_setting;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct notification {
    pub name: *const ::std::os::raw::c_char,
    pub data: *const ::std::os::raw::c_void,
    pub length: usize,
}
pub type notification_t = notification;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct notify_msg {
    pub name: *mut ::std::os::raw::c_char,
    pub msg: *mut ::std::os::raw::c_char,
}
pub type notify_msg_t = notify_msg;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct nic_load_stat {
    pub device_name: [::std::os::raw::c_char; 64usize],
    pub inflight_bytes: u64,
    pub ewma_bandwidth_bps: f64,
}
pub type nic_load_stat_t = nic_load_stat;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct submit_options {
    pub struct_size: usize,
    pub addressing: ::std::os::raw::c_int,
    pub timeout_ms: u64,
    pub notify_msg: *const notify_msg_t,
    pub notification: *const notification_t,
    pub after_event: *mut ::std::os::raw::c_void,
    pub after_stream: *mut ::std::os::raw::c_void,
}
pub type submit_options_t = submit_options;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct batch_options {
    pub struct_size: usize,
    pub completion_queue: ::std::os::raw::c_int,
}
pub type batch_options_t = batch_options;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct completion {
    pub batch_id: batch_id_t,
    pub status: transfer_status_t,
}
pub type completion_t = completion;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct segment_buffer {
    pub address: u64,
    pub offset: u64,
    pub length: u64,
    pub location: [::std::os::raw::c_char; 32usize],
    pub remote_accessible: ::std::os::raw::c_int,
    pub memory_kind: ::std::os::raw::c_int,
}
pub type segment_buffer_t = segment_buffer;
pub type transfer_engine_log_callback_t = ::std::option::Option<
    unsafe extern "C" fn(
        level: ::std::os::raw::c_int,
        message: *const ::std::os::raw::c_char,
        user: *mut ::std::os::raw::c_void,
    ),
>;
extern "C" {
    pub fn createTransferEngine(
        metadata_conn_string: *const ::std::os::raw::c_char,
        local_server_name: *const ::std::os::raw::c_char,
        ip_or_host_name: *const ::std::os::raw::c_char,
        rpc_port: u64,
        auto_discover: ::std::os::raw::c_int,
    ) -> transfer_engine_t;
    pub fn createTransferEngineWithSettings(
        metadata_conn_string: *const ::std::os::raw::c_char,
        local_server_name: *const ::std::os::raw::c_char,
        ip_or_host_name: *const ::std::os::raw::c_char,
        rpc_port: u64,
        auto_discover: ::std::os::raw::c_int,
        settings: *const engine_setting_t,
        setting_count: usize,
    ) -> transfer_engine_t;
    pub fn destroyTransferEngine(engine: transfer_engine_t);
    pub fn discoverTopology(engine: transfer_engine_t) -> ::std::os::raw::c_int;
    pub fn getTopology(
        engine: transfer_engine_t,
        buf_out: *mut ::std::os::raw::c_char,
        buf_len: usize,
    ) -> ::std::os::raw::c_int;
    pub fn getNicPriorityMatrix(
        engine: transfer_engine_t,
        buf_out: *mut ::std::os::raw::c_char,
        buf_len: usize,
    ) -> ::std::os::raw::c_int;
    pub fn getLocalIpAndPort(
        engine: transfer_engine_t,
        buf_out: *mut ::std::os::raw::c_char,
        buf_len: usize,
    ) -> ::std::os::raw::c_int;
    pub fn installTransport(
        engine: transfer_engine_t,
        proto: *const ::std::os::raw::c_char,
        args: *mut *mut ::std::os::raw::c_void,
    ) -> transport_t;
    pub fn uninstallTransport(
        engine: transfer_engine_t,
        proto: *const ::std::os::raw::c_char,
    ) -> ::std::os::raw::c_int;
    pub fn enableGracefulShutdown(engine: transfer_engine_t);
    pub fn openSegment(
        engine: transfer_engine_t,
        segment_name: *const ::std::os::raw::c_char,
    ) -> segment_id_t;
    pub fn openSegmentNoCache(
        engine: transfer_engine_t,
        segment_name: *const ::std::os::raw::c_char,
    ) -> segment_id_t;
    pub fn closeSegment(
        engine: transfer_engine_t,
        segment_id: segment_id_t,
    ) -> ::std::os::raw::c_int;
    pub fn warmupEfaSegment(
        engine: transfer_engine_t,
        segment_name: *const ::std::os::raw::c_char,
    ) -> ::std::os::raw::c_int;
    pub fn removeLocalSegment(
        engine: transfer_engine_t,
        segment_name: *const ::std::os::raw::c_char,
    ) -> ::std::os::raw::c_int;
    pub fn syncSegmentCache(engine: transfer_engine_t) -> ::std::os::raw::c_int;
    pub fn describeSegment(
        engine: transfer_engine_t,
        segment_id: segment_id_t,
        buffers: *mut segment_buffer_t,
        count: *mut usize,
    ) -> ::std::os::raw::c_int;
    pub fn registerLocalMemory(
        engine: transfer_engine_t,
        addr: *mut ::std::os::raw::c_void,
        length: usize,
        location: *const ::std::os::raw::c_char,
        remote_accessible: ::std::os::raw::c_int,
    ) -> ::std::os::raw::c_int;
    pub fn unregisterLocalMemory(
        engine: transfer_engine_t,
        addr: *mut ::std::os::raw::c_void,
    ) -> ::std::os::raw::c_int;
    pub fn registerLocalMemoryBatch(
        engine: transfer_engine_t,
        buffer_list: *mut buffer_entry_t,
        buffer_len: usize,
        location: *const ::std::os::raw::c_char,
    ) -> ::std::os::raw::c_int;
    pub fn registerLocalMemoryBatchWithAccess(
        engine: transfer_engine_t,
        buffer_list: *mut buffer_entry_t,
        buffer_len: usize,
        location: *const ::std::os::raw::c_char,
        remote_accessible: ::std::os::raw::c_int,
    ) -> ::std::os::raw::c_int;
    pub fn unregisterLocalMemoryBatch(
        engine: transfer_engine_t,
        addr_list: *mut *mut ::std::os::raw::c_void,
        addr_len: usize,
    ) -> ::std::os::raw::c_int;
    pub fn allocateMemory(
        engine: transfer_engine_t,
        length: usize,
        location: *const ::std::os::raw::c_char,
        huge_pages: ::std::os::raw::c_int,
    ) -> *mut ::std::os::raw::c_void;
    pub fn freeMemory(
        engine: transfer_engine_t,
        addr: *mut ::std::os::raw::c_void,
    ) -> ::std::os::raw::c_int;
    pub fn allocateBatchID(engine: transfer_engine_t, batch_size: usize) -> batch_id_t;
    pub fn allocateBatchIDWithOptions(
        engine: transfer_engine_t,
        batch_size: usize,
        options: *const batch_options_t,
    ) -> batch_id_t;
    pub fn submitTransfer(
        engine: transfer_engine_t,
        batch_id: batch_id_t,
        entries: *mut transfer_request,
        count: usize,
    ) -> ::std::os::raw::c_int;
    pub fn submitTransferWithNotify(
        engine: transfer_engine_t,
        batch_id: batch_id_t,
        entries: *mut transfer_request,
        count: usize,
        notify_msg: notify_msg_t,
    ) -> ::std::os::raw::c_int;
    pub fn submitTransferWithTimeout(
        engine: transfer_engine_t,
        batch_id: batch_id_t,
        entries: *mut transfer_request,
        count: usize,
        timeout_ms: u64,
    ) -> ::std::os::raw::c_int;
    pub fn submitTransferWithOptions(
        engine: transfer_engine_t,
        batch_id: batch_id_t,
        entries: *mut transfer_request,
        count: usize,
        options: *const submit_options_t,
    ) -> ::std::os::raw::c_int;
    pub fn submitBlocks(
        engine: transfer_engine_t,
        batch_id: batch_id_t,
        list: *const block_list_t,
        options: *const submit_options_t,
    ) -> ::std::os::raw::c_int;
    pub fn submitAddresses(
        engine: transfer_engine_t,
        batch_id: batch_id_t,
        list: *const address_list_t,
        options: *const submit_options_t,
    ) -> ::std::os::raw::c_int;
    pub fn prepareBlocks(
        engine: transfer_engine_t,
        list: *const block_list_t,
    ) -> prepared_list_t;
    pub fn prepareAddresses(
        engine: transfer_engine_t,
        list: *const address_list_t,
    ) -> prepared_list_t;
    pub fn submitPreparedList(
        engine: transfer_engine_t,
        batch_id: batch_id_t,
        list: prepared_list_t,
        options: *const submit_options_t,
    ) -> ::std::os::raw::c_int;
    pub fn freePreparedList(list: prepared_list_t);
    pub fn setAddressing(
        engine: transfer_engine_t,
        addressing: ::std::os::raw::c_int,
    ) -> ::std::os::raw::c_int;
    pub fn getTransferStatus(
        engine: transfer_engine_t,
        batch_id: batch_id_t,
        task_id: usize,
        status: *mut transfer_status,
    ) -> ::std::os::raw::c_int;
    pub fn getBatchStatus(
        engine: transfer_engine_t,
        batch_id: batch_id_t,
        status: *mut transfer_status,
    ) -> ::std::os::raw::c_int;
    pub fn getTransferError(
        engine: transfer_engine_t,
        batch_id: batch_id_t,
        task_id: usize,
        buf_out: *mut ::std::os::raw::c_char,
        buf_len: usize,
    ) -> ::std::os::raw::c_int;
    pub fn waitBatch(
        engine: transfer_engine_t,
        batch_id: batch_id_t,
        timeout_ms: i64,
    ) -> ::std::os::raw::c_int;
    pub fn cancelBatch(
        engine: transfer_engine_t,
        batch_id: batch_id_t,
    ) -> ::std::os::raw::c_int;
    pub fn getBatchEventFd(
        engine: transfer_engine_t,
        batch_id: batch_id_t,
    ) -> ::std::os::raw::c_int;
    pub fn takeCompletions(
        engine: transfer_engine_t,
        completions: *mut completion_t,
        count: *mut usize,
    ) -> ::std::os::raw::c_int;
    pub fn getCompletionFd(engine: transfer_engine_t) -> ::std::os::raw::c_int;
    pub fn freeBatchID(
        engine: transfer_engine_t,
        batch_id: batch_id_t,
    ) -> ::std::os::raw::c_int;
    pub fn sendNotification(
        engine: transfer_engine_t,
        target_id: segment_id_t,
        notification: *const notification_t,
    ) -> ::std::os::raw::c_int;
    pub fn takeNotifications(
        engine: transfer_engine_t,
        list: *mut *mut notification_t,
        count: *mut usize,
    ) -> ::std::os::raw::c_int;
    pub fn freeNotifications(list: *mut notification_t);
    pub fn genNotifyInEngine(
        engine: transfer_engine_t,
        target_id: u64,
        notify_msg: notify_msg_t,
    ) -> ::std::os::raw::c_int;
    pub fn getNotifsFromEngine(
        engine: transfer_engine_t,
        size: *mut ::std::os::raw::c_int,
    ) -> *mut notify_msg_t;
    pub fn freeNotifsMsgBuf(
        msg: *mut notify_msg_t,
        size: ::std::os::raw::c_int,
    ) -> ::std::os::raw::c_int;
    pub fn getNicLoadStats(
        engine: transfer_engine_t,
        stats: *mut nic_load_stat_t,
        count: *mut usize,
    ) -> ::std::os::raw::c_int;
    pub fn showLinks(
        engine: transfer_engine_t,
        buf_out: *mut ::std::os::raw::c_char,
        buf_len: usize,
        json: ::std::os::raw::c_int,
    ) -> ::std::os::raw::c_int;
    pub fn getEffectiveConfig(
        engine: transfer_engine_t,
        buf_out: *mut ::std::os::raw::c_char,
        buf_len: usize,
    ) -> ::std::os::raw::c_int;
    pub fn transferEngineLastError() -> *const ::std::os::raw::c_char;
    pub fn transferEngineErrorName(
        code: ::std::os::raw::c_int,
    ) -> *const ::std::os::raw::c_char;
    pub fn transferEngineVersion() -> *const ::std::os::raw::c_char;
    pub fn setTransferEngineLogCallback(
        callback: transfer_engine_log_callback_t,
        user: *mut ::std::os::raw::c_void,
    );
    pub fn setTransferEngineLogLevel(
        level: ::std::os::raw::c_int,
    ) -> ::std::os::raw::c_int;
}
