// The RDMA devices of this machine, as libibverbs lists them.
//
// Threads: any. Nothing here keeps state.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "transport/rdma/nic.h"

namespace te::rdma {

// Opens those that are among `allowed` and usable, in that order. kUnsupported says what was looked
// for and what was found.
Result<std::vector<std::unique_ptr<VerbsNic>>> open_nics(const Library& library,
                                                         const std::vector<std::string>& allowed);
// "mlx5_0 (active), mlx5_1 (down)", or what is missing; `*any`: whether one could serve.
std::string describe_devices(const Library& library, bool* any);

}  // namespace te::rdma
