//! The typed error of every call, and helpers that create it from the results of the C API.
//!
//! The engine keeps the error text per thread, so it is read in the call that failed.

use std::ffi::{CStr, CString};
use std::os::raw::c_char;

use crate::ffi;

/// A call that the engine refused, or that failed.
///
/// Reachable from the [`anyhow::Error`] of every method:
///
/// ```no_run
/// # use transfer_engine_rust::{code, transfer_engine::TransferEngine, EngineError};
/// # fn probe(engine: &TransferEngine) {
/// if let Err(error) = engine.open_segment("decode-7".to_string()) {
///     let engine_error = error.downcast_ref::<EngineError>();
///     let retry = engine_error.map_or(false, |error| error.code == code::UNAVAILABLE);
///     eprintln!("{error}; retry: {retry}");
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {message} [{name}]")]
pub struct EngineError {
    /// One of [`code`], or 0 if the engine gave none.
    pub code: i32,
    /// The code's name, such as `not_found`.
    pub name: String,
    /// The call with its main argument, such as `open_segment("decode-7")`.
    pub call: String,
    /// The text of the engine: what went wrong, where, and what to do.
    pub message: String,
}

/// The values of [`EngineError::code`].
pub mod code {
    use crate::ffi;

    /// A wrong parameter; nothing was started.
    pub const INVALID_ARGUMENT: i32 = ffi::TE_ERR_INVALID_ARGUMENT;
    /// No such segment, batch, buffer, task or transport.
    pub const NOT_FOUND: i32 = ffi::TE_ERR_NOT_FOUND;
    /// A name or a range is taken.
    pub const ALREADY_EXISTS: i32 = ffi::TE_ERR_ALREADY_EXISTS;
    /// A range leaves its buffer, or a task number its batch.
    pub const OUT_OF_RANGE: i32 = ffi::TE_ERR_OUT_OF_RANGE;
    /// The target does not allow it.
    pub const PERMISSION: i32 = ffi::TE_ERR_PERMISSION;
    /// A peer or server cannot be reached, or was lost.
    pub const UNAVAILABLE: i32 = ffi::TE_ERR_UNAVAILABLE;
    /// The deadline passed first.
    pub const TIMEOUT: i32 = ffi::TE_ERR_TIMEOUT;
    /// Cancelled by the caller, or because the engine ends.
    pub const CANCELLED: i32 = ffi::TE_ERR_CANCELLED;
    /// The peer restarted, or its buffer is gone: its descriptor is outdated.
    pub const STALE: i32 = ffi::TE_ERR_STALE;
    /// In use, or a limit is reached; try again later.
    pub const BUSY: i32 = ffi::TE_ERR_BUSY;
    /// Not on this machine, or not in this build.
    pub const UNSUPPORTED: i32 = ffi::TE_ERR_UNSUPPORTED;
    /// A peer or server broke its protocol.
    pub const PROTOCOL: i32 = ffi::TE_ERR_PROTOCOL;
    /// A caller's buffer is too small.
    pub const NO_SPACE: i32 = ffi::TE_ERR_NO_SPACE;
    /// The operating system refused memory, descriptors or a port.
    pub const RESOURCE: i32 = ffi::TE_ERR_RESOURCE;
    /// A defect of the library.
    pub const INTERNAL: i32 = ffi::TE_ERR_INTERNAL;
}

impl EngineError {
    /// An error that this crate finds before it calls the engine.
    pub(crate) fn new(code: i32, call: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, name: code_name(code), call: call.into(), message: message.into() }
    }

    /// The error of the call into the engine that this thread made last. `answer` is what the call
    /// returned, or `None` where that is a pointer or a batch.
    pub(crate) fn last(answer: Option<i32>, call: impl Into<String>) -> Self {
        // SAFETY: never null, and valid until this thread's next call into the engine.
        let text = unsafe { text_of(ffi::transferEngineLastError()) };
        let (told, message) = split_code(&text);
        let message = if message.is_empty() { "the engine gave no reason" } else { message };
        Self::new(answer.unwrap_or(told), call, message)
    }
}

/// Takes the code's name off the engine's text, which begins with it: `not_found: no such …`.
pub(crate) fn split_code(text: &str) -> (i32, &str) {
    for code in (code::INTERNAL..0).rev() {
        let rest = text.strip_prefix(code_name(code).as_str()).and_then(|it| it.strip_prefix(": "));
        if let Some(message) = rest {
            return (code, message);
        }
    }
    (0, text)
}

fn code_name(code: i32) -> String {
    if code == 0 {
        return "error".to_string();
    }
    // SAFETY: takes any number; the name is a constant of the library.
    unsafe { text_of(ffi::transferEngineErrorName(code)) }
}

/// Copies a C string; empty for null. Bytes that are not UTF-8 are replaced.
///
/// # Safety
/// `text` is null or ends in a NUL.
pub(crate) unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    CStr::from_ptr(text).to_string_lossy().into_owned()
}

/// Passes what a call answered, 0 or more, on; or takes its error. `call` names it in the error.
pub(crate) fn check<C: Into<String>>(answer: i32, call: impl FnOnce() -> C) -> anyhow::Result<i32> {
    if answer < 0 {
        return Err(EngineError::last(Some(answer), call()).into());
    }
    Ok(answer)
}

/// `text` for C. `argument` names it in the error about a NUL inside.
pub(crate) fn c_string(call: &str, argument: &str, text: &str) -> anyhow::Result<CString> {
    CString::new(text).map_err(|error| {
        let message = format!(
            "{argument} has a NUL byte at position {}; names and texts end at a NUL, remove it",
            error.nul_position()
        );
        EngineError::new(code::INVALID_ARGUMENT, call, message).into()
    })
}

/// Calls a function that fills a text buffer, with ever more room until the text fits.
pub(crate) fn filled_text(
    call: &str,
    fill: impl Fn(*mut c_char, usize) -> i32,
) -> anyhow::Result<String> {
    const ROOM_MAX: usize = 1 << 28;
    let mut room = 1024;
    loop {
        let mut bytes = vec![0u8; room];
        let answer = fill(bytes.as_mut_ptr().cast(), room);
        if answer == code::NO_SPACE && room < ROOM_MAX {
            room *= 4;
            continue;
        }
        check(answer, || call)?;
        bytes.truncate(bytes.iter().position(|&byte| byte == 0).unwrap_or(room));
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_taken_off_the_text() {
        assert_eq!(split_code("not_found: no such segment"), (code::NOT_FOUND, "no such segment"));
        assert_eq!(split_code("internal: x: y"), (code::INTERNAL, "x: y"));
        assert_eq!(split_code("nowhere: x"), (0, "nowhere: x"));
        assert_eq!(split_code(""), (0, ""));
    }
}
