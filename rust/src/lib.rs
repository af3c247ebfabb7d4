//! Rust bindings of Transfer Engine, a one-sided data mover: one process reads or writes the
//! registered memory of another while the other's application does nothing.
//!
//! There are two layers:
//!
//! * [`transfer_engine`] mirrors the C API call by call, with raw pointers and batch numbers.
//!   The caller keeps memory alive.
//! * [`RegisteredBuffer`], [`Segment`] and [`Batch`] own what they name. Memory is unregistered
//!   when its last handle is dropped, and a transfer owns its memory until nothing touches it.
//!
//! ```no_run
//! use std::sync::Arc;
//! use transfer_engine_rust::transfer_engine::TransferEngine;
//! use transfer_engine_rust::{Batch, RegisteredBuffer, Request, Segment};
//!
//! # fn main() -> anyhow::Result<()> {
//! let engine = Arc::new(TransferEngine::new("P2PHANDSHAKE", "127.0.0.1", 0)?);
//! let buffer = RegisteredBuffer::new(&engine, vec![7u8; 1 << 20], "*")?;
//! let target = Segment::open(&engine, "10.0.0.2:12345")?;
//!
//! let mut batch = Batch::new(&engine, 2)?;
//! batch.submit(vec![
//!     Request::write(buffer.slice(..4096)?, &target, 0),
//!     Request::write(buffer.slice(4096..)?, &target, 4096),
//! ])?;
//! let bytes = batch.wait(None)?; // an error names the task, the peer and the reason
//! assert_eq!(bytes, 1 << 20);
//! # Ok(())
//! # }
//! ```
//!
//! Every error is an [`anyhow::Error`] that carries an [`EngineError`] (a call failed) or a
//! [`TransferError`] (a transfer did not complete). Use downcast to get it.
//!
//! An engine belongs to the process that created it. In a forked child every call fails, and
//! dropping objects of the engine does nothing. A child may create an engine of its own.
//!
//! With the feature `tokio`, a [`Batch`] can be awaited, and a segment opened without blocking.

#![warn(missing_docs)]

mod batch;
mod buffer;
mod error;
mod ffi;
mod log;
mod segment;
pub mod transfer_engine;

pub use batch::{Batch, Request, TransferError};
pub use buffer::{BufferSlice, RegisteredBuffer};
pub use error::{code, EngineError};
pub use log::{reset_log_hook, set_log_hook, set_log_level, LogLevel};
pub use segment::Segment;
pub use transfer_engine::{Access, Addressing, After, HugePages, MemoryKind};

/// Compiles the README's examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
