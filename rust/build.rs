//! Builds or finds the native library, and tells cargo how to link it.
//!
//! Without settings it is built from its sources in `native/` and linked statically: programs need
//! no `libtransfer_engine.so`. Shared on request: `TRANSFER_ENGINE_LIB_DIR` names a folder that
//! holds a libtransfer_engine.so; `TRANSFER_ENGINE_USE_INSTALLED=1` asks pkg-config for an
//! installed one.

use std::env;
use std::fmt::Display;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

const LIB_DIR: &str = "TRANSFER_ENGINE_LIB_DIR";
const USE_INSTALLED: &str = "TRANSFER_ENGINE_USE_INSTALLED";
/// In the build folder: what a program links beside the archive, as src/CMakeLists.txt wrote it.
const LINK_LIST: &str = "transfer_engine_static.links";
const PACKAGES: &str = "Building it takes a C++20 compiler, CMake with ninja or make, and some \
    libraries. On Debian: apt-get install g++ cmake ninja-build pkg-config libfmt-dev \
    libhiredis-dev libcurl4-openssl-dev libssl-dev nlohmann-json3-dev libhwloc-dev \
    libfabric-dev libibverbs-dev";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={LIB_DIR}");
    println!("cargo:rerun-if-env-changed={USE_INSTALLED}");

    if let Some(dir) = env::var_os(LIB_DIR) {
        link_shared(&[prebuilt(Path::new(&dir))]);
    } else if wants_installed() {
        link_shared(&installed());
    } else {
        link_static(&built_here());
    }
}

fn wants_installed() -> bool {
    match env::var(USE_INSTALLED).as_deref() {
        Ok("1") => true,
        Ok("") | Ok("0") | Err(env::VarError::NotPresent) => false,
        _ => fail(format!("{USE_INSTALLED} must be 1 or 0")),
    }
}

fn prebuilt(dir: &Path) -> PathBuf {
    let library = dir.join("libtransfer_engine.so");
    let dir = match (dir.canonicalize(), library.is_file()) {
        (Ok(dir), true) => dir,
        _ => fail(format!(
            "{LIB_DIR}: there is no {}; name the folder that holds it, such as build/src",
            library.display()
        )),
    };
    println!("cargo:rerun-if-changed={}", library.display());
    dir
}

fn installed() -> Vec<PathBuf> {
    // link_shared() prints what cargo needs, with the rpath that pkg-config does not give.
    let found = pkg_config::Config::new().cargo_metadata(false).probe("transfer_engine");
    match found {
        Ok(library) => library.link_paths,
        Err(error) => fail(format!(
            "{USE_INSTALLED}=1, but pkg-config finds no module `transfer_engine`: install the \
             library, or put the folder of its transfer_engine.pc into PKG_CONFIG_PATH, or unset \
             {USE_INSTALLED} to build it from its sources\n{error}"
        )),
    }
}

/// The sources: in the repository links to its folders, in a package the folders themselves.
fn sources() -> PathBuf {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let native = manifest_dir.join("native");
    if !native.join("CMakeLists.txt").is_file() {
        fail(format!(
            "there is no CMakeLists.txt in {} to build the native library from; take the whole \
             repository, or a package that `cargo package` made; or set {LIB_DIR} or \
             {USE_INSTALLED}=1 to link a library that exists",
            native.display()
        ));
    }
    native
}

/// Builds the archive; gives the build folder.
fn built_here() -> PathBuf {
    let native = sources();
    for input in ["CMakeLists.txt", "cmake", "include", "src"] {
        let path = native.join(input);
        println!("cargo:rerun-if-changed={}", path.canonicalize().unwrap_or(path).display());
    }
    let mut config = cmake::Config::new(&native);
    config
        .define("TE_BUILD_TOOLS", "OFF")
        .define("TE_BUILD_TESTS", "OFF")
        .define("TE_STATIC", "ON")
        // The engine is useless without optimisation, also under `cargo test`.
        .profile("RelWithDebInfo")
        .build_target("transfer_engine_static");
    if env::var_os("CMAKE_GENERATOR").is_none() && runs("ninja") {
        config.generator("Ninja");
    }
    if !runs("cmake") {
        fail(format!("cmake is missing. {PACKAGES}"));
    }
    match panic::catch_unwind(move || config.build()) {
        Ok(out) => out.join("build"),
        Err(_) => fail(format!("the native library was not built, as above. {PACKAGES}")),
    }
}

fn runs(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    matches!(command.status(), Ok(status) if status.success())
}

fn link_static(build: &Path) {
    println!("cargo:rustc-link-search=native={}", build.join("src").display());
    println!("cargo:rustc-link-lib=static=transfer_engine");
    let list = build.join(LINK_LIST);
    let lines = match fs::read_to_string(&list) {
        Ok(lines) => lines,
        Err(error) => fail(format!("cannot read {}: {error}", list.display())),
    };
    for line in lines.lines().filter(|line| !line.is_empty()) {
        println!("cargo:{line}");
    }
}

/// Programs and tests of this package find the library by their rpath. A crate that depends on this
/// one reads the folder from DEP_TRANSFER_ENGINE_LIB_DIR in its own build script.
fn link_shared(lib_dirs: &[PathBuf]) {
    println!("cargo:rustc-link-lib=dylib=transfer_engine");
    for dir in lib_dirs {
        println!("cargo:rustc-link-search=native={}", dir.display());
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", dir.display());
        println!("cargo:lib_dir={}", dir.display());
    }
}

fn fail(reason: impl Display) -> ! {
    eprintln!("error: {reason}");
    process::exit(1);
}
