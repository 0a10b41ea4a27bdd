#include "core/error.h"

namespace qd {

void fail(const std::string& where, const std::string& message, const std::string& hint) {
  throw Error("[" + where + "] " + message, hint);
}

}  // namespace qd
