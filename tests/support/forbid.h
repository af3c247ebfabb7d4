// What sandboxes do to a process, done to the calling one. Each is for ever, and false where the
// kernel has no seccomp filters.
#pragma once

namespace te::test {

// No thread of this process may touch the memory of another process: the system calls fail with
// EPERM.
bool forbid_cross_memory();
// Nor start a thread: that fails with EAGAIN, as where a limit on processes is reached. It may
// still fork.
bool forbid_threads();
// Nor make memory files: memfd_create fails with EPERM.
bool forbid_memory_files();

}  // namespace te::test
