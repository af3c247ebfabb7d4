// What a test may do to the provider efa of fake_efa.cpp, a libfabric of its own making.
//
// Threads: any.
#pragma once

namespace te::test::fake_efa {

// All of the below as at the beginning.
void reset();

// Whether the provider reaches memory of the GPUs of fake_cuda from now on (FI_HMEM).
void reach_gpus(bool on);
// Registrations of such memory fail, with this number (FI_EOPNOTSUPP); 0: not any more.
void refuse_gpu_memory(int error_number);
// Of such memory, since reset().
int gpu_registrations();
// Operations from or to such memory at this side, since reset().
int gpu_operations();

}  // namespace te::test::fake_efa
