// What sandboxes do to a process, done to the calling one. Each is for ever.
#pragma once

namespace te::test {

// No thread of this process may touch the memory of another process: the system calls fail with
// EPERM. False where the kernel has no seccomp filters.
bool forbid_cross_memory();

}  // namespace te::test
