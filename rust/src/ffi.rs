//! The C API as bindgen reads it from transfer_engine_c.h; private to this crate. The package in
//! `bindings/` generates it, and a test compares (`./dev bindings` after a change of the header).

#![allow(dead_code, missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals)]
#![allow(clippy::all)]

include!("bindings.rs");
