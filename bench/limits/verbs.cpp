// `te_rdma_limit DEVICE BYTES COUNT`: a plain loop that posts one RDMA WRITE and polls for its
// completion, which comes when the other card has acknowledged it: what one WRITE of the engine is
// held against. Both ends are in this process, on one device, since the target does nothing.
//
// Prints the median in nanoseconds. Exit status 1, and why on stderr, when it cannot. Threads: one.
#include <fmt/core.h>
#include <infiniband/verbs.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace te::bench {
namespace {

constexpr uint32_t kInlined = 220;
constexpr size_t kMemory = 1 << 20;  // that the blocks lie in, one after the other
constexpr int kWarmUp = 500;

[[noreturn]] void give_up(const std::string& what) {
  fmt::print(stderr, "te_rdma_limit: {}\n", what);
  std::_Exit(1);
}

template <typename T>
T* made(T* what, const char* name) {
  if (what == nullptr) give_up(fmt::format("{}: {}", name, std::strerror(errno)));
  return what;
}

void require(int result, const char* what) {
  if (result != 0) give_up(fmt::format("{}: {}", what, std::strerror(result)));
}

// Everything here is left to the end of the process.
class Loop {
 public:
  Loop(const std::string& device, uint32_t bytes)
      : context_(open(device)),
        domain_(made(ibv_alloc_pd(context_), "ibv_alloc_pd")),
        queue_(made(ibv_create_cq(context_, 16, nullptr, nullptr, 0), "ibv_create_cq")),
        source_(kMemory, 'x'),
        target_(kMemory),
        bytes_(bytes) {
    find_address();
    sender_ = make_pair();
    ibv_qp* receiver = make_pair();
    connect(sender_, receiver->qp_num);
    connect(receiver, sender_->qp_num);
    from_ = add(source_);
    to_ = add(target_);
  }

  // Nanoseconds.
  int64_t write_one(size_t number) {
    const size_t at = number % (kMemory / bytes_) * bytes_;
    ibv_sge piece{reinterpret_cast<uint64_t>(source_.data() + at), bytes_, from_->lkey};
    ibv_send_wr request{};
    request.sg_list = &piece;
    request.num_sge = 1;
    request.opcode = IBV_WR_RDMA_WRITE;
    request.send_flags = IBV_SEND_SIGNALED;
    if (bytes_ <= kInlined) request.send_flags |= IBV_SEND_INLINE;
    request.wr.rdma.remote_addr = reinterpret_cast<uint64_t>(target_.data() + at);
    request.wr.rdma.rkey = to_->rkey;
    ibv_send_wr* refused = nullptr;
    const auto begin = std::chrono::steady_clock::now();
    require(ibv_post_send(sender_, &request, &refused), "ibv_post_send");
    ibv_wc completion{};
    int count = 0;
    while (count == 0) count = ibv_poll_cq(queue_, 1, &completion);
    const auto end = std::chrono::steady_clock::now();
    if (count < 0 || completion.status != IBV_WC_SUCCESS) {
      give_up(fmt::format("a WRITE failed: {}", ibv_wc_status_str(completion.status)));
    }
    return (end - begin) / std::chrono::nanoseconds(1);
  }
  bool right() const { return source_ == target_; }

 private:
  static ibv_context* open(const std::string& name) {
    int count = 0;
    ibv_device** devices = made(ibv_get_device_list(&count), "ibv_get_device_list");
    for (int i = 0; i < count; ++i) {
      if (name == ibv_get_device_name(devices[i])) {
        return made(ibv_open_device(devices[i]), "ibv_open_device");
      }
    }
    give_up("there is no device " + name);
  }
  // The last one is the routable one, where there are several.
  void find_address() {
    require(ibv_query_port(context_, 1, &port_), "ibv_query_port");
    const ibv_gid none{};
    for (int index = 0; index < port_.gid_tbl_len; ++index) {
      ibv_gid gid{};
      if (ibv_query_gid(context_, 1, index, &gid) != 0) continue;
      if (std::memcmp(&gid, &none, sizeof gid) == 0) continue;
      gid_ = gid;
      gid_index_ = static_cast<uint8_t>(index);
    }
  }
  ibv_mr* add(std::vector<char>& memory) {
    return made(ibv_reg_mr(domain_, memory.data(), memory.size(),
                           IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE),
                "ibv_reg_mr");
  }
  ibv_qp* make_pair() {
    ibv_qp_init_attr wanted{};
    wanted.qp_type = IBV_QPT_RC;
    wanted.send_cq = wanted.recv_cq = queue_;
    wanted.cap = {16, 1, 1, 1, kInlined};
    ibv_qp* pair = made(ibv_create_qp(domain_, &wanted), "ibv_create_qp");
    ibv_qp_attr attributes{};
    attributes.qp_state = IBV_QPS_INIT;
    attributes.port_num = 1;
    attributes.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
    require(ibv_modify_qp(pair, &attributes,
                          IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS),
            "a queue pair in INIT");
    return pair;
  }
  void connect(ibv_qp* pair, uint32_t to) const {
    ibv_qp_attr attributes{};
    attributes.qp_state = IBV_QPS_RTR;
    attributes.path_mtu = port_.active_mtu;
    attributes.dest_qp_num = to;
    attributes.max_dest_rd_atomic = 1;
    attributes.min_rnr_timer = 12;
    attributes.ah_attr.port_num = 1;
    attributes.ah_attr.dlid = port_.lid;
    attributes.ah_attr.is_global = 1;
    attributes.ah_attr.grh.dgid = gid_;
    attributes.ah_attr.grh.sgid_index = gid_index_;
    attributes.ah_attr.grh.hop_limit = 64;
    require(ibv_modify_qp(pair, &attributes,
                          IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
                              IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER),
            "a queue pair in RTR");
    attributes = {};
    attributes.qp_state = IBV_QPS_RTS;
    attributes.timeout = 14;
    attributes.retry_cnt = attributes.rnr_retry = 6;
    attributes.max_rd_atomic = 1;
    require(ibv_modify_qp(pair, &attributes,
                          IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                              IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC),
            "a queue pair in RTS");
  }

  ibv_context* const context_;
  ibv_pd* const domain_;
  ibv_cq* const queue_;
  std::vector<char> source_, target_;
  const uint32_t bytes_;
  ibv_port_attr port_{};
  ibv_gid gid_{};
  uint8_t gid_index_ = 0;
  ibv_qp* sender_ = nullptr;
  ibv_mr* from_ = nullptr;
  ibv_mr* to_ = nullptr;
};

}  // namespace
}  // namespace te::bench

int main(int count, char** arguments) {
  using namespace te::bench;
  const uint64_t bytes = count == 4 ? std::strtoull(arguments[2], nullptr, 10) : 0;
  const uint64_t writes = count == 4 ? std::strtoull(arguments[3], nullptr, 10) : 0;
  if (bytes == 0 || kMemory % bytes != 0 || writes == 0) {
    give_up("usage: te_rdma_limit DEVICE BYTES COUNT; BYTES a power of two up to 1 MiB");
  }
  Loop loop(arguments[1], static_cast<uint32_t>(bytes));
  for (size_t i = 0; i < kWarmUp; ++i) loop.write_one(i);
  std::vector<int64_t> times;
  for (size_t i = 0; i < std::max(writes, kMemory / bytes); ++i) times.push_back(loop.write_one(i));
  if (!loop.right()) give_up("what was written is not what arrived");
  const auto half = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), half, times.end());
  fmt::print("{}\n", *half);
}
