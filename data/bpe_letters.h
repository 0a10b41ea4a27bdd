// GPT-2's letters: each byte as one printable character, so that tokens of any bytes can stand in JSON and in lines of text. Radford et
// al. 2019, encoder.py. The printable bytes of Latin-1 stand for themselves, the other 68 become U+0100 to U+0143 in their order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace qd {

uint8_t byte_in_gpt2_order(int32_t id);                                // id 0 to 255: '!' is 0, the last of the 68 is 255
std::string letters_of(std::string_view bytes);                        // UTF-8
std::optional<std::string> bytes_of_letters(std::string_view text);    // nothing where a character is none of the 256

}  // namespace qd
