// What callers of the C API give and get, checked and turned into the types of the C++ API.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <map>
#include <string>

#include "base/log.h"
#include "transfer_engine/types.h"
#include "transfer_engine_c.h"

namespace te {

static_assert(REMOTE_ACCESS_NONE == static_cast<int>(Access::kNone));
static_assert(REMOTE_ACCESS_DEFAULT == static_cast<int>(Access::kDefault));
static_assert(REMOTE_ACCESS_READ == static_cast<int>(Access::kRead));
static_assert(REMOTE_ACCESS_WRITE == static_cast<int>(Access::kWrite));
static_assert(REMOTE_ACCESS_READ_WRITE == static_cast<int>(Access::kReadWrite));
static_assert(MEMORY_HOST == static_cast<int>(MemoryKind::kHost));
static_assert(MEMORY_CUDA == static_cast<int>(MemoryKind::kCuda));
static_assert(MEMORY_FILE == static_cast<int>(MemoryKind::kFile));
static_assert(sizeof(segment_buffer_t) == 64);  // as before it had a memory_kind
static_assert(ADDRESSING_DEFAULT == static_cast<int>(Addressing::kDefault));
static_assert(ADDRESSING_AUTO == static_cast<int>(Addressing::kAuto));
static_assert(ADDRESSING_OFFSET == static_cast<int>(Addressing::kOffset));
static_assert(ADDRESSING_ADDRESS == static_cast<int>(Addressing::kAddress));

constexpr size_t kMaxStruct = 4096;  // of one that callers give the size of

inline const char* options_name(const submit_options_t&) { return "submit_options_t"; }
inline const char* options_name(const batch_options_t&) { return "batch_options_t"; }

// What the caller was compiled with may be shorter, or longer, than what is known here.
template <typename Options>
Status copy_options(const Options& from, Options* to) {
  const size_t size = from.struct_size;
  constexpr size_t kLeast = sizeof(size_t) + sizeof(int);  // the first member was there always
  if (size < kLeast || size > kMaxStruct) {
    return error(Code::kInvalidArgument, "options.struct_size is {}: set it to sizeof({}), {} here",
                 size, options_name(from), sizeof from);
  }
  const auto* bytes = reinterpret_cast<const unsigned char*>(&from);
  for (size_t i = sizeof *to; i < size; ++i) {
    if (bytes[i] != 0) {
      return error(Code::kUnsupported,
                   "the options set something that this library, version {}, does not know",
                   transferEngineVersion());
    }
  }
  std::memcpy(to, &from, std::min(size, sizeof *to));
  return {};
}

inline Status add_setting(const engine_setting_t& setting,
                          std::map<std::string, std::string>* config) {
  if (setting.name == nullptr || setting.value == nullptr) {
    return error(Code::kInvalidArgument, "the {} of a setting is null",
                 setting.name == nullptr ? "name" : "value");
  }
  if (!config->emplace(setting.name, setting.value).second) {
    return error(Code::kInvalidArgument, "the setting '{}' is given twice", setting.name);
  }
  return {};
}

inline Status to_access(int remote_accessible, Access* out) {
  if (remote_accessible < REMOTE_ACCESS_NONE || remote_accessible > REMOTE_ACCESS_READ_WRITE) {
    return error(Code::kInvalidArgument,
                 "remote_accessible {} is not one of REMOTE_ACCESS_NONE (0) to "
                 "REMOTE_ACCESS_READ_WRITE (4)",
                 remote_accessible);
  }
  *out = static_cast<Access>(remote_accessible);
  return {};
}

// 1 for both directions, as it was before there were others.
inline int described_access(Access access) {
  return access == Access::kReadWrite ? REMOTE_ACCESS_DEFAULT : static_cast<int>(access);
}

}  // namespace te
