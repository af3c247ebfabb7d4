// SIEVE: whom to let go when there are too many of something. What was used since the hand came by
// last gets another chance; what is new stands where the hand comes last.
//
// One thread at a time.
#pragma once

#include <cstddef>
#include <list>
#include <unordered_map>

namespace te::rdma {

template <typename T>
class Sieve {
 public:
  size_t size() const { return places_.size(); }

  void insert(T* item) {
    entries_.push_front({item, false});
    places_[item] = entries_.begin();
  }
  void erase(T* item) {
    const auto found = places_.find(item);
    if (found == places_.end()) return;
    if (hand_ == found->second) ++hand_;
    entries_.erase(found->second);
    places_.erase(found);
  }
  void used(T* item) {
    if (const auto found = places_.find(item); found != places_.end()) found->second->used = true;
  }
  // The one to let go among those that `may_go`; null when there is none. It stays until erase().
  template <typename MayGo>
  T* victim(MayGo&& may_go) {
    // Twice around: the first may only take marks away.
    for (size_t left = 2 * entries_.size(); left > 0; --left) {
      if (hand_ == entries_.begin()) hand_ = entries_.end();
      auto at = hand_;
      --at;
      hand_ = at;
      if (!may_go(*at->item)) continue;
      if (!at->used) return at->item;
      at->used = false;
    }
    return nullptr;
  }

 private:
  struct Entry {
    T* item;
    bool used;
  };
  std::list<Entry> entries_;  // the newest first
  std::unordered_map<T*, typename std::list<Entry>::iterator> places_;
  // Everything before it is still to be looked at, from the back.
  typename std::list<Entry>::iterator hand_ = entries_.end();
};

}  // namespace te::rdma
