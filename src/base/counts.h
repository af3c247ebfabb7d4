// Counts that threads share, without the instructions that lock the bus where one thread is alone
// with them: those cost 6 ns each, and one small transfer takes dozens.
#pragma once

#include <atomic>
#include <type_traits>

namespace te {

// For what changes under a lock, but is read without it.
template <typename Count>
void grow(std::atomic<Count>& count, std::type_identity_t<Count> by,
          std::memory_order order = std::memory_order_relaxed) {
  count.store(count.load(std::memory_order_relaxed) + by, order);
}
template <typename Count>
void shrink(std::atomic<Count>& count, std::type_identity_t<Count> by,
            std::memory_order order = std::memory_order_relaxed) {
  count.store(count.load(std::memory_order_relaxed) - by, order);
}

// Takes one off what several threads count down; whether that was the last. Who finds one left is
// alone with it.
template <typename Count>
bool take_last(std::atomic<Count>& left) {
  if (left.load(std::memory_order_acquire) == 1) {
    left.store(0, std::memory_order_relaxed);
    return true;
  }
  return left.fetch_sub(1, std::memory_order_acq_rel) == 1;
}

}  // namespace te
