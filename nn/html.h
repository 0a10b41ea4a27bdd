// The letters of a report: text made harmless, bytes as text, numbers as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace qd {

// Any bytes as text of an HTML page or of an attribute in double quotes: & < > " ' as entities, control characters but newline and tab
// as \x1b, broken UTF-8 as U+FFFD.
std::string escaped(std::string_view text);

std::string base64(std::string_view bytes);         // RFC 4648, with padding
std::string picture_uri(std::string_view png);      // data:image/png;base64,...

std::string with_commas(int64_t number);            // 834,304
std::string shown(double value);                    // four digits: 1.872, 21,028, 3.16e-5; a dash where it is not finite
std::string shown_time(double seconds);             // 12.3 s, 4 min 05 s, 2 h 07 min

}  // namespace qd
