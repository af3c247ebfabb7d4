//! The log hook: one per process, so alone in its program.

use std::sync::{Arc, Mutex};

use transfer_engine_rust::transfer_engine::TransferEngine;
use transfer_engine_rust::{reset_log_hook, set_log_hook, set_log_level, LogLevel};

/// What begins like a setting of the engine and is none: it warns, once for each.
const MISSPELT: &str = "TRANSFER_ENGINE_NO_SUCH_SETTING";

#[test]
fn messages_go_to_the_hook() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    set_log_hook(move |level, message| {
        log.lock().unwrap().push((level, message.to_string()));
        panic!("a hook that panics harms nobody");
    });
    let mut count = 0;
    let mut warned = || {
        count += 1;
        std::env::set_var(format!("{MISSPELT}_{count}"), "1");
        let engine = TransferEngine::new("P2PHANDSHAKE", "127.0.0.1", 0);
        drop(engine.expect("starts all the same"));
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        seen.iter().any(|(level, text)| *level == LogLevel::Warning && text.contains(MISSPELT))
    };

    set_log_level(LogLevel::Warning).unwrap();
    assert!(warned());
    set_log_level(LogLevel::Error).unwrap();
    assert!(!warned(), "matters less than an error");
    set_log_level(LogLevel::Warning).unwrap();
    reset_log_hook();
    assert!(!warned(), "stderr has it");
}
