// A list that nearly always holds one: that one lies in it, and costs no allocation.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace te {

template <typename T>
class MostlyOne {
 public:
  bool empty() const { return !any_; }
  T& add(T value) {
    T& place = any_ ? more_.emplace_back() : first_;
    any_ = true;
    place = std::move(value);
    return place;
  }
  // Of an empty one: what T{} is.
  const T& last() const { return more_.empty() ? first_ : more_.back(); }

  template <typename Visit>
  void for_each(Visit&& visit) const {
    if (any_) visit(first_);
    for (const T& each : more_) visit(each);
  }
  // Among those added last, since it is to take no long time. Null: there is none.
  template <typename Wanted>
  T* find_recent(Wanted&& wanted) {
    constexpr size_t kRecent = 8;
    const size_t count = std::min(more_.size(), kRecent);
    for (size_t i = 0; i < count; ++i) {
      T& each = more_[more_.size() - 1 - i];
      if (wanted(each)) return &each;
    }
    return any_ && count < kRecent && wanted(first_) ? &first_ : nullptr;
  }

  void clear() { (void)take(); }
  // All of it; nothing is left here.
  MostlyOne take() {
    MostlyOne all;
    if (!any_) return all;
    all.first_ = std::move(first_);
    all.more_.swap(more_);
    all.any_ = true;
    any_ = false;
    first_ = {};
    return all;
  }

 private:
  T first_{};
  std::vector<T> more_;
  bool any_ = false;
};

}  // namespace te
