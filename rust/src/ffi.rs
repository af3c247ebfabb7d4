//! The C API as bindgen reads it from transfer_engine_c.h; private to this crate.

#![allow(dead_code, missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals)]
#![allow(clippy::all)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
