// What is the same in every report: its head with the style, and the script at its end.
#pragma once

#include <string>

namespace qd {

std::string page_begin(const std::string& escaped_title);   // up to <header>
std::string page_end();                                     // from the script on

}  // namespace qd
