// The record that a directory stores under a segment's name, as text, and the key it lies under.
// Whatever a server returns is hostile until decode_record() accepted it.
//
// Threads: any; no state.
#pragma once

#include <string>
#include <string_view>

#include "core/locator.h"
#include "transfer_engine/status.h"

namespace te {

inline constexpr std::string_view kKeyPrefix = "transfer_engine/segments/";
inline constexpr size_t kMaxNameBytes = 1024;    // of a segment's name
inline constexpr size_t kMaxRecordBytes = 4096;  // of a record, as stored

// The key of a segment's name. kInvalidArgument when the name is empty or too long.
Result<std::string> record_key(std::string_view name);

// {"host":"10.0.0.1","port":12345,"instance":"00c0ffee00c0ffee","version":1}
// kInvalidArgument when the locator is not one that others could decode.
Result<std::string> encode_record(const Locator& locator);

// kProtocol, saying what is wrong, for anything but a record. Unknown fields are ignored.
Result<Locator> decode_record(std::string_view text);

}  // namespace te
