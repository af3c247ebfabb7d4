//! Generates `rust/src/bindings.rs` from `include/transfer_engine_c.h`, with libclang.
//!
//! `cargo run` writes it. `cargo run -- --check` compares instead: exit status 1 when the header
//! says something else.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

const HEADER: &str = "transfer_engine_c.h";
const HEAD: &str = "// Generated from transfer_engine_c.h by `./dev bindings`. Do not edit.\n\n";

fn generate(header: &Path) -> Result<String, String> {
    let bindings = bindgen::Builder::default()
        .header(header.display().to_string())
        .allowlist_file(format!(".*{}", HEADER.replace('.', "\\.")))
        .size_t_is_usize(true)
        .merge_extern_blocks(true)
        .layout_tests(false)
        .generate_comments(false)
        .disable_header_comment()
        // rustfmt may be missing, and differs from version to version.
        .formatter(bindgen::Formatter::Prettyplease)
        .generate()
        .map_err(|error| format!("bindgen cannot read {}: {error}", header.display()))?;
    Ok(format!("{HEAD}{bindings}"))
}

fn run() -> Result<(), String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = here.join("../src/bindings.rs");
    let generated = generate(&here.join("../../include").join(HEADER))?;
    if env::args().any(|argument| argument == "--check") {
        let committed = fs::read_to_string(&file).unwrap_or_default();
        if committed == generated {
            return Ok(());
        }
        let differing = generated.lines().zip(committed.lines()).find(|(new, old)| new != old);
        return Err(format!(
            "src/bindings.rs is not what {HEADER} says now; run ./dev bindings and commit it\n{}",
            differing.map_or("one has more lines".to_string(), |(new, old)| format!(
                "the header: {new}\nthe file:   {old}"
            ))
        ));
    }
    fs::write(&file, generated).map_err(|error| format!("cannot write {}: {error}", file.display()))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}
