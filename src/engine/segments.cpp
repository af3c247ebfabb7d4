#include "engine/segments.h"

#include <algorithm>

#include "base/log.h"
#include "base/random.h"
#include "engine/answer.h"
#include "engine/interrupt.h"

namespace te {
namespace {

constexpr size_t kMaxNameSize = 1024;
constexpr uint32_t kGenerationMask = 0xFFFF;

bool valid_utf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t more = lead < 0x80         ? 0
                        : (lead >> 5) == 6  ? 1
                        : (lead >> 4) == 14 ? 2
                        : (lead >> 3) == 30 ? 3
                                            : 4;
    if (more == 4 || i + more >= text.size() + (more == 0 ? 1 : 0)) return false;
    uint32_t code = more == 0 ? lead : lead & (0x3Fu >> more);
    for (size_t k = 1; k <= more; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next >> 6) != 2) return false;
      code = (code << 6) | (next & 0x3F);
    }
    constexpr uint32_t kSmallest[] = {0, 0x80, 0x800, 0x10000};
    if (code < kSmallest[more] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
      return false;
    i += more + 1;
  }
  return true;
}

}  // namespace

Status check_segment_name(std::string_view name) {
  if (name.empty()) return Status(Code::kInvalidArgument, "the segment name is empty");
  if (name.size() > kMaxNameSize) {
    return error(Code::kInvalidArgument, "the segment name has {} bytes: the most is {}",
                 name.size(), kMaxNameSize);
  }
  if (!valid_utf8(name)) {
    return Status(Code::kInvalidArgument, "the segment name is not valid UTF-8 text");
  }
  if (name.find('\0') != std::string_view::npos) {
    return Status(Code::kInvalidArgument, "the segment name has a NUL inside");
  }
  return {};
}

Segment::~Segment() {
  if (!contact) return;
  loop_.run([contact = contact] { contact->close(Status(Code::kCancelled, "it was closed")); });
}

Segments::Segments(uint64_t instance, const Config& config, std::shared_ptr<Directory> directory,
                   Memory& memory, Transports& transports, EventLoop& loop,
                   std::shared_ptr<tls::Identity> identity)
    : instance_(instance),
      directory_(std::move(directory)),
      memory_(memory),
      transports_(transports),
      loop_(loop),
      finder_(loop, directory_),
      site_{loop,
            clients_,
            finder_,
            instance,
            std::chrono::milliseconds(config.connect_timeout_ms),
            std::move(identity)},
      first_generation_(static_cast<uint32_t>(random_u64())) {}

void Segments::stop() {
  if (stopping_.exchange(true)) return;
  std::vector<std::shared_ptr<Segment>> alive;
  {
    ReaderLock lock(mutex_);
    for (const std::weak_ptr<Segment>& weak : alive_) alive.push_back(weak.lock());
  }
  const auto closed = std::make_shared<Answer<bool>>();
  const auto close_all = [this, &alive, closed] {
    const Status why(Code::kCancelled, "the engine ends");
    for (const std::shared_ptr<Segment>& segment : alive) {
      if (segment) segment->contact->close(why);
    }
    clients_.close_all(why);
    closed->set(true);
  };
  if (!loop_.run(close_all)) close_all();
  (void)closed->get();
  finder_.stop();
  installs_.stop();
}

void Segments::set_local_name(std::string name) {
  local_name_ = name;
  WriterLock lock(mutex_);
  slots_.resize(1);
  slots_[0].segment = std::make_shared<Segment>(std::move(name), loop_, nullptr);
  slots_[0].opens = 1;
}

SegmentId Segments::id_of(size_t slot) const {
  if (slot == 0) return kLocalSegment;
  return static_cast<SegmentId>(((slots_[slot].generation & kGenerationMask) << kSlotBits) | slot);
}

// Null where none is open by that id.
const Segments::Slot* Segments::slot_of(SegmentId id) const {
  const size_t slot = slot_number(id);
  const bool open = id >= 0 && slot < slots_.size() && slots_[slot].segment && id_of(slot) == id;
  return open ? &slots_[slot] : nullptr;
}

std::shared_ptr<Segment> Segments::find(SegmentId id) const { return find_for_use(id).segment; }

Submission::Use Segments::find_for_use(SegmentId id) const {
  ReaderLock lock(mutex_);
  const Slot* slot = slot_of(id);
  if (slot == nullptr) return {};
  return {slot->segment, slot->target};
}

std::shared_ptr<Segment> Segments::find(std::string_view name) const {
  ReaderLock lock(mutex_);
  for (const Slot& slot : slots_) {
    if (slot.segment && slot.segment->name == name) return slot.segment;
  }
  return nullptr;
}

std::vector<std::shared_ptr<Segment>> Segments::all() const {
  ReaderLock lock(mutex_);
  std::vector<std::shared_ptr<Segment>> result;
  for (const Slot& slot : slots_) {
    if (slot.segment) result.push_back(slot.segment);
  }
  return result;
}

Result<SegmentId> Segments::open(std::string_view name, bool fresh) {
  TE_RETURN_IF_ERROR(check_segment_name(name));
  std::shared_ptr<Segment> segment;
  {
    WriterLock lock(mutex_);
    for (size_t i = 0; i < slots_.size() && !segment; ++i) {
      if (!slots_[i].segment || slots_[i].segment->name != name) continue;
      if (i == 0) return kLocalSegment;
      if (!fresh) {
        ++slots_[i].opens;
        return id_of(i);
      }
      segment = slots_[i].segment;
    }
  }
  if (!segment) {
    segment = std::make_shared<Segment>(std::string(name), loop_,
                                        std::make_shared<Contact>(site_, std::string(name)));
    WriterLock lock(mutex_);
    std::erase_if(alive_, [](const std::weak_ptr<Segment>& other) { return other.expired(); });
    alive_.push_back(segment);
  }
  if (Status status = refresh_now(segment); !status.ok()) {
    return status.with_context(fmt::format("cannot open segment '{}'", name));
  }
  WriterLock lock(mutex_);
  size_t free = 0;
  for (size_t i = 1; i < slots_.size(); ++i) {
    if (!slots_[i].segment) {
      free = i;
    } else if (slots_[i].segment->name == name) {
      ++slots_[i].opens;  // opened by another thread meanwhile, or before
      return id_of(i);
    }
  }
  if (free == 0) {
    if (slots_.size() >= (1u << kSlotBits)) {
      return error(Code::kBusy, "{} segments are open, the most there can be: close some",
                   slots_.size() - 1);
    }
    free = slots_.size();
    slots_.push_back({nullptr, first_generation_, 0, nullptr});
  }
  Slot& slot = slots_[free];
  ++slot.generation;
  slot.opens = 1;
  slot.target = segment->target();
  slot.segment = std::move(segment);
  return id_of(free);
}

Status Segments::close(SegmentId id) {
  if (id == kLocalSegment) return {};
  Submission::Use closed;  // dies after the lock
  WriterLock lock(mutex_);
  if (slot_of(id) == nullptr) {
    return error(Code::kNotFound, "there is no open segment with id {}", id);
  }
  Slot& slot = slots_[slot_number(id)];
  if (--slot.opens > 0) return {};
  closed.segment.swap(slot.segment);
  closed.target.swap(slot.target);
  return {};
}

// A connection that looked usable may turn out to be dead: then once more with a fresh one.
void Segments::describe(const std::shared_ptr<Segment>& segment, bool again,
                        const Refreshed& refreshed) {
  if (stopping_.load()) return refreshed(Status(Code::kCancelled, "the engine ends"));
  segment->contact->get([this, segment, again,
                         refreshed](Result<std::shared_ptr<ControlClient>> found) {
    if (!found.ok()) return refreshed(found.status());
    const std::shared_ptr<ControlClient> client = found.take();
    const std::shared_ptr<const Target> known = segment->target();
    bool same = known && known->descriptor.instance == client->peer_instance();
    for (size_t i = 0; same && i < known->paths.size(); ++i) same = !known->paths[i]->over();
    ByteWriter body;
    body.number(same ? known->descriptor.generation : uint64_t{0});
    client->call(wire::ControlType::kDescribe, body.take(), kNever, [=, this](Result<Bytes> bytes) {
      described(segment, client, same, again, std::move(bytes), refreshed);
    });
  });
}

void Segments::described(const std::shared_ptr<Segment>& segment,
                         const std::shared_ptr<ControlClient>& client, bool same, bool again,
                         Result<Bytes> bytes, const Refreshed& refreshed) {
  if (!bytes.ok()) {
    if (again && !client->usable()) return describe(segment, false, refreshed);
    return refreshed(bytes.status());
  }
  if (bytes->empty()) {
    if (!same) return refreshed(Status(Code::kProtocol, "the peer does not describe itself"));
    return refreshed({});
  }
  const auto body = std::make_shared<const Bytes>(bytes.take());
  const auto install_it = [this, segment, body, instance = client->peer_instance(), refreshed] {
    refreshed(take(*segment, instance, *body));
  };
  if (!installs_.run(install_it)) refreshed(Status(Code::kCancelled, "the engine ends"));
}

Status Segments::take(Segment& segment, uint64_t instance, const Bytes& bytes) {
  Result<Descriptor> descriptor = Descriptor::decode(bytes);
  if (!descriptor.ok()) return descriptor.status();
  if (descriptor->instance != instance) {
    return Status(Code::kProtocol, "the peer describes another engine than itself");
  }
  MutexLock installing(segment.installing_);
  const std::shared_ptr<const Target> known = segment.target();
  // Answers to two questions may come here in the wrong order.
  if (known && known->descriptor.instance == instance &&
      known->descriptor.generation > descriptor->generation) {
    return {};
  }
  install(segment, descriptor.take());
  return {};
}

void Segments::install(Segment& segment, Descriptor descriptor) {
  const std::shared_ptr<const Target> previous = segment.target();
  auto target = std::make_shared<Target>();
  target->segment = segment.name;
  target->descriptor = std::move(descriptor);
  Peer peer;
  peer.instance = target->descriptor.instance;
  peer.self = peer.instance == instance_;
  if (segment.contact) peer.address = segment.contact->address();
  const bool same_peer = previous && previous->descriptor.instance == peer.instance;
  transports_.make_paths(peer, previous.get(), same_peer, *target);
  {
    MutexLock lock(segment.mutex_);
    if (previous && !same_peer) segment.restarted_ns_ = now_ns();
    segment.target_ = target;
  }
  WriterLock lock(mutex_);
  for (Slot& slot : slots_) {
    if (slot.segment.get() == &segment) slot.target = target;
  }
}

void Segments::refresh(const std::shared_ptr<Segment>& segment, Refreshed refreshed) {
  if (segment->self) {
    refresh_self(*segment);
    return refreshed({});
  }
  const auto shared = std::make_shared<Refreshed>(std::move(refreshed));
  const bool taken = loop_.run([this, segment, shared] { describe(segment, true, *shared); });
  if (!taken) (*shared)(Status(Code::kCancelled, "the engine ends"));
}

Status Segments::refresh_now(const std::shared_ptr<Segment>& segment) {
  const auto answer = std::make_shared<Answer<Status>>();
  refresh(segment, [answer](Status status) { answer->set(std::move(status)); });
  return get_unless_interrupted(*answer).value_or(interrupted_call());
}

Status Segments::refresh_now(const std::vector<std::shared_ptr<Segment>>& segments) {
  std::vector<std::shared_ptr<Answer<Status>>> answers;
  for (const std::shared_ptr<Segment>& segment : segments) {
    answers.push_back(std::make_shared<Answer<Status>>());
    refresh(segment, [answer = answers.back()](Status status) { answer->set(std::move(status)); });
  }
  Status first;
  for (size_t i = 0; i < segments.size(); ++i) {
    const Status status = get_unless_interrupted(*answers[i]).value_or(interrupted_call());
    if (first.ok() && !status.ok()) {
      first = status.with_context(fmt::format("segment '{}'", segments[i]->name));
    }
  }
  return first;
}

void Segments::refresh_self(Segment& segment) {
  const std::shared_ptr<const Target> known = segment.target();
  if (known && known->descriptor.generation == memory_.generation()) return;
  MutexLock installing(segment.installing_);
  install(segment, *memory_.descriptor());
}

bool Segments::reach_peers() const {
  for (const std::shared_ptr<Transport>& transport : transports_.installed()) {
    if (!transport->capabilities().same_engine_only) return true;
  }
  return false;
}

void Segments::rebuild_all() {
  for (const std::shared_ptr<Segment>& segment : all()) {
    if (segment->self) {
      if (segment->target()) refresh_self(*segment);
      continue;
    }
    MutexLock installing(segment->installing_);
    if (const std::shared_ptr<const Target> known = segment->target()) {
      install(*segment, known->descriptor);
    }
  }
}

std::shared_ptr<Segment> Segments::behind(uint64_t instance) const {
  std::vector<std::shared_ptr<Segment>> held;  // one may die here: not under the lock
  ReaderLock lock(mutex_);
  for (const std::weak_ptr<Segment>& weak : alive_) {
    held.push_back(weak.lock());
    if (held.back() && held.back()->locator().instance == instance) return held.back();
  }
  return nullptr;
}

void Segments::call_once(const std::shared_ptr<Segment>& segment, wire::ControlType type,
                         const Bytes& body, uint64_t instance, bool again,
                         const Answered& answered) {
  if (stopping_.load()) return answered(Status(Code::kCancelled, "the engine ends"));
  segment->contact->get([=, this](Result<std::shared_ptr<ControlClient>> found) {
    if (!found.ok()) return answered(found.status());
    const std::shared_ptr<ControlClient> client = found.take();
    if (instance != 0 && client->peer_instance() != instance) {
      return answered(error(Code::kStale, "{}: another run of the engine is there now",
                            client->address().to_string()));
    }
    client->call(type, body, kNever, [=, this](Result<Bytes> answer) {
      if (answer.ok() || client->usable() || !again) return answered(std::move(answer));
      call_once(segment, type, body, instance, false, answered);
    });
  });
}

void Segments::call(std::shared_ptr<Segment> segment, wire::ControlType type, Bytes body,
                    uint64_t instance, Answered answered) {
  const auto shared = std::make_shared<Answered>(std::move(answered));
  const bool taken =
      loop_.run([this, segment = std::move(segment), type, body = std::move(body), instance,
                 shared] { call_once(segment, type, body, instance, true, *shared); });
  if (!taken) (*shared)(Status(Code::kCancelled, "the engine ends"));
}

Result<Segments::Probe> Segments::probe(std::string_view name, wire::ControlType type,
                                        const Bytes& body, size_t rounds) {
  TE_RETURN_IF_ERROR(check_segment_name(name));
  const int64_t begin_ns = now_ns();
  Result<Finder::Place> place = Finder::find_now(*directory_, std::string(name));
  if (!place.ok()) return place.status();
  // The times are taken on the loop, or they would contain the way to this thread.
  struct Prober : std::enable_shared_from_this<Prober> {
    std::shared_ptr<ControlClient> client;
    wire::ControlType type;
    Bytes body;
    size_t rounds;
    Probe probe;
    Answer<Status> answer;

    void end(const Status& status) {
      if (client) client->close(Status(Code::kCancelled, "it is not needed"));
      answer.set(status);
    }
    void next() {
      if (probe.rounds_ns.size() == rounds) return end({});
      client->call(type, body, kNever,
                   [self = shared_from_this(), sent_ns = now_ns()](Result<Bytes> bytes) {
                     if (!bytes.ok()) return self->end(bytes.status());
                     self->probe.rounds_ns.push_back(now_ns() - sent_ns);
                     self->probe.last_answer = bytes.take();
                     self->next();
                   });
    }
  };
  const auto prober = std::make_shared<Prober>();
  prober->type = type;
  prober->body = body;
  prober->rounds = rounds;
  const bool taken = loop_.run([this, prober, begin_ns, place = place.take()] {
    if (stopping_.load()) return prober->end(Status(Code::kCancelled, "the engine ends"));
    prober->client =
        ControlClient::connect(loop_, clients_, place.addresses,
                               {instance_, place.locator.instance, site_.timeout, site_.identity},
                               [prober, begin_ns](const Status& status) {
                                 if (!status.ok()) return prober->end(status);
                                 prober->probe.connect_ns = now_ns() - begin_ns;
                                 prober->next();
                               });
  });
  if (!taken) return Status(Code::kCancelled, "the engine ends");
  const std::optional<Status> ended = get_unless_interrupted(prober->answer);
  if (!ended) {
    loop_.run([prober] { prober->end(interrupted_call()); });
    return interrupted_call();
  }
  TE_RETURN_IF_ERROR(*ended);
  return std::move(prober->probe);
}

}  // namespace te
