#include "core/ambiguity.h"

#include <algorithm>

namespace te {
namespace {

// Each growth makes the keys of other buffers change, so a heap that is registered piece by piece
// soon counts in larger steps: from a page up to 1 GiB, twice as much after every 8.
uint64_t granule(uint32_t growths) { return uint64_t{4096} << std::min(growths / 8, 18u); }

std::vector<NumberRange> below(const std::vector<NumberRange>& ranges, uint64_t end) {
  std::vector<NumberRange> result;
  for (const NumberRange& range : ranges) {
    if (range.begin < end) result.push_back({range.begin, std::min(range.end, end)});
  }
  return result;
}

// `all` without `known`, which is part of it.
std::vector<NumberRange> without(const std::vector<NumberRange>& all,
                                 const std::vector<NumberRange>& known) {
  std::vector<NumberRange> result;
  auto next = known.begin();
  for (NumberRange range : all) {
    for (; next != known.end() && next->begin < range.end; ++next) {
      if (range.begin < next->begin) result.push_back({range.begin, next->begin});
      range.begin = next->end;
    }
    if (range.begin < range.end) result.push_back(range);
  }
  return result;
}

}  // namespace

bool contains(const std::vector<NumberRange>& ranges, uint64_t number) {
  return overlaps(ranges, number, number + 1);
}

bool overlaps(const std::vector<NumberRange>& ranges, uint64_t begin, uint64_t end) {
  const auto found =
      std::upper_bound(ranges.begin(), ranges.end(), begin,
                       [](uint64_t value, const NumberRange& range) { return value < range.end; });
  return found != ranges.end() && found->begin < end;
}

Ambiguity::Ambiguity() { addresses_.reserve(kMaxRanges + 1); }

// `ranges` has room for one more.
void Ambiguity::insert(std::vector<NumberRange>& ranges, NumberRange range) {
  const auto first =
      std::lower_bound(ranges.begin(), ranges.end(), range.begin,
                       [](const NumberRange& a, uint64_t value) { return a.end < value; });
  auto last = first;
  for (; last != ranges.end() && last->begin <= range.end; ++last) {
    range.begin = std::min(range.begin, last->begin);
    range.end = std::max(range.end, last->end);
  }
  if (first == last) {
    ranges.insert(first, range);
  } else {
    *first = range;
    ranges.erase(first + 1, last);
  }
}

void Ambiguity::limit(std::vector<NumberRange>& ranges, uint64_t layout_end) const {
  if (ranges.size() <= kMaxRanges) return;
  size_t merged = ranges.size() - 2;  // with the one behind it
  if (ranges[merged].begin < layout_end) {
    for (size_t i = 0; i + 1 < ranges.size(); ++i) {
      if (ranges[i + 1].begin - ranges[i].end < ranges[merged + 1].begin - ranges[merged].end) {
        merged = i;
      }
    }
  }
  ranges[merged].end = ranges[merged + 1].end;
  ranges.erase(ranges.begin() + static_cast<ptrdiff_t>(merged) + 1);
}

std::vector<NumberRange> Ambiguity::add(uint64_t address, uint64_t length, uint64_t layout_end) {
  const uint64_t step = granule(growths_);
  const uint64_t end = std::max(end_, layout_end);
  NumberRange range{address / step * step, address + length};
  const uint64_t over = range.end % step;
  if (over != 0) range.end += std::min(step - over, UINT64_MAX - range.end);
  const uint64_t lowest =
      addresses_.empty() ? range.begin : std::min(range.begin, addresses_.front().begin);
  if (lowest >= end) {  // the usual case: all addresses are above all offsets
    insert(addresses_, range);
    limit(addresses_, end);
    end_ = end;
    return {};
  }
  std::vector<NumberRange> addresses;
  addresses.reserve(kMaxRanges + 1);
  addresses = addresses_;
  insert(addresses, range);
  limit(addresses, end);
  std::vector<NumberRange> grown = without(below(addresses, end), ranges());
  addresses_.swap(addresses);
  end_ = end;
  if (!grown.empty()) ++growths_;
  return grown;
}

std::vector<NumberRange> Ambiguity::ranges() const { return below(addresses_, end_); }

}  // namespace te
