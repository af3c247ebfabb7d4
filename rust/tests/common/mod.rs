//! What the tests share: engines on the loopback, and a way to look into errors.

#![allow(dead_code)]

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use transfer_engine_rust::transfer_engine::TransferEngine;
use transfer_engine_rust::{code, EngineError};

/// Longer than anything here takes; a wait that reaches it fails.
pub const LONG: Duration = Duration::from_secs(30);

/// What the tests' engines talk over: TCP, which is everywhere, or what TEST_TRANSPORT names.
pub fn transport() -> String {
    std::env::var("TEST_TRANSPORT").unwrap_or_else(|_| "tcp".to_string())
}

/// An engine on a free port of the loopback, with that transport.
pub fn engine() -> Arc<TransferEngine> {
    engine_over(&transport()).expect("this machine has it")
}

/// The same with another transport, or the reason why this machine does not have it.
pub fn engine_over(transport: &str) -> Result<Arc<TransferEngine>, String> {
    let engine = TransferEngine::new("P2PHANDSHAKE", "127.0.0.1", 0).expect("starts");
    match engine.install_transport(transport) {
        Ok(_) => Ok(Arc::new(engine)),
        Err(error) => match error.downcast_ref::<EngineError>() {
            Some(missing) if missing.code == code::UNSUPPORTED => Err(error.to_string()),
            _ => panic!("{transport}: {error:?}"),
        },
    }
}

/// The name to open an engine's segment by.
pub fn name(engine: &TransferEngine) -> String {
    engine.get_local_ip_and_port().expect("has an address")
}

pub fn addr(bytes: &mut [u8]) -> *mut c_void {
    bytes.as_mut_ptr().cast()
}

/// Bytes that differ from their neighbours and from those of other seeds.
pub fn bytes(seed: u32, length: usize) -> Vec<u8> {
    let byte = |at: u32| at.wrapping_mul(2_654_435_761).wrapping_add(seed).to_be_bytes()[0];
    (0..length as u32).map(byte).collect()
}

/// The typed error behind `result`, which must be one.
pub fn engine_error<T>(result: anyhow::Result<T>) -> EngineError {
    match result {
        Ok(_) => panic!("did not fail"),
        Err(error) => match error.downcast_ref::<EngineError>() {
            Some(engine_error) => engine_error.clone(),
            None => panic!("no EngineError: {error:?}"),
        },
    }
}
