// One NIC as a driver (verbs, libfabric) opens it: what the parts that drivers share ask of it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/device_memory.h"
#include "core/registry.h"
#include "transfer_engine/status.h"

namespace te::rails {

// A range of memory that a NIC knows, until this is destroyed: then the NIC does not touch it.
class MemoryRegion {
 public:
  MemoryRegion(const MemoryRegion&) = delete;
  MemoryRegion& operator=(const MemoryRegion&) = delete;
  virtual ~MemoryRegion() = default;

  const uint64_t local_key;   // what this side shows the NIC; a pointer, with some drivers
  const uint64_t remote_key;  // what peers show

 protected:
  MemoryRegion(uint64_t local, uint64_t remote) : local_key(local), remote_key(remote) {}
};

// Threads: any.
class Nic {
 public:
  virtual ~Nic() = default;

  virtual const std::string& device() const = 0;
  // False: the device was removed.
  virtual bool present() const { return true; }
  // A part of the buffer, with the buffer's rights. Takes as long as the NIC needs to pin it.
  // kUnsupported: the NIC does not reach memory of this kind.
  virtual Result<std::unique_ptr<MemoryRegion>> register_range(const Buffer& buffer,
                                                               uint64_t address,
                                                               uint64_t length) = 0;
  // The same of memory that the processor does not reach. kUnsupported, with the reason: the NIC
  // does not import it.
  virtual Result<std::unique_ptr<MemoryRegion>> register_exported(const Buffer& buffer,
                                                                  uint64_t address, uint64_t length,
                                                                  const ExportedRange& exported) {
    (void)buffer;
    (void)address;
    (void)length;
    (void)exported;
    return Status(Code::kUnsupported, "it imports no dmabuf");
  }
  // Bytes of one region; 0: only trying tells.
  virtual uint64_t max_region() const = 0;
};

}  // namespace te::rails
