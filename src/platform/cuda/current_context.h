// The context on top of the calling thread's, for as long as this lives. Nothing is left behind on
// the thread.
#pragma once

#include "platform/cuda/library.h"

namespace te::cuda {

class CurrentContext {
 public:
  CurrentContext(const Library& library, Context context)
      : library_(library), result_(library.push_context(context)) {}
  ~CurrentContext() {
    Context context = nullptr;
    if (result_ == CuResult::kSuccess) (void)library_.pop_context(&context);
  }
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;

  // The application may have reset the GPU.
  Status status() const {
    if (result_ == CuResult::kSuccess) return {};
    return library_.failed("cuCtxPushCurrent", result_);
  }

 private:
  const Library& library_;
  const CuResult result_;
};

}  // namespace te::cuda
