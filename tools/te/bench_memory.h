// Memory that is measured: of this machine, or of a GPU with a copy in host memory, where patterns
// are written and compared.
//
// Threads: any, each in its own part.
#pragma once

#include <memory>
#include <string>

#include "cuda_driver.h"
#include "mapped_memory.h"
#include "transfer_engine/status.h"

namespace te::tool {

class BenchMemory {
 public:
  BenchMemory() = default;  // none
  // `location`: "cpu", or "cuda:N".
  static Result<BenchMemory> allocate(const std::string& location, size_t bytes);

  std::byte* data() const;                          // what is registered
  std::byte* view() const { return host_.data(); }  // where the processor reaches its bytes
  size_t size() const { return host_.size(); }

  // Puts what was written at the view into the memory, or gets it from there.
  Status put(size_t at, size_t length) const;
  Status get(size_t at, size_t length) const;

 private:
  class OnGpu;

  MappedMemory host_;
  std::shared_ptr<OnGpu> gpu_;
};

// What --memory accepts; the text is the reason why not, or empty.
std::string check_memory(const std::string& location);

}  // namespace te::tool
