//! Finds or builds libtransfer_engine, and generates the bindings of its C header.
//!
//! Without settings the native library is built from the repository that this crate is a part of.
//! `TRANSFER_ENGINE_LIB_DIR` names a folder that holds a libtransfer_engine.so to link instead;
//! `TRANSFER_ENGINE_USE_INSTALLED=1` asks pkg-config for an installed one.

use std::env;
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process;

const HEADER: &str = "transfer_engine_c.h";
const LIB_DIR: &str = "TRANSFER_ENGINE_LIB_DIR";
const USE_INSTALLED: &str = "TRANSFER_ENGINE_USE_INSTALLED";

/// Where the library and its header are.
struct Native {
    lib_dirs: Vec<PathBuf>,
    header: PathBuf,
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={LIB_DIR}");
    println!("cargo:rerun-if-env-changed={USE_INSTALLED}");

    let root = repository_root();
    let native = if let Some(dir) = env::var_os(LIB_DIR) {
        prebuilt(&root, Path::new(&dir))
    } else if wants_installed() {
        installed()
    } else {
        built_here(&root)
    };
    link(&native.lib_dirs);
    generate_bindings(&native.header);
}

fn repository_root() -> PathBuf {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    match manifest_dir.parent() {
        Some(root) => root.to_path_buf(),
        None => fail("the crate lies in no folder; it belongs in rust/ of its repository"),
    }
}

fn wants_installed() -> bool {
    match env::var(USE_INSTALLED).as_deref() {
        Ok("1") => true,
        Ok("") | Ok("0") | Err(env::VarError::NotPresent) => false,
        _ => fail(format!("{USE_INSTALLED} must be 1 or 0")),
    }
}

fn prebuilt(root: &Path, dir: &Path) -> Native {
    let library = dir.join("libtransfer_engine.so");
    let dir = match (dir.canonicalize(), library.is_file()) {
        (Ok(dir), true) => dir,
        _ => fail(format!(
            "{LIB_DIR}: there is no {}; name the folder that holds it, such as build/src",
            library.display()
        )),
    };
    println!("cargo:rerun-if-changed={}", library.display());
    Native { lib_dirs: vec![dir], header: own_header(root) }
}

fn installed() -> Native {
    // link() prints what cargo needs, with the rpath that pkg-config does not give.
    let found = pkg_config::Config::new().cargo_metadata(false).probe("transfer_engine");
    let library = match found {
        Ok(library) => library,
        Err(error) => fail(format!(
            "{USE_INSTALLED}=1, but pkg-config finds no module `transfer_engine`: install the \
             library, or put the folder of its transfer_engine.pc into PKG_CONFIG_PATH, or unset \
             {USE_INSTALLED} to build it from this repository\n{error}"
        )),
    };
    let system = ["/usr/local/include", "/usr/include"].iter().map(PathBuf::from);
    let header = library.include_paths.iter().cloned().chain(system).map(|dir| dir.join(HEADER));
    match header.clone().find(|path| path.is_file()) {
        Some(header) => Native { lib_dirs: library.link_paths, header },
        None => fail(format!(
            "the installed transfer_engine has no {HEADER} in any of {:?}; install its headers",
            header.collect::<Vec<_>>()
        )),
    }
}

fn built_here(root: &Path) -> Native {
    if !root.join("CMakeLists.txt").is_file() {
        fail(format!(
            "there is no CMakeLists.txt in {} to build the native library from; set {LIB_DIR} or \
             {USE_INSTALLED}=1 to link one that exists",
            root.display()
        ));
    }
    for input in ["CMakeLists.txt", "cmake", "include", "src"] {
        println!("cargo:rerun-if-changed={}", root.join(input).display());
    }
    let out = cmake::Config::new(root)
        .define("TE_BUILD_TOOLS", "OFF")
        .define("TE_BUILD_TESTS", "OFF")
        // The engine is useless without optimisation, also under `cargo test`.
        .profile("RelWithDebInfo")
        .build_target("transfer_engine")
        .build();
    Native { lib_dirs: vec![out.join("build").join("src")], header: own_header(root) }
}

fn own_header(root: &Path) -> PathBuf {
    root.join("include").join(HEADER)
}

/// Programs and tests of this package find the library by their rpath. A crate that depends on this
/// one reads the folder from DEP_TRANSFER_ENGINE_LIB_DIR in its own build script.
fn link(lib_dirs: &[PathBuf]) {
    println!("cargo:rustc-link-lib=dylib=transfer_engine");
    for dir in lib_dirs {
        println!("cargo:rustc-link-search=native={}", dir.display());
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", dir.display());
        println!("cargo:lib_dir={}", dir.display());
    }
}

fn generate_bindings(header: &Path) {
    println!("cargo:rerun-if-changed={}", header.display());
    let builder = bindgen::Builder::default()
        .header(header.display().to_string())
        .allowlist_file(format!(".*{}", HEADER.replace('.', "\\.")))
        .size_t_is_usize(true)
        .merge_extern_blocks(true)
        .layout_tests(false)
        .generate_comments(false);
    // bindgen panics where there is no libclang.
    let bindings = match panic::catch_unwind(AssertUnwindSafe(|| builder.generate())) {
        Ok(Ok(bindings)) => bindings,
        Ok(Err(error)) => fail(format!("bindgen cannot read {}: {error}", header.display())),
        Err(_) => fail(
            "bindgen needs libclang to read the C header, and did not find it: install it \
             (Debian: apt install libclang-dev; Fedora: dnf install clang-devel), or set \
             LIBCLANG_PATH to the folder of libclang.so",
        ),
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo")).join("bindings.rs");
    if let Err(error) = bindings.write_to_file(&out) {
        fail(format!("cannot write {}: {error}", out.display()));
    }
}

fn fail(reason: impl Display) -> ! {
    eprintln!("error: {reason}");
    process::exit(1);
}
