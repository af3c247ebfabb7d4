// libfabric, opened at run time: the engine is built with its headers alone.
//
// Threads: any. A library that was opened stays open until the process ends.
#pragma once

#include <rdma/fabric.h>

#include <memory>
#include <string>

#include "transfer_engine/status.h"

namespace te::fabric {

class Library;

struct InfoDeleter {
  const Library* library = nullptr;
  void operator()(fi_info* info) const;
};
// A list of what fi_getinfo() found, or one of them.
using Info = std::unique_ptr<fi_info, InfoDeleter>;

class Library {
 public:
  // The one at `path`; or, when that is empty, AWS's own where it is installed, else the system's.
  // kUnsupported says what was looked for.
  static Result<const Library*> open(const std::string& path);

  // "1.17 (/usr/lib/...)"
  std::string description() const;
  // What is asked for: 1.18, or what an older library has. Before it, the EFA provider turned
  // device RDMA off on some NICs.
  uint32_t api() const { return api_; }

  Info new_info() const { return {dupinfo_(nullptr), {this}}; }
  Info copy(const fi_info& info) const { return {dupinfo_(&info), {this}}; }
  // `error` is negative, as libfabric returns it: -FI_ENODATA when there is nothing like it.
  Info find(const char* node, uint64_t flags, const fi_info& hints, int* error) const;
  int open_fabric(fi_fabric_attr* attributes, fid_fabric** fabric) const {
    return fabric_(attributes, fabric, nullptr);
  }
  // Of an error number of either sign.
  std::string text(long error) const {
    return strerror_(static_cast<int>(error < 0 ? -error : error));
  }

 private:
  friend struct InfoDeleter;
  Library() = default;
  static Result<std::unique_ptr<Library>> load(const std::string& path);
  // Where `path` is empty, the first of the usual ones.
  static Result<std::unique_ptr<Library>> load_any(const std::string& path);

  std::string path_;
  uint32_t version_ = 0;
  uint32_t api_ = 0;
  decltype(&::fi_getinfo) getinfo_ = nullptr;
  decltype(&::fi_freeinfo) freeinfo_ = nullptr;
  decltype(&::fi_dupinfo) dupinfo_ = nullptr;
  decltype(&::fi_fabric) fabric_ = nullptr;
  decltype(&::fi_strerror) strerror_ = nullptr;
};

}  // namespace te::fabric
