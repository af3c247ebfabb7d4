#include "base/per_thread.h"

namespace te::per_thread_internal {

ThreadEnd::ThreadEnd(void (*destroy)(void* place))
    : made_(::pthread_key_create(&key_, destroy) == 0) {}

void ThreadEnd::note(void* place) const {
  if (made_) (void)::pthread_setspecific(key_, place);
}

}  // namespace te::per_thread_internal
