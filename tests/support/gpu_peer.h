// The memory of a te_test_gpu_peer, and the commands that it alone has:
//   calls NAME        how many calls of that function of the driver there were -> COUNT
//   fail NAME         it fails from now on                                     -> ok
//   mend NAME         and not any more                                         -> ok
//   replace           frees the memory and allocates as much at its address    -> ok
//   tensors COUNT     registers so many parts instead of the buffer            -> ok | error TEXT
//   drop FROM TO      unregisters these parts                                  -> ok | error TEXT
#pragma once

#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "support/gpu_memory.h"
#include "transfer_engine_c.h"

namespace te::test {

class PeerGpuMemory {
 public:
  PeerGpuMemory(int gpu, const std::string& kind, size_t size) : memory_(gpu, size, of(kind)) {}

  std::byte* data() const { return memory_.data(); }
  std::byte* view() const { return memory_.view(); }

  // Nothing: it is another command.
  std::optional<std::string> obey(transfer_engine_t engine, const std::string& line) {
    std::istringstream words(line);
    std::string command, name;
    words >> command;
    if (command == "replace") {
      memory_.replace();
      return "ok";
    }
    if (command == "tensors" || command == "drop") {
      size_t first = 0, second = 0;
      words >> first >> second;
      const int code = command == "drop" ? drop(engine, first, second) : divide(engine, first);
      return code == 0 ? "ok" : std::string("error ") + transferEngineLastError();
    }
    words >> name;
    if (command == "calls") return std::to_string(fake_cuda::calls(name.c_str()));
    if (command != "fail" && command != "mend") return std::nullopt;
    fake_cuda::fail(name.c_str(), command == "fail" ? te::cuda::CuResult::kNotSupported
                                                    : te::cuda::CuResult::kSuccess);
    return "ok";
  }

 private:
  static GpuMemory::Kind of(const std::string& kind) {
    if (kind == "chunks") return GpuMemory::Kind::kChunks;
    if (kind == "fabric") return GpuMemory::Kind::kFabric;
    if (kind == "managed") return GpuMemory::Kind::kManaged;
    return kind == "pool" ? GpuMemory::Kind::kPool : GpuMemory::Kind::kWhole;
  }
  std::vector<void*> parts(size_t from, size_t to) const {
    std::vector<void*> all;
    for (size_t i = from; i < to; ++i) all.push_back(memory_.data() + i * part_);
    return all;
  }
  int divide(transfer_engine_t engine, size_t count) {
    part_ = memory_.size() / count;
    if (const int code = unregisterLocalMemory(engine, memory_.data()); code != 0) return code;
    std::vector<buffer_entry_t> entries;
    for (void* at : parts(0, count)) entries.push_back({at, part_});
    return registerLocalMemoryBatch(engine, entries.data(), entries.size(), "*");
  }
  int drop(transfer_engine_t engine, size_t from, size_t to) {
    std::vector<void*> addresses = parts(from, to);
    return unregisterLocalMemoryBatch(engine, addresses.data(), addresses.size());
  }

  GpuMemory memory_;
  size_t part_ = 0;
};

}  // namespace te::test
