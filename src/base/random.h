// Unguessable numbers, from the kernel.
#pragma once

#include <array>
#include <cstdint>

namespace te {

uint64_t random_u64();
std::array<uint8_t, 16> random_bytes16();

}  // namespace te
