// What a test may do to the devices of fake_verbs.cpp, a libibverbs of its own making.
//
// Threads: any.
#pragma once

#include <infiniband/verbs.h>

#include <cstdint>
#include <string>

namespace te::test::fake_verbs {

// Of the devices mlx5_0 and on.
inline constexpr int kDevices = 8;

// All of the below as at the beginning.
void reset();

// Registrations fail on that device, with this errno; 0: not any more.
void refuse_registrations(int device, int error_number);
// The same for memory that comes as a dmabuf. One is a file with the pieces of its pages: where
// this process sees them, and their lengths (fake_cuda).
void refuse_dmabufs(int device, int error_number);
// A page of a device, where this process sees it, and the number of its allocation, which is never
// used again. Null: no device has that address.
struct DevicePage {
  char* view = nullptr;
  uint64_t allocation = 0;
};
// As the kernel's module nvidia-peermem, which finds memory of devices by its addresses: it is
// registered as host memory is, and revoked when it is freed. Null: it is not loaded.
void load_peermem(DevicePage (*page_at)(uint64_t address));
// Those of the device now.
int peermem_registrations(int device);
// From now on a registration lasts until so many are made at the same time, or for seconds.
void gather_registrations(int count);
// Since reset().
int most_registrations_at_once();
// Since reset(), of memory that begins there.
int registrations(int device, const void* address);
// That are not undone.
int registered(int device);

// Queue pairs of the device, since reset().
int most_pairs_at_once(int device);

// What is posted to queue pairs of the device stays under way.
void hold(int device);
int held(int device);
uint64_t held_bytes(int device);
// As hold(), but the packets of WRITEs are in the network already. Each lands right after a later
// WRITE to the same place, if the queue pair that it is sent to is still there then;
// late_landings() counts that, since reset().
void delay(int device);
// Of what is posted from now on nothing is held. What is held for queue pairs that are gone fails.
void let_go(int device);
int late_landings();
// As the kernel tells of it; a device that is lost does nothing any more, and what was under way on
// it does not come back.
void raise(int device, ibv_event_type event);
void lose(int device);
// The link goes down or comes up, and the kernel tells of it.
void set_port(int device, bool up);

}  // namespace te::test::fake_verbs
