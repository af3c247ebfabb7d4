//! The log hook: one per process, so alone in its program.

use std::sync::{Arc, Mutex};

use transfer_engine_rust::transfer_engine::TransferEngine;
use transfer_engine_rust::{reset_log_hook, set_log_hook, set_log_level, LogLevel};

/// An address for documentation, which no machine has: the engine warns, and advertises another.
const FOREIGN: &str = "192.0.2.1";

#[test]
fn messages_go_to_the_hook() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    set_log_hook(move |level, message| {
        log.lock().unwrap().push((level, message.to_string()));
        panic!("a hook that panics harms nobody");
    });
    let warned = || {
        let engine = TransferEngine::with_address("P2PHANDSHAKE", "", FOREIGN, 0);
        drop(engine.expect("starts all the same"));
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        seen.iter().any(|(level, text)| *level == LogLevel::Warning && text.contains(FOREIGN))
    };

    set_log_level(LogLevel::Warning).unwrap();
    assert!(warned());
    set_log_level(LogLevel::Error).unwrap();
    assert!(!warned(), "matters less than an error");
    set_log_level(LogLevel::Warning).unwrap();
    reset_log_hook();
    assert!(!warned(), "stderr has it");
}
