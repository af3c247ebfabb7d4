//! Batches: submit, wait, cancel; and notifications.

use std::convert::TryInto;
use std::os::raw::c_int;
use std::os::unix::io::RawFd;
use std::time::Duration;

use anyhow::Result;

use super::{
    BatchID, Completion, Notification, SubmitOptions, TaskId, TransferEngine, TransferRequest,
    TransferStatusEnum,
};
use crate::error::{c_string, check, code, filled_text, text_of, EngineError};
use crate::ffi;

impl TransferEngine {
    /// Makes room for `batch_size` requests, submitted together or one after another.
    ///
    /// Free it with [`free_batch_id`](Self::free_batch_id).
    pub fn allocate_batch_id(&self, batch_size: usize) -> Result<BatchID> {
        // SAFETY: a live handle.
        let batch_id = unsafe { ffi::allocateBatchID(self.raw(), batch_size) };
        // INVALID_BATCH.
        if batch_id == u64::MAX {
            return Err(EngineError::last(None, format!("allocate_batch_id({batch_size})")).into());
        }
        Ok(batch_id)
    }

    /// As [`allocate_batch_id`](Self::allocate_batch_id), for a batch that goes into the engine's
    /// completion queue when it has ended: see [`take_completions`](Self::take_completions).
    pub fn allocate_queued_batch_id(&self, batch_size: usize) -> Result<BatchID> {
        let options = ffi::batch_options_t {
            struct_size: std::mem::size_of::<ffi::batch_options_t>(),
            completion_queue: 1,
        };
        // SAFETY: a live handle, and options that live through the call.
        let batch_id = unsafe { ffi::allocateBatchIDWithOptions(self.raw(), batch_size, &options) };
        if batch_id == u64::MAX {
            let call = format!("allocate_queued_batch_id({batch_size})");
            return Err(EngineError::last(None, call).into());
        }
        Ok(batch_id)
    }

    /// Takes at most `most` batches that have ended, oldest first: of those of
    /// [`allocate_queued_batch_id`](Self::allocate_queued_batch_id). A batch comes once each time
    /// that its last task in flight ends, unless it is freed, or used again, before it is taken.
    pub fn take_completions(&self, most: usize) -> Result<Vec<Completion>> {
        let none = ffi::transfer_status_t { status: 0, transferred_bytes: 0 };
        let mut list = vec![ffi::completion_t { batch_id: u64::MAX, status: none }; most];
        let mut count = most;
        // SAFETY: a live handle, and a list with as many places as `count` says.
        let answer = unsafe { ffi::takeCompletions(self.raw(), list.as_mut_ptr(), &mut count) };
        check(answer, || format!("take_completions({most})"))?;
        list[..count]
            .iter()
            .map(|each| {
                Ok(Completion {
                    batch_id: each.batch_id,
                    status: each.status.status.try_into()?,
                    transferred_bytes: each.status.transferred_bytes,
                })
            })
            .collect()
    }

    /// A descriptor that is readable while there is a batch to take. It belongs to the engine:
    /// never read or close it.
    pub fn completion_fd(&self) -> Result<RawFd> {
        // SAFETY: a live handle.
        let fd = unsafe { ffi::getCompletionFd(self.raw()) };
        check(fd, || "completion_fd")
    }

    /// Submits requests: all are accepted, or none. Task numbers follow the order of submission,
    /// from 0. An empty list does nothing.
    ///
    /// Never waits for the network: a range that the target is not known to offer is accepted, and
    /// its task fails once the target itself has refused. A target that restarted has
    /// `retry_window_ms` to register its memory again.
    ///
    /// The list may be dropped after the call; the sources must stay valid until their tasks are
    /// terminal.
    pub fn submit_transfer(&self, batch_id: BatchID, requests: &[TransferRequest]) -> Result<()> {
        if requests.is_empty() {
            return Ok(());
        }
        let entries = native(requests);
        // SAFETY: a live handle and an array of that length; the caller vouches for the sources.
        let answer = unsafe { ffi::submitTransfer(self.raw(), batch_id, entries, requests.len()) };
        check(answer, || submission("submit_transfer", batch_id, requests)).map(drop)
    }

    /// As [`submit_transfer`](Self::submit_transfer); tasks that are not complete after `timeout`
    /// end in [`TransferStatusEnum::Timeout`], at most 50 ms later on a machine that is not
    /// overloaded, whatever peers, networks and directories do. Zero: at once, unless already
    /// complete.
    pub fn submit_transfer_with_timeout(
        &self,
        batch_id: BatchID,
        requests: &[TransferRequest],
        timeout: Duration,
    ) -> Result<()> {
        if requests.is_empty() {
            return Ok(());
        }
        let (entries, count) = (native(requests), requests.len());
        let timeout_ms = milliseconds(timeout);
        // SAFETY: as in submit_transfer().
        let answer = unsafe {
            ffi::submitTransferWithTimeout(self.raw(), batch_id, entries, count, timeout_ms)
        };
        check(answer, || submission("submit_transfer_with_timeout", batch_id, requests)).map(drop)
    }

    /// As [`submit_transfer`](Self::submit_transfer), and delivers `notification` to the target's
    /// queue, at most once, after every request of this submission has completed. If the last task
    /// times out, is cancelled or fails, the target may have it or not, and does not get it later.
    ///
    /// # Errors
    /// Also for a name with a NUL inside, and for an empty list: use [`notify`](Self::notify).
    pub fn submit_transfer_with_notify(
        &self,
        batch_id: BatchID,
        requests: &[TransferRequest],
        notification: &Notification,
    ) -> Result<()> {
        const CALL: &str = "submit_transfer_with_notify";
        if requests.is_empty() {
            let message = "there is no request to follow; send a message alone with notify()";
            return Err(EngineError::new(code::INVALID_ARGUMENT, CALL, message).into());
        }
        let options = SubmitOptions { notification: Some(notification), ..Default::default() };
        self.submit(CALL, batch_id, requests, &options)
    }

    /// As [`submit_transfer`](Self::submit_transfer), with all options of a submission.
    ///
    /// # Errors
    /// Also for an empty list with a notification: use [`notify`](Self::notify).
    pub fn submit_transfer_with_options(
        &self,
        batch_id: BatchID,
        requests: &[TransferRequest],
        options: &SubmitOptions<'_>,
    ) -> Result<()> {
        self.submit("submit_transfer_with_options", batch_id, requests, options)
    }

    fn submit(
        &self,
        call: &str,
        batch_id: BatchID,
        requests: &[TransferRequest],
        options: &SubmitOptions<'_>,
    ) -> Result<()> {
        let (entries, count) = (native(requests), requests.len());
        let answer = with_options(call, options, |options| {
            // SAFETY: as in submit_transfer(); the options and the message live through the call.
            unsafe { ffi::submitTransferWithOptions(self.raw(), batch_id, entries, count, options) }
        })?;
        check(answer, || submission(call, batch_id, requests)).map(drop)
    }

    /// The status of task `task_id` of a batch: the number of a [`TransferStatusEnum`], and the
    /// bytes transferred. A memory load; tasks progress without it.
    pub fn get_transfer_status(
        &self,
        batch_id: BatchID,
        task_id: impl TaskId,
    ) -> Result<(i32, u64)> {
        let (index, mut status) =
            (task_id.index(), ffi::transfer_status_t { status: 0, transferred_bytes: 0 });
        // SAFETY: a live handle and a place for the answer; forged numbers are errors.
        let answer = unsafe { ffi::getTransferStatus(self.raw(), batch_id, index, &mut status) };
        check(answer, || format!("get_transfer_status({batch_id:#x}, {task_id})"))?;
        Ok((status.status, status.transferred_bytes))
    }

    /// The status of a batch: pending while any submitted task is, then the worst status; and the
    /// sum of the bytes.
    pub fn get_batch_status(&self, batch_id: BatchID) -> Result<(TransferStatusEnum, u64)> {
        let mut status = ffi::transfer_status_t { status: 0, transferred_bytes: 0 };
        // SAFETY: as in get_transfer_status().
        let answer = unsafe { ffi::getBatchStatus(self.raw(), batch_id, &mut status) };
        check(answer, || format!("get_batch_status({batch_id:#x})"))?;
        Ok((status.status.try_into()?, status.transferred_bytes))
    }

    /// Why a task failed. Empty if it completed or is in flight.
    pub fn get_transfer_error(&self, batch_id: BatchID, task_id: impl TaskId) -> Result<String> {
        filled_text(&format!("get_transfer_error({batch_id:#x}, {task_id})"), |text, room| {
            // SAFETY: a live handle and that much room; forged numbers are errors.
            unsafe { ffi::getTransferError(self.raw(), batch_id, task_id.index(), text, room) }
        })
    }

    /// Waits until every submitted task is terminal. Ok even if tasks failed. `None`: no limit
    /// besides the deadlines of the tasks. Zero: polls without sleeping.
    ///
    /// # Errors
    /// [`code::TIMEOUT`] if that takes longer than `timeout`; the tasks continue.
    pub fn wait_batch(&self, batch_id: BatchID, timeout: Option<Duration>) -> Result<()> {
        let timeout_ms =
            timeout.map_or(-1, |timeout| i64::try_from(milliseconds(timeout)).unwrap_or(i64::MAX));
        // SAFETY: a live handle; a forged number is an error.
        let answer = unsafe { ffi::waitBatch(self.raw(), batch_id, timeout_ms) };
        check(answer, || format!("wait_batch({batch_id:#x}, {timeout:?})")).map(drop)
    }

    /// Requests the cancellation of every task in flight. [`wait_batch`](Self::wait_batch) waits
    /// until they are terminal.
    pub fn cancel_batch(&self, batch_id: BatchID) -> Result<()> {
        // SAFETY: a live handle; a forged number is an error.
        let answer = unsafe { ffi::cancelBatch(self.raw(), batch_id) };
        check(answer, || format!("cancel_batch({batch_id:#x})")).map(drop)
    }

    /// A descriptor that is readable while no task is in flight, after at least one submission.
    ///
    /// It belongs to the engine: never read or close it. Freeing the batch closes it.
    pub fn batch_event_fd(&self, batch_id: BatchID) -> Result<RawFd> {
        // SAFETY: a live handle; a forged number is an error.
        let fd = unsafe { ffi::getBatchEventFd(self.raw(), batch_id) };
        check(fd, || format!("batch_event_fd({batch_id:#x})"))
    }

    /// Waits until every task is terminal (their deadlines bound that), then frees the batch.
    pub fn free_batch_id(&self, batch_id: BatchID) -> Result<()> {
        // SAFETY: a live handle; a forged number is an error.
        let answer = unsafe { ffi::freeBatchID(self.raw(), batch_id) };
        check(answer, || format!("free_batch_id({batch_id:#x})")).map(drop)
    }

    /// Sends a message without a transfer. Returns when it is in the target's queue. After
    /// [`code::TIMEOUT`] it may be there, but does not arrive later.
    pub fn notify(&self, target_id: i32, notification: &Notification) -> Result<()> {
        let answer = with_message("notify", notification, |message| {
            // SAFETY: a live handle; the message lives through the call.
            unsafe { ffi::sendNotification(self.raw(), target_id, message) }
        })?;
        check(answer, || format!("notify({target_id}, {:?})", notification.name)).map(drop)
    }

    /// Takes all messages that have arrived.
    pub fn take_notifications(&self) -> Result<Vec<Notification>> {
        let (mut list, mut count) = (std::ptr::null_mut(), 0);
        // SAFETY: a live handle, and places for the list and its length.
        let answer = unsafe { ffi::takeNotifications(self.raw(), &mut list, &mut count) };
        check(answer, || "take_notifications")?;
        if list.is_null() {
            return Ok(Vec::new());
        }
        // SAFETY: that many messages, each with a C string and as many bytes as it says, ours until
        // they are freed.
        let taken = unsafe {
            let messages = std::slice::from_raw_parts(list, count);
            messages
                .iter()
                .map(|message| Notification {
                    name: text_of(message.name),
                    message: std::slice::from_raw_parts(message.data.cast(), message.length)
                        .to_vec(),
                })
                .collect()
        };
        // SAFETY: what takeNotifications() gave, once.
        unsafe { ffi::freeNotifications(list) };
        Ok(taken)
    }
}

/// The requests as C sees them; types.rs asserts that they look the same. C only reads them.
fn native(requests: &[TransferRequest]) -> *mut ffi::transfer_request_t {
    requests.as_ptr() as *mut ffi::transfer_request_t
}

/// A submission for an error: the first request, and how many there are.
fn submission(call: &str, batch_id: BatchID, requests: &[TransferRequest]) -> String {
    let first = match requests.first() {
        Some(first) => format!(
            "{} of {} bytes, {:p}, segment {} at offset {:#x}",
            first.opcode, first.length, first.source, first.target_id, first.target_offset
        ),
        None => "nothing".to_string(),
    };
    format!("{call}(batch {batch_id:#x}, {} requests, the first: {first})", requests.len())
}

/// Calls `submit` with the options as C sees them.
pub(super) fn with_options(
    call: &str,
    options: &SubmitOptions<'_>,
    submit: impl Fn(&ffi::submit_options_t) -> i32,
) -> Result<i32> {
    let (after_event, after_stream) = options.after.handles();
    let mut native = ffi::submit_options_t {
        struct_size: std::mem::size_of::<ffi::submit_options_t>(),
        addressing: options.addressing as c_int,
        // 0 would mean the engine's own limit.
        timeout_ms: options.timeout.map_or(0, |timeout| milliseconds(timeout).max(1)),
        notify_msg: std::ptr::null(),
        notification: std::ptr::null(),
        after_event,
        after_stream,
    };
    match options.notification {
        Some(notification) => with_message(call, notification, |message| {
            native.notification = message;
            submit(&native)
        }),
        None => Ok(submit(&native)),
    }
}

fn with_message(
    call: &str,
    notification: &Notification,
    send: impl FnOnce(&ffi::notification_t) -> i32,
) -> Result<i32> {
    let name = c_string(call, "notification.name", &notification.name)?;
    Ok(send(&ffi::notification_t {
        name: name.as_ptr(),
        data: notification.message.as_ptr().cast(),
        length: notification.message.len(),
    }))
}

/// Whole milliseconds, rounded up: a limit above 0 stays above 0.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from((time.as_nanos() + 999_999) / 1_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_limits_do_not_become_none() {
        assert_eq!(milliseconds(Duration::from_nanos(0)), 0);
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_millis(7)), 7);
        assert_eq!(milliseconds(Duration::MAX), u64::MAX);
    }
}
