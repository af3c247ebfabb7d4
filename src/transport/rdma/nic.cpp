#include "transport/rdma/nic.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "base/fd.h"
#include "base/log.h"
#include "base/random.h"

namespace te::rdma {
namespace {

constexpr uint32_t kSends = 256;  // work requests in one queue pair
constexpr uint32_t kResponderSends = 4;
constexpr uint32_t kInlined = 220;
constexpr int kCompletions = 16'384;
constexpr int kResponderCompletions = 4'096;
constexpr int kMostReads = 16;  // of one queue pair, that a device serves at once

// A lost packet is sent again after 67 ms or more, six times: a peer that is gone is noticed after
// about half a second. (A seventh time means forever to some drivers.)
constexpr uint8_t kTimeout = 14;
constexpr uint8_t kRetries = 6;

// Memory that is mapped for reading only can be registered for reading only.
int access_of(const Buffer& buffer) {
  int access = contains(buffer.local, Rights::kWrite) ? IBV_ACCESS_LOCAL_WRITE : 0;
  if (contains(buffer.remote, Rights::kRead)) access |= IBV_ACCESS_REMOTE_READ;
  if (contains(buffer.remote, Rights::kWrite)) access |= IBV_ACCESS_REMOTE_WRITE;
  return access;
}

class Region final : public rails::MemoryRegion {
 public:
  explicit Region(Owned<ibv_mr> range)
      : MemoryRegion(range->lkey, range->rkey), range_(std::move(range)) {}

 private:
  const Owned<ibv_mr> range_;
};

Status not_blocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return error(Code::kResource, "a descriptor cannot be made non-blocking: {}",
                 errno_text(errno));
  }
  return {};
}

std::string locked_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return "unknown";
  if (limit.rlim_cur == RLIM_INFINITY) return "unlimited";
  return fmt::format("{} KiB", limit.rlim_cur / 1024);
}

}  // namespace

Status VerbsNic::failed(std::string_view what, int error_number, Code code) const {
  return error(code, "{}: {}: {}", device_, what, errno_text(error_number));
}

Result<std::unique_ptr<VerbsNic>> VerbsNic::open(const Library& library, ibv_device* device) {
  std::unique_ptr<VerbsNic> nic(new VerbsNic(library, library.devices.get_device_name(device)));
  TE_RETURN_IF_ERROR(nic->start(device));
  return nic;
}

Status VerbsNic::start(ibv_device* device) {
  context_ = {library_.devices.open_device(device), {library_.devices.close_device}};
  if (!context_) return failed("the device cannot be opened", errno, Code::kUnsupported);
  if (const int result = library_.devices.query_device(context_.get(), &limits_); result != 0) {
    return failed("the device does not tell its limits", result, Code::kUnsupported);
  }
  command_descriptor_ = NotedDescriptor(context_->cmd_fd);
  event_descriptor_ = NotedDescriptor(context_->async_fd);
  TE_RETURN_IF_ERROR(port_.find(context_.get(), limits_.phys_port_cnt));
  rate_ = std::make_unique<RateEstimator>(port_.bytes_per_s());
  TE_RETURN_IF_ERROR(not_blocking(context_->async_fd));
  domain_ = {library_.memory.alloc_pd(context_.get()), {library_.memory.dealloc_pd}};
  if (!domain_) return failed("no protection domain", errno);
  channel_ = {library_.completions.create_comp_channel(context_.get()),
              {library_.completions.destroy_comp_channel}};
  if (!channel_) return failed("no completion channel", errno);
  channel_descriptor_ = NotedDescriptor(channel_->fd);
  TE_RETURN_IF_ERROR(not_blocking(channel_->fd));
  completions_ = {
      library_.completions.create_cq(context_.get(), std::min(kCompletions, limits_.max_cqe),
                                     nullptr, channel_.get(), 0),
      {library_.completions.destroy_cq}};
  if (!completions_) return failed("no completion queue", errno);
  serving_completions_ = {
      library_.completions.create_cq(
          context_.get(), std::min(kResponderCompletions, limits_.max_cqe), nullptr, nullptr, 0),
      {library_.completions.destroy_cq}};
  if (!serving_completions_) return failed("no completion queue", errno);
  // Those of queue pairs that are gone may still lie in the queue.
  queue_depth_ = static_cast<uint32_t>(completions_->cqe / 4 * 3);
  return {};
}

Result<Owned<ibv_mr>> VerbsNic::import_dmabuf(const Buffer& buffer, uint64_t address,
                                              uint64_t length,
                                              const ExportedRange& exported) const {
  if (!exported.descriptor.valid()) return Status(Code::kUnsupported, exported.no_dmabuf);
  if (library_.memory.reg_dmabuf_mr == nullptr) {
    return Status(Code::kUnsupported, "libibverbs imports no dmabuf, which takes version 34");
  }
  ibv_mr* range =
      library_.memory.reg_dmabuf_mr(domain_.get(), address - exported.begin, length, address,
                                    exported.descriptor.get(), access_of(buffer));
  if (range != nullptr) return Owned<ibv_mr>(range, {library_.memory.dereg_mr});
  return error(Code::kUnsupported, "its driver does not import the dmabuf: {}", errno_text(errno));
}

// By its address the kernel finds memory of a GPU if nvidia-peermem is loaded. Else nothing is
// mapped there that a NIC could pin, and registration fails.
Result<std::unique_ptr<rails::MemoryRegion>> VerbsNic::register_exported(
    const Buffer& buffer, uint64_t address, uint64_t length, const ExportedRange& exported) {
  Result<Owned<ibv_mr>> imported = import_dmabuf(buffer, address, length, exported);
  if (imported.ok()) {
    return std::unique_ptr<rails::MemoryRegion>(new Region(imported.take()));
  }
  ibv_mr* range = library_.memory.reg_mr(domain_.get(), reinterpret_cast<void*>(address), length,
                                         access_of(buffer));
  if (range == nullptr) {
    return error(Code::kUnsupported,
                 "{}; nor is it registered by its address, which takes nvidia-peermem: {}",
                 imported.status().message(), errno_text(errno));
  }
  log_limited(by_address_, LogLevel::kInfo, "{}: memory of {} is reached by nvidia-peermem: {}",
              device_, buffer.location, imported.status().message());
  return std::unique_ptr<rails::MemoryRegion>(new Region({range, {library_.memory.dereg_mr}}));
}

Result<std::unique_ptr<rails::MemoryRegion>> VerbsNic::register_range(const Buffer& buffer,
                                                                      uint64_t address,
                                                                      uint64_t length) {
  ibv_mr* range = library_.memory.reg_mr(domain_.get(), reinterpret_cast<void*>(address), length,
                                         access_of(buffer));
  if (range != nullptr) {
    return std::unique_ptr<rails::MemoryRegion>(new Region({range, {library_.memory.dereg_mr}}));
  }
  const int why = errno;
  return error(Code::kResource,
               "{}: {} bytes at {:#x} cannot be registered: {} (ulimit -l is {}, the NIC's "
               "max_mr_size {}, max_mr {}). Raise ulimit -l (limits.conf: memlock unlimited) or "
               "give the process CAP_IPC_LOCK; set rdma_max_registration where a NIC takes less "
               "at once than it says",
               device_, length, address, errno_text(why), locked_limit(), limits_.max_mr_size,
               limits_.max_mr);
}

Result<std::unique_ptr<QueuePair>> VerbsNic::make_queue_pair(bool serving) {
  Address local;
  uint32_t gid_index = 0;
  TE_RETURN_IF_ERROR(port_.choose_address(&local, &gid_index));
  ibv_qp_init_attr wanted{};
  wanted.qp_type = IBV_QPT_RC;
  wanted.send_cq = wanted.recv_cq = serving ? serving_completions_.get() : completions_.get();
  wanted.cap.max_send_wr = std::bit_floor(
      std::min(serving ? kResponderSends : kSends, static_cast<uint32_t>(limits_.max_qp_wr)));
  wanted.cap.max_recv_wr = wanted.cap.max_send_sge = wanted.cap.max_recv_sge = 1;
  const uint32_t sends = wanted.cap.max_send_wr;
  wanted.cap.max_inline_data = serving ? 0 : kInlined;
  ibv_qp* made = library_.queue_pairs.create_qp(domain_.get(), &wanted);
  if (made == nullptr && !serving) {
    wanted.cap.max_send_wr = sends;
    wanted.cap.max_inline_data = 0;
    made = library_.queue_pairs.create_qp(domain_.get(), &wanted);
  }
  if (made == nullptr) {
    return failed(fmt::format("no queue pair (the NIC has at most {})", limits_.max_qp), errno);
  }
  std::unique_ptr<QueuePair> pair(new QueuePair(*this, {made, {library_.queue_pairs.destroy_qp}}));
  pair->depth_ = {sends, std::min(wanted.cap.max_inline_data, kInlined)};
  local.queue_pair = made->qp_num;
  local.first_number = static_cast<uint32_t>(random_u64() & 0xFFFFFF);
  local.reads = static_cast<uint8_t>(std::clamp(limits_.max_qp_rd_atom, 1, kMostReads));
  pair->local_ = local;
  pair->gid_index_ = gid_index;
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_INIT;
  attributes.port_num = port_.number();
  // Whoever serves asks now and then, with a WRITE of nothing, whether the other end is there.
  attributes.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | (serving ? IBV_ACCESS_REMOTE_READ : 0);
  const int result = library_.queue_pairs.modify_qp(
      made, &attributes, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
  if (result != 0) return failed("a queue pair cannot be set up", result);
  return pair;
}

Status QueuePair::connect(const Address& remote) {
  const Library& library = nic_.library_;
  if (remote.infiniband != local_.infiniband) {
    return error(Code::kUnavailable, "{}: one side is InfiniBand, the other Ethernet",
                 nic_.device_);
  }
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_RTR;
  attributes.path_mtu = static_cast<ibv_mtu>(std::min(local_.mtu, remote.mtu));
  attributes.dest_qp_num = remote.queue_pair;
  attributes.rq_psn = remote.first_number;
  attributes.max_dest_rd_atomic = local_.reads;
  attributes.min_rnr_timer = 12;
  attributes.ah_attr.port_num = nic_.port_.number();
  attributes.ah_attr.dlid = remote.lid;
  attributes.ah_attr.is_global = nic_.port_.needs_gid() ? 1 : 0;
  std::copy(remote.gid.begin(), remote.gid.end(), attributes.ah_attr.grh.dgid.raw);
  attributes.ah_attr.grh.sgid_index = static_cast<uint8_t>(gid_index_);
  attributes.ah_attr.grh.hop_limit = 64;
  int result = library.queue_pairs.modify_qp(pair_.get(), &attributes,
                                             IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
                                                 IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                                                 IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
  const std::string there = gid_text(remote.gid);
  if (result != 0) {
    return nic_.failed("no way to " + there, result, Code::kUnavailable);
  }
  attributes = {};
  attributes.qp_state = IBV_QPS_RTS;
  attributes.timeout = kTimeout;
  attributes.retry_cnt = kRetries;
  attributes.rnr_retry = kRetries;
  attributes.sq_psn = local_.first_number;
  attributes.max_rd_atomic = static_cast<uint8_t>(std::clamp<int>(
      std::min<int>(nic_.limits_.max_qp_init_rd_atom, remote.reads), 1, kMostReads));
  result =
      library.queue_pairs.modify_qp(pair_.get(), &attributes,
                                    IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
                                        IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
  if (result != 0) return nic_.failed("connecting to " + there, result, Code::kUnavailable);
  return {};
}

void QueuePair::fail() {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_ERR;
  (void)nic_.library_.queue_pairs.modify_qp(pair_.get(), &attributes, IBV_QP_STATE);
}

void VerbsNic::take_completion_events() {
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  unsigned count = 0;
  while (library_.completions.get_cq_event(channel_.get(), &queue, &context) == 0) ++count;
  if (count > 0) library_.completions.ack_cq_events(completions_.get(), count);
}

VerbsNic::News VerbsNic::take_events() {
  News news;
  ibv_async_event event{};
  while (library_.events.get_async_event(context_.get(), &event) == 0) {
    log_debug("{}: {}", device_, library_.events.event_text(event.event_type));
    switch (event.event_type) {
      case IBV_EVENT_DEVICE_FATAL:
        port_.lose();
        news.any = true;
        break;
      case IBV_EVENT_PORT_ACTIVE:
      case IBV_EVENT_PORT_ERR:
      case IBV_EVENT_LID_CHANGE:
      case IBV_EVENT_GID_CHANGE:
      case IBV_EVENT_CLIENT_REREGISTER:
        news.any = true;
        break;
      default:
        break;
    }
    library_.events.ack_async_event(&event);
  }
  if (!news.any) return news;
  const bool before = active();
  news.came_up = refresh();
  news.went_down = before && !active();
  // Each its own, so that the first of either is told whatever came before.
  if (news.came_up) log_limited(ups_, LogLevel::kInfo, "{}", state_text());
  if (news.went_down) log_limited(downs_, LogLevel::kInfo, "{}", state_text());
  return news;
}

}  // namespace te::rdma
