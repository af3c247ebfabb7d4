/*
 * Transfer Engine, C API. A stable ABI: names, numbers and layouts here do not change.
 *
 * Conventions, unless a function says otherwise:
 *  - It returns 0, or a negative error code (TE_ERR_*). transferEngineLastError() then has the
 *    text: what went wrong, where, and what to do. A null engine or a null pointer is an error,
 *    never a crash.
 *  - Every function may be called from any thread. When destroyTransferEngine() is called, no other
 *    thread may be inside a call on that engine, except waitBatch(), which it wakes.
 *  - A transfer_engine_t is an unchecked pointer. To use one that createTransferEngine() did not
 *    return, or that was destroyed, is undefined behaviour, as is free() twice. Set it to null
 * after destroyTransferEngine(): every function accepts null. Segments and batches are checked
 *    numbers: forged and stale ones are errors.
 *  - No `char *` argument is used after the call has returned. Registered memory must stay valid
 *    until it is unregistered, the source of a request until its task is terminal.
 *  - An engine belongs to the process that created it. In a forked child, every call on it fails
 *    with TE_ERR_UNSUPPORTED, and destroyTransferEngine() does nothing. Create another engine
 * there. The child has none of the engine's sockets and event descriptors. It shares the memory of
 *    allocateMemory() with its parent, and has copies of all other memory. posix_spawn() and exec
 *    are not affected.
 *  - Lengths and offsets are in bytes. Text is UTF-8 with a NUL at its end.
 *  - Functions that fill a text buffer fail with TE_ERR_NO_SPACE if it is too small. With a null
 *    buffer of 0 bytes they return the number of bytes that the text needs now, with its NUL.
 */
#ifndef TRANSFER_ENGINE_C_H
#define TRANSFER_ENGINE_C_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(TE_BUILDING_LIBRARY)
#define TE_C_API __attribute__((visibility("default")))
#else
#define TE_C_API
#endif

typedef void* transfer_engine_t; /* an engine */
typedef void* prepared_list_t;   /* a prepared list: opaque, freed with freePreparedList() */
typedef void* transport_t;       /* an installed transport: opaque, never to be freed */
typedef int32_t segment_handle_t;
typedef int32_t segment_id_t;
typedef uint64_t batch_id_t;

#define LOCAL_SEGMENT (0) /* the caller's own segment */
#define INVALID_BATCH UINT64_MAX

#define OPCODE_READ (0)  /* from the target into `source` */
#define OPCODE_WRITE (1) /* from `source` to the target */

/* How target_offset is read. A number may be both: buffers may lie at low addresses (static data
 * and the heap of non-PIE programs, MAP_32BIT) below the end of a large segment. */
#define ADDRESSING_DEFAULT (0) /* the mode of the engine: ADDRESSING_AUTO unless it was set */
#define ADDRESSING_AUTO (1)    /* whichever fits; refused if both ever fitted */
#define ADDRESSING_OFFSET (2)  /* bytes from the segment's start */
#define ADDRESSING_ADDRESS (3) /* an address in the target's process */

/* What peers may do to a registered buffer. */
#define REMOTE_ACCESS_NONE (0)
#define REMOTE_ACCESS_DEFAULT (1)    /* READ and WRITE, as far as the memory allows */
#define REMOTE_ACCESS_READ (2)       /* READ only */
#define REMOTE_ACCESS_WRITE (3)      /* WRITE only */
#define REMOTE_ACCESS_READ_WRITE (4) /* READ and WRITE, or a failure */

/* What memory is made of. Numbers that are not here are those of newer peers. */
#define MEMORY_HOST (0)
#define MEMORY_CUDA (1) /* of an NVIDIA GPU */
#define MEMORY_FILE (2)

#define HUGE_PAGES_NO (0)
#define HUGE_PAGES_PREFER (1)  /* normal ones if there are none */
#define HUGE_PAGES_REQUIRE (2) /* a failure if there are none */

#define STATUS_WAITING (0) /* not submitted yet */
#define STATUS_PENDING (1) /* in flight */
#define STATUS_INVALID (2)
#define STATUS_CANCELED (3)
#define STATUS_COMPLETED (4) /* WRITE: in place at the target; READ: in the source buffer */
#define STATUS_TIMEOUT (5)
#define STATUS_FAILED (6)

#define TE_ERR_INVALID_ARGUMENT (-1)
#define TE_ERR_NOT_FOUND (-2)
#define TE_ERR_ALREADY_EXISTS (-3)
#define TE_ERR_OUT_OF_RANGE (-4)
#define TE_ERR_PERMISSION (-5)
#define TE_ERR_UNAVAILABLE (-6)
#define TE_ERR_TIMEOUT (-7)
#define TE_ERR_CANCELLED (-8)
#define TE_ERR_STALE (-9)
#define TE_ERR_BUSY (-10)
#define TE_ERR_UNSUPPORTED (-11)
#define TE_ERR_PROTOCOL (-12)
#define TE_ERR_NO_SPACE (-13)
#define TE_ERR_RESOURCE (-14)
#define TE_ERR_INTERNAL (-15)

struct transfer_request {
  int opcode;
  void* source; /* inside one registered buffer */
  segment_id_t target_id;
  uint64_t target_offset; /* from the segment's start, or an address: ADDRESSING_* */
  uint64_t length;
};
typedef struct transfer_request transfer_request_t;

struct transfer_status {
  int status;
  uint64_t transferred_bytes;
};
typedef struct transfer_status transfer_status_t;

struct buffer_entry {
  void* addr;
  size_t length;
};
typedef struct buffer_entry buffer_entry_t;

/* Two arrays of blocks of one size, here and at the target, such as one layer of a KV cache. */
struct block_region {
  void* source;           /* where block 0 begins here */
  uint64_t target_offset; /* where block 0 begins at the target: ADDRESSING_* */
  uint64_t block_size;    /* bytes */
};
typedef struct block_region block_region_t;

/* READs or WRITEs of whole blocks, as one task: in each region, block source_blocks[i] here and
 * block target_blocks[i] at the target. Blocks that follow each other at both ends are moved
 * together. */
struct block_list {
  int opcode;
  segment_id_t target_id;
  const block_region_t* regions;
  size_t region_count;
  const uint64_t* source_blocks;
  const uint64_t* target_blocks;
  size_t block_count; /* of each of the two */
};
typedef struct block_list block_list_t;

/* READs or WRITEs of ranges, as one task. Ranges that follow each other at both ends are moved
 * together. */
struct address_list {
  int opcode;
  segment_id_t target_id;
  const uint64_t* sources; /* addresses here */
  const uint64_t* target_offsets;
  const uint64_t* lengths;
  size_t count; /* of each of the three */
};
typedef struct address_list address_list_t;

/* A setting, as `te info` lists them: it overrides the environment and the default. */
struct engine_setting {
  const char* name;
  const char* value;
};
typedef struct engine_setting engine_setting_t;

/* A message: a name, and bytes of any kind. The name is a text of at most 262,144 bytes; there are
 * at most 524,288 bytes of data. The target keeps up to max_notifications (65,536) messages that
 * nobody has taken; then more are refused with TE_ERR_BUSY. */
struct notification {
  const char* name;
  const void* data; /* may be null if `length` is 0 */
  size_t length;
};
typedef struct notification notification_t;

/* The same with a text as data: it ends at its first NUL. */
struct notify_msg {
  char* name;
  char* msg;
};
typedef struct notify_msg notify_msg_t;

struct nic_load_stat {
  char device_name[64];
  uint64_t inflight_bytes;
  double ewma_bandwidth_bps; /* bits per second */
};
typedef struct nic_load_stat nic_load_stat_t;

/* For submitTransferWithOptions(). Zero means the default everywhere, so start with
 * {sizeof(submit_options_t)}. Later versions may add members at the end. */
struct submit_options {
  size_t struct_size;                 /* sizeof(submit_options_t) as the caller was compiled */
  int addressing;                     /* ADDRESSING_*, for all requests of the submission */
  uint64_t timeout_ms;                /* 0: the engine's transfer_timeout_ms */
  const notify_msg_t* notify_msg;     /* as submitTransferWithNotify(); null: none */
  const notification_t* notification; /* the same with any bytes; null: none; not with notify_msg */
  /* Work of GPUs that must end before anything touches the local memory, such as kernels that write
   * the source: a CUevent (cudaEvent_t), as it was recorded last, and a CUstream (cudaStream_t),
   * with what is in it at the time of the call; CU_STREAM_LEGACY for the default stream. Null:
   * none. The call does not wait: the tasks are pending until the work has ended, and end at their
   * deadline and by cancelBatch() as others do. They fail if the work fails. Neither is used after
   * the call: the event may be recorded again, or destroyed. */
  void* after_event;
  void* after_stream;
};
typedef struct submit_options submit_options_t;

/* For allocateBatchIDWithOptions(). Zero means the default everywhere, so start with
 * {sizeof(batch_options_t)}. Later versions may add members at the end. */
struct batch_options {
  size_t struct_size;   /* sizeof(batch_options_t) as the caller was compiled */
  int completion_queue; /* not 0: when it has ended, it goes into the engine's completion queue */
};
typedef struct batch_options batch_options_t;

/* A batch of the completion queue, and its status as by getBatchStatus(). */
struct completion {
  batch_id_t batch_id;
  transfer_status_t status;
};
typedef struct completion completion_t;

/* One buffer of a segment, as described by describeSegment(). */
struct segment_buffer {
  uint64_t address; /* in the target's process */
  uint64_t offset;  /* in the segment, as target_offset counts */
  uint64_t length;
  char location[32];     /* such as "cpu:0" or "cuda:1", by the target's numbers */
  int remote_accessible; /* 0: not; 1: READ and WRITE; REMOTE_ACCESS_READ or _WRITE: that alone */
  int memory_kind;       /* MEMORY_*; in what was padding before */
};
typedef struct segment_buffer segment_buffer_t;

/* ---- Engine ---- */

/* Null on failure. `metadata_conn_string`: "P2PHANDSHAKE", "etcd://h:p[,h:p]" or a bare "h:p",
 * "redis://[:password@]h:p[/db]", "http://h:p/path"; with TLS "etcds://", "rediss://", "https://".
 * The settings directory_... have its certificates and passwords. `ip_or_host_name`: the address
 * that peers should use: one of this machine, or a name that resolves to one. Any other is an
 * error, unless the setting advertise_address is given. Null, empty, or the same text as the name:
 * the name if it is an address of this machine, else chosen by the engine. `rpc_port` 0: any free
 * port; a taken port is an error. `auto_discover` other than 0: discover the topology and install
 * every transport that this machine can serve. */
TE_C_API transfer_engine_t createTransferEngine(const char* metadata_conn_string,
                                                const char* local_server_name,
                                                const char* ip_or_host_name, uint64_t rpc_port,
                                                int auto_discover);
/* The same with settings for this engine. An unknown name, or a value that a setting does not
 * accept, is an error that names it. */
TE_C_API transfer_engine_t createTransferEngineWithSettings(
    const char* metadata_conn_string, const char* local_server_name, const char* ip_or_host_name,
    uint64_t rpc_port, int auto_discover, const engine_setting_t* settings, size_t setting_count);
/* Cancels transfers in flight and withdraws the segment. Null is allowed. Waits at most 80 ms for
 * the metadata server: if it does not answer, the name stays until it does, or until its lease
 * ends. */
TE_C_API void destroyTransferEngine(transfer_engine_t engine);
TE_C_API int discoverTopology(transfer_engine_t engine);
/* The topology as JSON: memory nodes, GPUs, NICs and their distances. */
TE_C_API int getTopology(transfer_engine_t engine, char* buf_out, size_t buf_len);
/* Which NICs serve which location, from the topology: preferred ones and others, nearest first:
 * {"cpu:0": [["mlx5_0"], ["mlx5_1"]], ...}. installTransport() accepts this text. */
TE_C_API int getNicPriorityMatrix(transfer_engine_t engine, char* buf_out, size_t buf_len);
/* Writes "host:port" as peers should use it. */
TE_C_API int getLocalIpAndPort(transfer_engine_t engine, char* buf_out, size_t buf_len);
/* `args`: null, or args[0] a NIC priority matrix as JSON text. Null on failure. An engine without
 * an installed transport serves tcp and shm. The first install replaces both: after "tcp" alone
 * there is no shm. */
TE_C_API transport_t installTransport(transfer_engine_t engine, const char* proto, void** args);
TE_C_API int uninstallTransport(transfer_engine_t engine, const char* proto);
/* From now on SIGINT, SIGTERM and exit() withdraw the segment before the process ends. That takes
 * at most 1.5 s if the metadata server does not answer. Signals that the application ignores or
 * handles are not changed: call removeLocalSegment() or destroyTransferEngine() there. If this
 * cannot be enabled, transferEngineLastError() has the reason. */
TE_C_API void enableGracefulShutdown(transfer_engine_t engine);

/* ---- Segments ---- */

/* Returns an id >= 0, or a negative error code. An open segment follows a target that restarts
 * under the same name. If that target registers another layout of buffers, writes at the same
 * offsets land in the new layout. */
TE_C_API segment_id_t openSegment(transfer_engine_t engine, const char* segment_name);
TE_C_API segment_id_t openSegmentNoCache(transfer_engine_t engine, const char* segment_name);
TE_C_API int closeSegment(transfer_engine_t engine, segment_id_t segment_id);
/* Connects before the first transfer. Idempotent. Does nothing on transports without a warm-up. */
TE_C_API int warmupEfaSegment(transfer_engine_t engine, const char* segment_name);
/* Withdraws the published segment. */
TE_C_API int removeLocalSegment(transfer_engine_t engine, const char* segment_name);
/* Fetches the description of every open segment again. */
TE_C_API int syncSegmentCache(transfer_engine_t engine);
/* The buffers of an open segment, or of LOCAL_SEGMENT. `*count` in: capacity of `buffers`; out: the
 * number of buffers. TE_ERR_NO_SPACE if that exceeds the capacity (`buffers` may then be null). */
TE_C_API int describeSegment(transfer_engine_t engine, segment_id_t segment_id,
                             segment_buffer_t* buffers, size_t* count);

/* ---- Memory ---- */

/* A range that is registered already, with the same location and access, is counted: unregister it
 * as often. Any other overlap with a registered buffer is an error.
 * `location`: "cpu:N", "cuda:N", or "*" (found out by the engine). `remote_accessible`: what peers
 * may do, REMOTE_ACCESS_*. With REMOTE_ACCESS_DEFAULT, memory that this process may only read is
 * offered for READ only. The values above it fail with TE_ERR_PERMISSION if the memory does not
 * allow them. Memory that is not mapped, or without any access, cannot be registered. A request
 * that the memory at one end does not allow fails with an error that names that end. */
TE_C_API int registerLocalMemory(transfer_engine_t engine, void* addr, size_t length,
                                 const char* location, int remote_accessible);
/* Waits until nothing touches the memory any more. TE_ERR_BUSY if a stopped process of this host
 * has been in the middle of a copy for longer than the setting unregister_timeout_ms; the error
 * text names it. The memory must then stay valid. Call again to continue waiting. */
TE_C_API int unregisterLocalMemory(transfer_engine_t engine, void* addr);
/* All or none. With REMOTE_ACCESS_DEFAULT. */
TE_C_API int registerLocalMemoryBatch(transfer_engine_t engine, buffer_entry_t* buffer_list,
                                      size_t buffer_len, const char* location);
TE_C_API int registerLocalMemoryBatchWithAccess(transfer_engine_t engine,
                                                buffer_entry_t* buffer_list, size_t buffer_len,
                                                const char* location, int remote_accessible);
TE_C_API int unregisterLocalMemoryBatch(transfer_engine_t engine, void** addr_list,
                                        size_t addr_len);

/* Zeroed memory that is registered, for peers too, until freeMemory() or the end of the engine.
 * Null on failure. Peers on this host map it, so that transfers are plain copies. `huge_pages`:
 * HUGE_PAGES_*. */
TE_C_API void* allocateMemory(transfer_engine_t engine, size_t length, const char* location,
                              int huge_pages);
/* Waits until nothing touches the memory any more, but never for a stopped process. Then frees it.
 */
TE_C_API int freeMemory(transfer_engine_t engine, void* addr);

/* ---- Batches ---- */

/* For up to `batch_size` requests, at most 4,194,304. INVALID_BATCH on failure. */
TE_C_API batch_id_t allocateBatchID(transfer_engine_t engine, size_t batch_size);
/* The same with options. Null means none. */
TE_C_API batch_id_t allocateBatchIDWithOptions(transfer_engine_t engine, size_t batch_size,
                                               const batch_options_t* options);
/* Accepts all requests or none. Never waits for the network: a range that the target is not known
 * to offer is accepted, and its task ends in STATUS_FAILED once the target itself has refused
 * (getTransferError() has the reason). A target that restarted has retry_window_ms to register its
 * memory again. */
TE_C_API int submitTransfer(transfer_engine_t engine, batch_id_t batch_id,
                            struct transfer_request* entries, size_t count);
/* Delivers the message to the target's queue, at most once, after every request of this submission
 * has completed. */
TE_C_API int submitTransferWithNotify(transfer_engine_t engine, batch_id_t batch_id,
                                      struct transfer_request* entries, size_t count,
                                      notify_msg_t notify_msg);
/* Tasks that are not complete after `timeout_ms` end in STATUS_TIMEOUT, at most 50 ms later on a
 * machine that is not overloaded, whatever peers, networks and directories do. 0: at once. Numbers
 * above INT64_MAX, to which C converts negative ones, mean no limit. */
TE_C_API int submitTransferWithTimeout(transfer_engine_t engine, batch_id_t batch_id,
                                       struct transfer_request* entries, size_t count,
                                       uint64_t timeout_ms);
/* Combines the functions above. `options` is not used after the call. TE_ERR_UNSUPPORTED if it sets
 * a member that this version of the library does not know. */
TE_C_API int submitTransferWithOptions(transfer_engine_t engine, batch_id_t batch_id,
                                       struct transfer_request* entries, size_t count,
                                       const submit_options_t* options);
/* One task each, with all ranges of the list: it completes when all of them have. Nothing of the
 * list is used after the call. A range may go on in the next buffer, and all local memory is
 * of one kind. At most 4,194,304 ranges after merging. `options` may be null. */
TE_C_API int submitBlocks(transfer_engine_t engine, batch_id_t batch_id, const block_list_t* list,
                          const submit_options_t* options);
TE_C_API int submitAddresses(transfer_engine_t engine, batch_id_t batch_id,
                             const address_list_t* list, const submit_options_t* options);
/* Checks a list as its submission does, and merges its ranges, to be submitted many times. It holds
 * no memory or segment: what it names is looked up again in each submission, so a peer may register
 * its memory again, or restart, in between. Null on failure. */
TE_C_API prepared_list_t prepareBlocks(transfer_engine_t engine, const block_list_t* list);
TE_C_API prepared_list_t prepareAddresses(transfer_engine_t engine, const address_list_t* list);
TE_C_API int submitPreparedList(transfer_engine_t engine, batch_id_t batch_id, prepared_list_t list,
                                const submit_options_t* options);
/* Submissions go on. Null is allowed. */
TE_C_API void freePreparedList(prepared_list_t list);
/* Sets the addressing mode of the engine, ADDRESSING_AUTO, _OFFSET or _ADDRESS: how target_offset
 * is read unless a submission states it. Call it once after createTransferEngine(). The default is
 * ADDRESSING_AUTO, or the value of TRANSFER_ENGINE_ADDRESSING. ADDRESSING_AUTO refuses a request if
 * its number is both an offset of the segment and an address that was ever registered there; the
 * error names this function. The other two modes always work. */
TE_C_API int setAddressing(transfer_engine_t engine, int addressing);
/* A memory load. Makes no progress; a thread that spins on it gives way to others (sched_yield). */
TE_C_API int getTransferStatus(transfer_engine_t engine, batch_id_t batch_id, size_t task_id,
                               struct transfer_status* status);
/* Over all submitted tasks: pending while any is, then the worst status; and the sum of the bytes.
 */
TE_C_API int getBatchStatus(transfer_engine_t engine, batch_id_t batch_id,
                            struct transfer_status* status);
/* Why a task failed. An empty text if it completed or is in flight. */
TE_C_API int getTransferError(transfer_engine_t engine, batch_id_t batch_id, size_t task_id,
                              char* buf_out, size_t buf_len);
/* Waits until every submitted task is terminal. Returns 0 even if tasks failed. TE_ERR_TIMEOUT if
 * that takes longer than `timeout_ms`. 0: polls without sleeping. Negative: no limit.
 * TE_ERR_CANCELLED if the engine is destroyed meanwhile and tasks were cancelled by that: nothing
 * about the batch can be asked any more. */
TE_C_API int waitBatch(transfer_engine_t engine, batch_id_t batch_id, int64_t timeout_ms);
/* Requests the cancellation of every task in flight. waitBatch() waits until they are terminal. */
TE_C_API int cancelBatch(transfer_engine_t engine, batch_id_t batch_id);
/* A descriptor >= 0 that is readable while no task is in flight, after at least one submission. It
 * belongs to the engine: never read or close it. freeBatchID() closes it. */
TE_C_API int getBatchEventFd(transfer_engine_t engine, batch_id_t batch_id);
/* Takes batches that have ended, oldest first: of those that were allocated with completion_queue.
 * `*count` in: capacity of `completions`; out: filled. A batch comes once each time that its last
 * task in flight ends, unless it is freed, or used again, before it is taken. */
TE_C_API int takeCompletions(transfer_engine_t engine, completion_t* completions, size_t* count);
/* A descriptor >= 0 that is readable while there is a batch to take. It belongs to the engine:
 * never read or close it. */
TE_C_API int getCompletionFd(transfer_engine_t engine);
/* Waits until every task is terminal (deadlines bound that), then frees the batch. */
TE_C_API int freeBatchID(transfer_engine_t engine, batch_id_t batch_id);

/* ---- Notifications ---- */

/* Sends a message to the target, the id of an open segment. Returns when the message is in the
 * target's queue. It arrives at most once. After TE_ERR_TIMEOUT it may be there, but does not
 * arrive later. */
TE_C_API int sendNotification(transfer_engine_t engine, segment_id_t target_id,
                              const notification_t* notification);
/* Takes all messages that have arrived: `*list` has `*count` of them, in the order of arrival, to
 * be freed with freeNotifications(). Null if there are none, or on failure. */
TE_C_API int takeNotifications(transfer_engine_t engine, notification_t** list, size_t* count);
TE_C_API void freeNotifications(notification_t* list); /* null is allowed */
/* The same for text. A message with a NUL in its data seems to end there. */
TE_C_API int genNotifyInEngine(transfer_engine_t engine, uint64_t target_id,
                               notify_msg_t notify_msg);
/* `*size` messages, to be freed with freeNotifsMsgBuf(). Null if there are none (`*size` 0) or on
 * failure (`*size` negative). */
TE_C_API notify_msg_t* getNotifsFromEngine(transfer_engine_t engine, int* size);
TE_C_API int freeNotifsMsgBuf(notify_msg_t* msg, int size);

/* ---- Diagnostics ---- */

/* `*count` in: capacity, out: filled. */
TE_C_API int getNicLoadStats(transfer_engine_t engine, nic_load_stat_t* stats, size_t* count);
/* The paths to each open segment, as text, or as JSON when `json` is not 0. */
TE_C_API int showLinks(transfer_engine_t engine, char* buf_out, size_t buf_len, int json);
/* The effective configuration as JSON. */
TE_C_API int getEffectiveConfig(transfer_engine_t engine, char* buf_out, size_t buf_len);
/* The text of the last failed call of this thread; valid until this thread's next call. Never null.
 */
TE_C_API const char* transferEngineLastError(void);
/* The name of a TE_ERR_* code, such as "not_found". */
TE_C_API const char* transferEngineErrorName(int code);
TE_C_API const char* transferEngineVersion(void);
/* Level 0 error, 1 warning, 2 info, 3 debug. Every message of every engine of the process goes to
 * `callback`, from any thread, which must not call the library; null restores stderr. */
typedef void (*transfer_engine_log_callback_t)(int level, const char* message, void* user);
TE_C_API void setTransferEngineLogCallback(transfer_engine_log_callback_t callback, void* user);
TE_C_API int setTransferEngineLogLevel(int level);

#ifdef __cplusplus
}
#endif

#endif /* TRANSFER_ENGINE_C_H */
