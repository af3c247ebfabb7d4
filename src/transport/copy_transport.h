// What the transports have in common whose slices this machine's cores copy: all but their memory
// and their paths.
//
// Threads: as Transport's.
#pragma once

#include <utility>

#include "base/options.h"
#include "transport/copy_pool.h"

namespace te {

inline constexpr Setting kCopyThreads{"copy_threads", "",
                                      "copy threads of local, and as many of shm; callers copy too",
                                      Setting::Number{2, 1, 64}};
inline constexpr const Setting* kCopySettings[] = {&kCopyThreads};

class CopyTransport : public Transport {
 public:
  // A driver copies it in some milliseconds at most, which is how long it takes to cancel.
  static constexpr uint64_t kDeviceSliceBytes = 64 << 20;

  Capabilities capabilities() const override {
    Capabilities capabilities;
    capabilities.within_host = true;
    capabilities.slice_bytes = CopyPool::kSliceBytes;
    capabilities.device_slice_bytes = kDeviceSliceBytes;
    capabilities.key_size = key_size_;
    return capabilities;
  }
  std::vector<DeviceLoad> loads() const override {
    return {{std::string(name()), pool_.load_bytes(), 0}};
  }

  void warm_up(Path&) override {}
  void adopt(tls::Connection, const wire::Hello&, std::shared_ptr<void>) override {}

  // No other thread is woken for what this one copies.
  void submit(SliceList slices) override {
    if (pool_.copy_at_once(slices)) return;
    pool_.post(slices);
    pool_.help();
  }
  bool progress(Path& path, int64_t until_ns, Waker&) override {
    return until_ns == 0 ? pool_.help() : pool_.help_and_linger(path);
  }
  void sweep(Path&) override { pool_.sweep(); }
  void reset(Path& path) override { pool_.reset(path); }
  // Also for the destructor of the class that copies, whose members the threads use until then.
  void stop() override { pool_.stop(); }

 protected:
  // See CopyPool. `key_size`: of the keys that register_memory() gives.
  CopyTransport(TransportHost& host, uint64_t threads, uint32_t key_size, CopyPool::Copy copy)
      : host_(host), key_size_(key_size), pool_(host, threads, std::move(copy)) {}

  TransportHost& host_;
  const uint32_t key_size_;
  CopyPool pool_;
};

}  // namespace te
