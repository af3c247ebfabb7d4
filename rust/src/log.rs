//! The destination of log messages.

use std::ffi::c_void;
use std::os::raw::{c_char, c_int};
use std::panic::{self, AssertUnwindSafe};
use std::ptr;

use crate::error::{check, text_of};
use crate::ffi;

/// The level of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i32)]
pub enum LogLevel {
    /// Something failed.
    Error = 0,
    /// Something is wrong, but the engine continues.
    Warning = 1,
    /// Normal events.
    Info = 2,
    /// Internal events.
    Debug = 3,
}

type Hook = Box<dyn Fn(LogLevel, &str) + Send + Sync>;

/// Sends every message of every engine of this process to `hook`, instead of stderr.
///
/// It is called from any thread, and must not call this crate. It is never dropped, because a
/// thread may be inside it at any time. Set one per process.
pub fn set_log_hook(hook: impl Fn(LogLevel, &str) + Send + Sync + 'static) {
    let hook: Hook = Box::new(hook);
    let user: *mut Hook = Box::into_raw(Box::new(hook));
    // SAFETY: call_hook() gets what it expects, and that lives for ever.
    unsafe { ffi::setTransferEngineLogCallback(Some(call_hook), user.cast()) }
}

/// Sends messages to stderr again.
pub fn reset_log_hook() {
    // SAFETY: null restores stderr.
    unsafe { ffi::setTransferEngineLogCallback(None, ptr::null_mut()) }
}

/// Drops messages that are less important than `level`.
pub fn set_log_level(level: LogLevel) -> anyhow::Result<()> {
    // SAFETY: takes any number.
    let answer = unsafe { ffi::setTransferEngineLogLevel(level as c_int) };
    check(answer, || format!("set_log_level({level:?})")).map(drop)
}

/// # Safety
/// `user` is a `Hook` that lives for ever, `message` a C string.
unsafe extern "C" fn call_hook(level: c_int, message: *const c_char, user: *mut c_void) {
    let hook = &*user.cast::<Hook>();
    let level = match level {
        0 => LogLevel::Error,
        1 => LogLevel::Warning,
        2 => LogLevel::Info,
        _ => LogLevel::Debug,
    };
    let message = text_of(message);
    // A panic must not unwind into the engine; its own message was printed already.
    let _ = panic::catch_unwind(AssertUnwindSafe(|| hook(level, &message)));
}
