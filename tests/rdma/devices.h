// How many RDMA devices the tests may count on.
#pragma once

#include <cstdlib>

namespace te::test {

// Those of the virtual machine, rxe0 and on; 0 outside it.
inline int vm_nics() {
  const char* count = std::getenv("RDMA_VM_NICS");
  return count == nullptr ? 0 : std::atoi(count);
}

}  // namespace te::test

#define TE_NEEDS_RDMA_VM()                                                                       \
  if (::te::test::vm_nics() == 0) {                                                              \
    GTEST_SKIP() << "no RDMA devices: ./dev rdma-test runs this on a virtual machine with some"; \
  }                                                                                              \
  static_assert(true)
