// A libibverbs for tests on machines without RDMA devices: eight devices, whose queue pairs all
// lead to each other inside this process, and which do at once what is posted. It has the
// functions that src/transport/rdma/library.h looks up, and those of fake_verbs.h to make things
// happen that no NIC does when asked to.
//
// Threads: any; one lock for everything.
#include "support/fake_verbs.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "support/fake_verbs_world.h"

namespace te::test::fake_verbs {

World& world() {
  static World* const all = new World;
  return *all;
}

int number_of(const ibv_context* context) {
  return static_cast<const Context*>(context)->device_number;
}
Device& device_of(const ibv_context* context) { return world().devices[number_of(context)]; }

namespace {

constexpr uint64_t kLargestRange = 1ull << 40;

// With the lock.
void complete(Pair& pair, const ibv_wc& entry) {
  auto& queue = *static_cast<Queue*>(pair.send_cq);
  queue.entries.push_back(entry);
  if (!queue.armed || queue.channel == nullptr) return;
  queue.armed = false;
  const uint64_t one = 1;
  (void)!::write(queue.channel->fd, &one, sizeof one);
}

// Memory that is gone is an error of the request, and no signal.
bool copy_as_a_nic(const std::vector<iovec>& to, const std::vector<iovec>& from, size_t length) {
  return ::process_vm_writev(::getpid(), from.data(), from.size(), to.data(), to.size(), 0) ==
         static_cast<ssize_t>(length);
}

ibv_wc_status carry_out(const Pair& pair, const ibv_send_wr& request) {
  const auto remote = world().pairs.find(pair.remote);
  if (remote == world().pairs.end() || remote->second->state == IBV_QPS_ERR ||
      device_of(remote->second->context).lost) {
    return IBV_WC_RETRY_EXC_ERR;
  }
  const bool write = request.opcode == IBV_WR_RDMA_WRITE;
  uint64_t there = request.wr.rdma.remote_addr;
  for (int i = 0; i < request.num_sge; ++i) {
    const ibv_sge& piece = request.sg_list[i];
    const bool inlined = (request.send_flags & IBV_SEND_INLINE) != 0;
    const Range* here = inlined ? nullptr : range_at(piece.lkey, piece.addr, piece.length, 0);
    if (!inlined && here == nullptr) return IBV_WC_LOC_PROT_ERR;
    const int access = write ? IBV_ACCESS_REMOTE_WRITE : IBV_ACCESS_REMOTE_READ;
    const Range* target = range_at(request.wr.rdma.rkey, there, piece.length, access);
    if (target == nullptr) return IBV_WC_REM_ACCESS_ERR;
    std::vector<char> copy;
    std::vector<iovec> local;
    if (inlined) {
      // As libraries do: in the caller's thread, with plain instructions.
      const auto* bytes = reinterpret_cast<const char*>(piece.addr);
      copy.assign(bytes, bytes + piece.length);
      local = {{copy.data(), copy.size()}};
    } else {
      local = places(*here, piece.addr, piece.length);
    }
    const std::vector<iovec> far = places(*target, there, piece.length);
    if (!copy_as_a_nic(write ? far : local, write ? local : far, piece.length)) {
      return IBV_WC_LOC_PROT_ERR;
    }
    there += piece.length;
  }
  return IBV_WC_SUCCESS;
}

void send_into_network(const Pair& pair, const ibv_send_wr& request) {
  if (request.opcode != IBV_WR_RDMA_WRITE) return;
  uint64_t at = request.wr.rdma.remote_addr;
  for (int i = 0; i < request.num_sge; ++i) {
    const ibv_sge& piece = request.sg_list[i];
    const bool inlined = (request.send_flags & IBV_SEND_INLINE) != 0;
    const Range* here = inlined ? nullptr : range_at(piece.lkey, piece.addr, piece.length, 0);
    std::vector<char> bytes(piece.length);
    const std::vector<iovec> to{{bytes.data(), bytes.size()}};
    const std::vector<iovec> from =
        here == nullptr ? std::vector<iovec>{{reinterpret_cast<void*>(piece.addr), piece.length}}
                        : places(*here, piece.addr, piece.length);
    if (!copy_as_a_nic(to, from, piece.length)) continue;
    world().network.push_back({pair.remote, request.wr.rdma.rkey, at, std::move(bytes)});
    at += piece.length;
  }
}

// After a WRITE to `at`.
void let_network_deliver(uint64_t at) {
  for (const Packet& packet : world().network) {
    if (packet.at != at) continue;
    const auto to = world().pairs.find(packet.to_pair);
    if (to == world().pairs.end() || to->second->state == IBV_QPS_ERR) continue;
    const size_t length = packet.bytes.size();
    const Range* there = range_at(packet.key, at, length, IBV_ACCESS_REMOTE_WRITE);
    if (there == nullptr) continue;
    const std::vector<iovec> from{{const_cast<char*>(packet.bytes.data()), length}};
    if (copy_as_a_nic(places(*there, at, length), from, length)) ++world().late_landings;
  }
  std::erase_if(world().network, [at](const Packet& packet) { return packet.at == at; });
}

void flush(Pair& pair) {
  pair.state = IBV_QPS_ERR;
  for (ibv_wc& entry : pair.held) {
    entry.status = IBV_WC_WR_FLUSH_ERR;
    complete(pair, entry);
  }
  pair.held.clear();
}

int post_send(ibv_qp* plain, ibv_send_wr* request, ibv_send_wr**) {
  auto& pair = *static_cast<Pair*>(plain);
  std::lock_guard lock(world().mutex);
  const Device& device = device_of(pair.context);
  for (; request != nullptr; request = request->next) {
    ibv_wc entry{};
    entry.wr_id = request->wr_id;
    entry.qp_num = pair.qp_num;
    entry.byte_len = request->num_sge > 0 ? request->sg_list->length : 0;
    if (device.lost || device.holds) {
      pair.held.push_back(entry);
      if (device.delays) send_into_network(pair, *request);
      continue;
    }
    entry.status = pair.state == IBV_QPS_ERR ? IBV_WC_WR_FLUSH_ERR : carry_out(pair, *request);
    const bool told = (request->send_flags & IBV_SEND_SIGNALED) != 0;
    if (told || entry.status != IBV_WC_SUCCESS) complete(pair, entry);
    if (entry.status != IBV_WC_SUCCESS) flush(pair);
    if (request->opcode == IBV_WR_RDMA_WRITE && request->num_sge > 0) {
      let_network_deliver(request->wr.rdma.remote_addr);
    }
  }
  return 0;
}

int poll_cq(ibv_cq* plain, int most, ibv_wc* entries) {
  auto& queue = *static_cast<Queue*>(plain);
  std::lock_guard lock(world().mutex);
  int count = 0;
  for (; count < most && !queue.entries.empty(); ++count) {
    entries[count] = queue.entries.front();
    queue.entries.pop_front();
  }
  return count;
}

int req_notify_cq(ibv_cq* plain, int) {
  auto& queue = *static_cast<Queue*>(plain);
  std::lock_guard lock(world().mutex);
  queue.armed = true;
  return 0;
}

}  // namespace

void reset() {
  std::lock_guard lock(world().mutex);
  for (Device& device : world().devices) {
    device.refusal = device.dmabuf_refusal = 0;
    device.holds = device.delays = device.lost = false;
    device.port_up = true;
    device.registrations.clear();
  }
  world().most_registering = world().gathered = world().late_landings = 0;
  world().peermem = nullptr;
  world().network.clear();
}

void set_port(int device, bool up) {
  {
    std::lock_guard lock(world().mutex);
    world().devices[device].port_up = up;
  }
  raise(device, up ? IBV_EVENT_PORT_ACTIVE : IBV_EVENT_PORT_ERR);
}

void hold(int device) {
  std::lock_guard lock(world().mutex);
  world().devices[device].holds = true;
}

void delay(int device) {
  std::lock_guard lock(world().mutex);
  world().devices[device].holds = world().devices[device].delays = true;
}

void let_go(int device) {
  std::lock_guard lock(world().mutex);
  world().devices[device].holds = world().devices[device].delays = false;
  for (const auto& [number, pair] : world().pairs) {
    const bool answered =
        number_of(pair->context) != device || world().pairs.contains(pair->remote);
    if (answered || pair->held.empty()) continue;
    ibv_wc unanswered = pair->held.front();
    unanswered.status = IBV_WC_RETRY_EXC_ERR;
    pair->held.pop_front();
    complete(*pair, unanswered);
    flush(*pair);
  }
}

int late_landings() {
  std::lock_guard lock(world().mutex);
  return world().late_landings;
}

int most_pairs_at_once(int device) {
  std::lock_guard lock(world().mutex);
  return world().devices[device].most_pairs;
}

int held(int device) {
  std::lock_guard lock(world().mutex);
  size_t count = 0;
  for (const auto& [number, pair] : world().pairs) {
    if (number_of(pair->context) == device) count += pair->held.size();
  }
  return static_cast<int>(count);
}

uint64_t held_bytes(int device) {
  std::lock_guard lock(world().mutex);
  uint64_t bytes = 0;
  for (const auto& [number, pair] : world().pairs) {
    if (number_of(pair->context) != device) continue;
    for (const ibv_wc& entry : pair->held) bytes += entry.byte_len;
  }
  return bytes;
}

void raise(int device, ibv_event_type type) {
  std::lock_guard lock(world().mutex);
  ibv_async_event event{};
  event.element.port_num = 1;
  event.event_type = type;
  for (const int fd : world().devices[device].contexts) {
    (void)!::write(fd, &event, sizeof event);
  }
}

void lose(int device) {
  {
    std::lock_guard lock(world().mutex);
    world().devices[device].lost = true;
  }
  raise(device, IBV_EVENT_DEVICE_FATAL);
}

}  // namespace te::test::fake_verbs

using namespace te::test::fake_verbs;  // NOLINT(google-build-using-namespace)

extern "C" {

ibv_device** ibv_get_device_list(int* count) {
  std::lock_guard lock(world().mutex);
  auto** list = new ibv_device*[kDevices + 1]();
  for (int i = 0; i < kDevices; ++i) {
    ibv_device& device = world().devices[i].self;
    device.transport_type = IBV_TRANSPORT_IB;
    device.node_type = IBV_NODE_CA;
    std::snprintf(device.name, sizeof device.name, "mlx5_%d", i);
    list[i] = &device;
  }
  *count = kDevices;
  return list;
}
void ibv_free_device_list(ibv_device** list) { delete[] list; }
const char* ibv_get_device_name(ibv_device* device) { return device->name; }

ibv_context* ibv_open_device(ibv_device* device) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return nullptr;
  auto* context = new Context;
  context->device = device;
  context->device_number = std::atoi(device->name + std::strlen("mlx5_"));
  context->async_fd = ends[0];
  context->cmd_fd = -1;
  context->events = ends[1];
  context->ops.post_send = post_send;
  context->ops.poll_cq = poll_cq;
  context->ops.req_notify_cq = req_notify_cq;
  std::lock_guard lock(world().mutex);
  device_of(context).contexts.push_back(ends[1]);
  return context;
}
int ibv_close_device(ibv_context* plain) {
  auto* context = static_cast<Context*>(plain);
  {
    std::lock_guard lock(world().mutex);
    std::erase(device_of(context).contexts, context->events);
  }
  ::close(context->async_fd);
  ::close(context->events);
  delete context;
  return 0;
}

int ibv_query_device(ibv_context*, ibv_device_attr* attributes) {
  *attributes = {};
  attributes->max_mr_size = kLargestRange;
  attributes->max_mr = 1000;
  attributes->max_qp = 1000;
  attributes->max_qp_wr = 1024;
  attributes->max_cqe = 1 << 16;
  attributes->max_qp_rd_atom = attributes->max_qp_init_rd_atom = 16;
  attributes->phys_port_cnt = 1;
  return 0;
}
int ibv_query_port(ibv_context* context, uint8_t, _compat_ibv_port_attr* out) {
  std::lock_guard lock(world().mutex);
  if (device_of(context).lost) return EIO;
  auto* attributes = reinterpret_cast<ibv_port_attr*>(out);
  attributes->state = device_of(context).port_up ? IBV_PORT_ACTIVE : IBV_PORT_DOWN;
  attributes->active_mtu = IBV_MTU_4096;
  attributes->max_msg_sz = 1u << 30;
  attributes->lid = 1;
  attributes->active_width = 2;
  attributes->active_speed = 32;
  attributes->link_layer = IBV_LINK_LAYER_INFINIBAND;
  return 0;
}
ssize_t _ibv_query_gid_table(ibv_context*, ibv_gid_entry*, size_t, uint32_t, size_t) { return 0; }

int ibv_get_async_event(ibv_context* context, ibv_async_event* event) {
  return ::read(context->async_fd, event, sizeof *event) == sizeof *event ? 0 : -1;
}
void ibv_ack_async_event(ibv_async_event*) {}
const char* ibv_event_type_str(ibv_event_type) { return "an event"; }
const char* ibv_wc_status_str(ibv_wc_status status) {
  return status == IBV_WC_REM_ACCESS_ERR ? "remote access error" : "an error";
}

ibv_pd* ibv_alloc_pd(ibv_context* context) { return new ibv_pd{context, 0}; }
int ibv_dealloc_pd(ibv_pd* domain) {
  delete domain;
  return 0;
}

ibv_comp_channel* ibv_create_comp_channel(ibv_context* context) {
  return new ibv_comp_channel{context, ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), 0};
}
int ibv_destroy_comp_channel(ibv_comp_channel* channel) {
  ::close(channel->fd);
  delete channel;
  return 0;
}
ibv_cq* ibv_create_cq(ibv_context* context, int entries, void*, ibv_comp_channel* channel, int) {
  auto* queue = new Queue;
  queue->context = context;
  queue->channel = channel;
  queue->cqe = entries;
  return queue;
}
int ibv_destroy_cq(ibv_cq* queue) {
  delete static_cast<Queue*>(queue);
  return 0;
}
int ibv_get_cq_event(ibv_comp_channel* channel, ibv_cq** queue, void** context) {
  uint64_t count = 0;
  *queue = nullptr;
  *context = nullptr;
  return ::read(channel->fd, &count, sizeof count) == sizeof count ? 0 : -1;
}
void ibv_ack_cq_events(ibv_cq*, unsigned) {}

ibv_qp* ibv_create_qp(ibv_pd* domain, ibv_qp_init_attr* attributes) {
  std::lock_guard lock(world().mutex);
  auto* pair = new Pair;
  pair->context = domain->context;
  pair->pd = domain;
  pair->send_cq = attributes->send_cq;
  pair->recv_cq = attributes->recv_cq;
  pair->qp_type = attributes->qp_type;
  pair->qp_num = world().next++;
  world().pairs[pair->qp_num] = pair;
  Device& device = device_of(pair->context);
  device.most_pairs = std::max(device.most_pairs, ++device.pairs);
  return pair;
}
int ibv_modify_qp(ibv_qp* plain, ibv_qp_attr* attributes, int mask) {
  std::lock_guard lock(world().mutex);
  auto& pair = *static_cast<Pair*>(plain);
  if (device_of(pair.context).lost) return EIO;
  if ((mask & IBV_QP_DEST_QPN) != 0) pair.remote = attributes->dest_qp_num;
  pair.state = attributes->qp_state;
  if (pair.state == IBV_QPS_ERR) flush(pair);
  return 0;
}
int ibv_destroy_qp(ibv_qp* plain) {
  std::lock_guard lock(world().mutex);
  world().pairs.erase(plain->qp_num);
  --device_of(plain->context).pairs;
  delete static_cast<Pair*>(plain);
  return 0;
}

}  // extern "C"
