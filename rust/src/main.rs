//! transfer_engine_bench: measures transfers between two processes, and checks their bytes.

mod bench {
    pub mod histogram;
    pub mod initiator;
    pub mod lane;
    pub mod options;
    pub mod target;
    pub mod verify;
}

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use bench::options::{Mode, Options};
use bench::{initiator, target};

/// The wish of the user that the program end.
pub struct Stop {
    wished: Arc<AtomicBool>,
    wake: Receiver<()>,
}

fn main() -> Result<()> {
    let options = Options::from_command_line();
    let stop = stop_on_signals()?;
    match options.mode {
        Mode::Target => target::run(&options, &stop.wake),
        Mode::Initiator => initiator::run(&options, &stop.wished),
    }
}

/// The first SIGINT or SIGTERM asks for an orderly end, the second ends the process at once.
fn stop_on_signals() -> Result<Stop> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot catch signals")?;
    let wished = Arc::new(AtomicBool::new(false));
    let (waker, wake) = mpsc::channel();
    let wish = Arc::clone(&wished);
    thread::spawn(move || {
        for signal in signals.forever() {
            if wish.swap(true, Ordering::Relaxed) {
                process::exit(128 + signal);
            }
            // No one may be listening: the initiator looks at the flag.
            let _ = waker.send(());
        }
    });
    Ok(Stop { wished, wake })
}
