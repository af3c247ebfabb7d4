// Base64 with padding, as etcd's JSON carries keys and values.
//
// Threads: any; no state.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace te {

std::string base64_encode(std::string_view bytes);
// Nothing unless `text` is whole groups of the alphabet, padded at the end only.
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace te
